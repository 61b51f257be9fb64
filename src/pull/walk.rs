//! The walk over all pins, once a day: what a pin needs and is not held is held, or fetched again;
//! what nobody needs any more is let go.
//!
//! It is slow on purpose, and looks at one tag after the other. It heals whatever a restart, a full
//! cache, an upstream that was down or a lost file left undone.

mod wants;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asking::Origin;
use super::closure::{Closure, Gap, Scope};
use super::idle::{Idle, LetGo};
use super::refusal::Reason;
use super::retain::Need;
use super::whole::is_contested;
use super::{Pull, Way, canary};
use crate::config::Credentials;
use crate::ledger::{LedgerError, RETRY_AFTER, StoredManifest};
use crate::oci::{Digest, Registry};
use crate::pin::{PinKey, TagState};
use wants::Wants;

/// How long from one walk to the next; up to a tenth more, so that many processes do not ask their
/// upstreams at once.
const EACH: Duration = Duration::from_hours(24);

/// How often the store is asked what it lost.
const WATCH: Duration = Duration::from_mins(1);

/// How long a walk that something asked for waits: more may be lost, or changed.
const GATHER: Duration = Duration::from_secs(2);

/// How many tags are read from the ledger at once.
const PAGE: usize = 200;

/// After each tag it rests so many times as long as it took, but not longer than [`REST_LIMIT`].
const REST: u32 = 4;

/// The longest rest.
const REST_LIMIT: Duration = Duration::from_secs(1);

/// What one walk came to.
#[derive(Default)]
struct Walk {
    idle: Idle,
    pins: u64,
    held: u64,
    fetched: u64,
    missing: u64,
    /// The cache takes nothing more: nothing is fetched in this walk.
    is_full: bool,
    /// Upstreams that failed in this walk: they are not asked again in it.
    spent: HashSet<Registry>,
}

impl Pull {
    /// Looks after what pins keep, for as long as the process runs.
    pub async fn retain(self: Arc<Self>) {
        Arc::clone(&self).resume_completions().await;
        loop {
            self.walk().await;
            let random = RandomState::new().hash_one(0_u8);
            let until_next = EACH + EACH / 1000 * u32::try_from(random % 100).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(until_next) => {}
                () = self.watch_losses() => {}
                () = self.memory.wants_walk.notified() => tokio::time::sleep(GATHER).await,
            }
        }
    }

    /// Waits until held content was found damaged or deleted.
    async fn watch_losses(&self) {
        loop {
            tokio::time::sleep(WATCH).await;
            if !self.edges.store.take_lost().is_empty() {
                return self.memory.held.invalidate_all();
            }
        }
    }

    /// Something stored was lost or damaged and removed: what a pin needs of it is fetched again.
    pub(super) fn content_lost(&self) {
        self.memory.held.invalidate_all();
        self.memory.wants_walk.notify_one();
    }

    /// Walks over all pins once.
    pub async fn walk(self: &Arc<Self>) {
        let begun = Instant::now();
        let mut walk = Walk { idle: self.find_idle().await, ..Walk::default() };
        if let Err(error) = self.tend_all(&mut walk).await {
            tracing::warn!(%error, "the walk over the pins ended early: the ledger gives no list");
            return;
        }
        let LetGo { blobs, bytes } = self.let_idle_go(std::mem::take(&mut walk.idle)).await;
        let Walk { pins, held, fetched, missing, .. } = walk;
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.edges.metrics.retention.walks.inc();
        tracing::info!(
            pins,
            held,
            fetched,
            missing,
            let_go = blobs,
            let_go_bytes = bytes,
            duration_ms,
            "looked after what pins keep"
        );
    }

    async fn tend_all(self: &Arc<Self>, walk: &mut Walk) -> Result<(), LedgerError> {
        let mut after: Option<PinKey> = None;
        loop {
            let page = match self.edges.ledger.list(after.as_ref(), PAGE).await {
                Err(LedgerError::Rebuilding) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                page => page?,
            };
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, state) in &page {
                let begun = Instant::now();
                self.tend(key, state, walk).await;
                tokio::time::sleep((begun.elapsed() * REST).min(REST_LIMIT)).await;
            }
        }
    }

    async fn tend(self: &Arc<Self>, key: &PinKey, state: &TagState, walk: &mut Walk) {
        let Some(pin) = &state.pin else { return };
        if key.registry.as_str() == canary::REGISTRY {
            return;
        }
        walk.pins += 1;
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        let manifest = self.load_pinned(pin).await;
        let (Some(upstream), Some(manifest)) = (upstream, manifest) else {
            walk.idle.has_a_blank();
            return;
        };
        let origin = Origin { upstream, repository: key.repository.clone(), credential: None };
        let closure = Arc::new(self.closure(&origin, &manifest, Scope::Kept).await);
        let is_covered = matches!(self.decide(key), Way::Covered(_));
        let with_layers = self.keeps_layers(key);
        let wants = self.wants(&origin, &closure, with_layers).await;
        let is_whole = is_contested(state) || self.is_retained_whole(key);
        let keeps = |digest: &Digest| is_whole || wants.core.contains(digest);
        note_needs(&mut walk.idle, &origin, &manifest, &closure, keeps);
        if !wants.lost.is_empty() {
            walk.idle.has_a_blank();
        }
        if is_covered {
            self.hold_link_later(&origin, &manifest);
            self.hold_wanted(&origin, &closure, &wants.hold, walk).await;
            self.fetch_wanted(&origin, wants, walk).await;
            if self.is_retained_whole(key) && self.may_fetch(&origin, walk) {
                let _room = self.room(&origin, Need::Platforms).acquire_owned().await;
                let gap = self.complete(&origin, pin).await;
                self.note(&origin, Need::Platforms, gap, walk);
            }
        }
    }

    async fn hold_wanted(
        self: &Arc<Self>,
        origin: &Origin,
        closure: &Closure,
        wanted: &[Digest],
        walk: &mut Walk,
    ) {
        for digest in wanted {
            let manifest = closure.manifests.iter().find(|it| it.content.digest == *digest);
            let held = match manifest {
                Some(manifest) => self.hold_manifest(origin, manifest.clone()).await,
                None => self.hold_now(origin, *digest).await,
            };
            walk.held += u64::from(held.is_ok());
        }
    }

    async fn fetch_wanted(self: &Arc<Self>, origin: &Origin, wants: Wants, walk: &mut Walk) {
        for digest in wants.lost {
            if !self.may_fetch(origin, walk) {
                return;
            }
            let found = self.stored_or_fetched(origin, digest).await;
            let held = match found {
                Ok(manifest) => self.hold_manifest(origin, manifest).await,
                Err(why) => Err(Gap { digest, why }),
            };
            self.note(origin, Need::Lost, held.err(), walk);
        }
        for (blob, need) in wants.fetch {
            if !self.may_fetch(origin, walk) {
                return;
            }
            let _room = self.room(origin, need).acquire_owned().await;
            let held = if need == Need::Config {
                self.keep_config(origin, blob).await
            } else {
                self.hold_blob(origin, blob).await
            };
            self.note(origin, need, held.err(), walk);
        }
    }

    fn may_fetch(&self, origin: &Origin, walk: &Walk) -> bool {
        let upstream = &origin.upstream;
        // With nobody's credentials an upstream that takes the clients' own may say anything.
        !walk.is_full
            && !walk.spent.contains(&upstream.name)
            && upstream.config.credentials != Credentials::Client
            && !self.is_offline(upstream)
    }

    fn note(&self, origin: &Origin, need: Need, gap: Option<Gap>, walk: &mut Walk) {
        let Some(gap) = gap else {
            if need != Need::Platforms {
                walk.fetched += 1;
                self.tell_retained(&origin.repository, need, None);
            }
            return;
        };
        walk.missing += 1;
        self.tell_retained(&origin.repository, need, Some(&gap));
        match gap.why.reason {
            Reason::Overloaded => walk.is_full = true,
            Reason::UpstreamRateLimited | Reason::UpstreamTimeout | Reason::UpstreamUnavailable => {
                walk.spent.insert(origin.upstream.name.clone());
            }
            _ => {}
        }
    }
}

/// What of idle content a pin needs: for ever what it `keeps`, else as long as its upstream does not
/// have it.
fn note_needs(
    idle: &mut Idle,
    origin: &Origin,
    root: &StoredManifest,
    closure: &Closure,
    keeps: impl Fn(&Digest) -> bool,
) {
    let manifests = closure.manifests.iter().chain([root]);
    manifests.for_each(|manifest| idle.keep(&manifest.content.digest));
    for blob in &closure.blobs {
        if keeps(&blob.digest) {
            idle.keep(&blob.digest);
        } else {
            idle.need(origin, &blob.digest);
        }
    }
}
