//! When a tag moves or vanishes, its pin's content is completed at once and kept: the upstream may
//! soon have it no more. With `retain = "all-platforms"` every pin's is, in its turn.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::asking::Origin;
use super::closure::{Closure, Gap, Named, Scope};
use super::filling::Filling;
use super::refusal::{Reason, Refusal};
use super::retain::Need;
use super::whole::is_contested;
use super::{Pull, Way};
use crate::blob::BlobError;
use crate::config::Credentials;
use crate::ledger::{LedgerError, RETRY_AFTER, StoredManifest};
use crate::oci::Digest;
use crate::pin::{Pin, PinKey, TagState};

/// How many tags are read from the ledger at once.
const PAGE: usize = 200;

/// How many blobs of one tag are fetched at once.
const BLOBS_AT_ONCE: usize = 2;

impl Pull {
    /// Goes on with the completions that the last process may have left undone: something stood
    /// against these pins, and nobody may ask for them before the upstream has their content no
    /// more.
    pub async fn resume_completions(self: Arc<Self>) {
        let mut after: Option<PinKey> = None;
        loop {
            let page = match self.edges.ledger.list(after.as_ref(), PAGE).await {
                Ok(page) => page,
                Err(LedgerError::Rebuilding) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "no completion is resumed: the ledger gives no list");
                    return;
                }
            };
            let Some((last, _)) = page.last() else { return };
            after = Some(last.clone());
            for (key, state) in &page {
                self.resume_completion(key, state);
                self.forget_canary(key, state).await;
            }
        }
    }

    fn resume_completion(self: &Arc<Self>, key: &PinKey, state: &TagState) {
        let Some(pin) = state.pin.as_ref().filter(|_| is_contested(state)) else { return };
        let settings = self.settings.load();
        let Some(upstream) = settings.upstreams.locate(&key.registry) else { return };
        // With nobody's credentials an upstream that takes the clients' own may say anything.
        let is_askable = !settings.offline && upstream.config.credentials != Credentials::Client;
        if is_askable && matches!(self.decide(key), Way::Covered(_)) {
            let repository = key.repository.clone();
            let origin = Origin { upstream, repository, credential: None };
            self.complete_later(&origin, key, pin, Need::Contested);
        }
    }

    /// Fetches and holds whatever of a pin is not held yet, off the path; at most once in ten
    /// minutes for the same pin.
    pub(super) fn complete_later(
        self: &Arc<Self>,
        origin: &Origin,
        key: &PinKey,
        pin: &Pin,
        need: Need,
    ) {
        if self.is_offline(&origin.upstream) {
            return;
        }
        let begun = self.memory.completed.entry((key.clone(), pin.sequence, need)).or_insert(());
        if !begun.is_fresh() {
            return;
        }
        let Some(chore) = self.chore(need) else { return };
        let (pull, origin, key, pin) = (Arc::clone(self), origin.clone(), key.clone(), pin.clone());
        tokio::spawn(async move {
            let room = pull.room(&origin, need).acquire_owned().await;
            let begun = Instant::now();
            let gap = pull.complete(&origin, &pin).await;
            drop((room, chore));
            match need {
                Need::Contested => pull.tell_completed(&key, &pin, gap.as_ref(), begun),
                _ => pull.tell_retained(&key, need, gap.as_ref()),
            }
        });
    }

    /// The first thing that could not be had; everything else is held all the same.
    pub(super) async fn complete(self: &Arc<Self>, origin: &Origin, pin: &Pin) -> Option<Gap> {
        let digest = pin.content.digest;
        let manifest = match self.load_pinned(pin).await {
            Some(manifest) => manifest,
            None => match self.stored_or_fetched(origin, digest).await {
                Ok(manifest) => StoredManifest { content: pin.content.clone(), ..manifest },
                Err(why) => return Some(Gap { digest, why }),
            },
        };
        let Closure { manifests, blobs, mut gaps, .. } =
            self.closure(origin, &manifest, Scope::All).await;
        for manifest in manifests {
            gaps.extend(self.hold_manifest(origin, manifest).await.err());
        }
        let holding = stream::iter(blobs).map(|blob| self.hold_blob(origin, blob));
        let held: Vec<_> = holding.buffer_unordered(BLOBS_AT_ONCE).collect().await;
        gaps.extend(held.into_iter().filter_map(Result::err));
        gaps.into_iter().next()
    }

    pub(super) async fn hold_manifest(
        self: &Arc<Self>,
        origin: &Origin,
        manifest: StoredManifest,
    ) -> Result<(), Gap> {
        let digest = manifest.content.digest;
        let store = Arc::clone(&self.edges.store);
        // Memory may be all that still has it, or has it right.
        let put = move || match store.keep_if_sound(&digest) {
            Ok(true) => Ok(()),
            _ => store.put(&digest, &manifest.bytes),
        };
        let stored = tokio::task::spawn_blocking(put).await;
        stored.unwrap_or(Ok(())).map_err(|error| not_stored(digest, &error))?;
        self.hold_now(origin, digest).await
    }

    /// Holds a blob; one that is not here is fetched.
    pub(super) async fn hold_blob(
        self: &Arc<Self>,
        origin: &Origin,
        blob: Named,
    ) -> Result<(), Gap> {
        let digest = blob.digest;
        let fetch = || self.fetch_blob(origin, digest);
        let is_absent = !self.absent(origin, &[blob]).await.is_empty();
        if is_absent {
            fetch().await.map_err(|why| Gap { digest, why })?;
        }
        match self.hold_now(origin, digest).await {
            // Evicted, or let go, since it was looked at.
            Err(_) if !is_absent => {
                fetch().await.map_err(|why| Gap { digest, why })?;
                self.hold_now(origin, digest).await
            }
            held => held,
        }
    }

    pub(super) async fn fetch_blob(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Result<(), Refusal> {
        if self.open_stored(digest).await.is_some() {
            // The bytes are here, by another repository.
            return self.vouch(origin, digest).await;
        }
        Filling { pull: Arc::clone(self), origin: origin.clone(), digest }.complete().await
    }

    pub(super) async fn hold_now(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Result<(), Gap> {
        let (pull, origin) = (Arc::clone(self), origin.clone());
        let holding = move || pull.hold(&origin.upstream.name, &origin.repository, digest);
        let held = tokio::task::spawn_blocking(holding).await;
        let stopping = || Err(io::Error::other("the process is stopping"));
        held.unwrap_or_else(|_| stopping()).map_err(|error| not_stored(digest, &error.into()))
    }

    fn tell_completed(&self, key: &PinKey, pin: &Pin, gap: Option<&Gap>, begun: Instant) {
        let outcome = if gap.is_none() { "complete" } else { "incomplete" };
        self.edges.metrics.completions.with_label_values(&[outcome]).inc();
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pinned = pin.content.digest;
        match gap {
            None => tracing::info!(%key, %pinned, duration_ms, "all of the pin's content is held"),
            Some(Gap { digest, why }) => tracing::error!(%key, %pinned, %digest, duration_ms,
                why = %why.message, "the pin's content is not held whole: it may be lost upstream"),
        }
    }
}

fn not_stored(digest: Digest, error: &BlobError) -> Gap {
    let why = Refusal::new(Reason::PinnedContentGone, format!("it could not be kept: {error}"));
    Gap { digest, why }
}
