//! What changed at a tag, as far as a few requests tell: by digest only, bounded in number, bytes
//! and time. A hint for whoever decides; nothing is served, pinned or refused by it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::Pull;
use super::asking::Origin;
use super::hint::apart;
use crate::config::Credentials;
use crate::ledger::StoredManifest;
use crate::oci::{Digest, ManifestKind, MediaType};
use crate::pin::{Content, PinKey, TagState};
use crate::policy::judge::is_young;
use crate::triage::{CONFIG_LIMIT, Case, Material, Side, Triage, Wanted, compare, wanted};
use crate::upstream::Method;

/// How long all of it may take, when a person waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// And for an alert, which waits for it, as do those behind it.
const DEADLINE_OF_ALERTS: Duration = Duration::from_secs(4);

/// How much is asked for at once.
const AT_ONCE: usize = 4;

/// Manifests, then configs.
const ROUNDS: usize = 2;

/// For whom something is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// An alert: briefly, and with nothing of an upstream's limit that clients may need.
    Alert,
    /// A person who asked for it.
    Person,
}

/// Where things are looked for, and until when.
pub(super) struct Search {
    origin: Option<Origin>,
    /// Whether the upstream may be asked, too.
    may_ask: bool,
    pub(super) until: Instant,
}

impl Search {
    /// Where the upstream may be asked.
    pub(super) fn askable(&self) -> Option<&Origin> {
        self.origin.as_ref().filter(|_| self.may_ask)
    }
}

impl Pull {
    /// Compares two manifests of a tag: what they list, a few images below them with their configs,
    /// and what is attached to them. All that is fetched is fetched by digest and hashed; what is
    /// not to be had in 20 s (4 s for an alert), or with nobody's credentials from an upstream that takes the
    /// clients' own, is told as not looked at.
    ///
    /// `None` if one of the two manifests is not to be had: then nothing can be said.
    pub async fn explain(
        self: &Arc<Self>,
        key: &PinKey,
        before: Digest,
        after: Digest,
        reader: Reader,
    ) -> Option<Triage> {
        // On the heap: whoever asks need not carry all of it.
        Box::pin(self.look_into(self.search(key, reader), key, before, after)).await
    }

    async fn look_into(
        self: &Arc<Self>,
        search: Search,
        key: &PinKey,
        before: Digest,
        after: Digest,
    ) -> Option<Triage> {
        let state = self.edges.ledger.state(key).await.ok().flatten().unwrap_or_default();
        let [before, after] = [before, after].map(|digest| self.root(&search, &state, digest));
        let (before, after) = tokio::join!(before, after);
        let (before, after) = (before?, after?);
        let attached = self.signatures(&search, before.content.digest, after.content.digest);
        let gathering = self.all_wanted(&search, &before, &after);
        let (material, signatures) = tokio::join!(gathering, attached);
        let material = material?;
        let now_ms = self.edges.clock.wall_ms();
        let mut pins = state.pin.iter().filter(|pin| pin.content == before.content);
        let is_young = pins.any(|pin| is_young(pin, now_ms));
        let comparing = move || {
            compare(&Case {
                before: side(&before),
                after: side(&after),
                material: &material,
                signatures: signatures.as_ref(),
                is_young,
                now_ms,
            })
        };
        apart(comparing).await
    }

    /// What lies below both and is to be had.
    async fn all_wanted(
        self: &Arc<Self>,
        search: &Search,
        before: &StoredManifest,
        after: &StoredManifest,
    ) -> Option<Material> {
        let mut material = Material::default();
        for _ in 0..ROUNDS {
            let (before, after) = (before.clone(), after.clone());
            let reading = move || {
                let missing = wanted(side(&before), side(&after), &material);
                (missing, material)
            };
            let missing;
            (missing, material) = apart(reading).await?;
            self.gather(search, missing, &mut material).await;
        }
        Some(material)
    }

    fn search(&self, key: &PinKey, reader: Reader) -> Search {
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        let repository = key.repository.clone();
        let origin = upstream.map(|upstream| Origin { upstream, repository, credential: None });
        // With nobody's credentials an upstream that takes the clients' own may say anything.
        let may_ask = origin.as_ref().is_some_and(|origin| {
            let upstream = &origin.upstream;
            let is_spared = reader == Reader::Alert && upstream.reserved_for().is_some();
            let takes_ours = upstream.config.credentials != Credentials::Client;
            takes_ours && !is_spared && !self.is_offline(upstream)
        });
        let within = match reader {
            Reader::Alert => DEADLINE_OF_ALERTS,
            Reader::Person => DEADLINE,
        };
        Search { origin, may_ask, until: Instant::now() + within }
    }

    /// A manifest that the tag stood for, called what the ledger calls it.
    async fn root(
        self: &Arc<Self>,
        search: &Search,
        state: &TagState,
        digest: Digest,
    ) -> Option<StoredManifest> {
        let known = state.standing().filter(|pin| pin.content.digest == digest);
        let seen = state.seen(&digest).map(|seen| &seen.content);
        let content = known.map(|pin| &pin.content).or(seen).cloned();
        let media_type = content.map(|content| content.media_type);
        self.manifest_for(search, digest, media_type).await
    }

    /// From memory, ledger or store, else from the upstream by digest.
    async fn manifest_for(
        self: &Arc<Self>,
        search: &Search,
        digest: Digest,
        media_type: Option<MediaType>,
    ) -> Option<StoredManifest> {
        let named = |manifest: StoredManifest| {
            let media_type = media_type.clone().unwrap_or(manifest.content.media_type);
            let content = Content { media_type, ..manifest.content };
            StoredManifest { content, bytes: manifest.bytes }
        };
        if let Some(manifest) = self.memory.manifests.get(&digest) {
            return Some(named(manifest));
        }
        let reading = timeout_at(search.until, self.edges.ledger.manifest(&digest)).await;
        if let Ok(Ok(Some(manifest))) = reading {
            return Some(named(manifest));
        }
        let guess = media_type.clone().unwrap_or_else(|| ManifestKind::OciManifest.into());
        if let Some(manifest) = self.load_stored(&digest, guess).await
            && media_type.is_some()
        {
            return Some(named(manifest));
        }
        let origin = search.askable()?;
        let fetching = self.stored_or_fetched(origin, digest);
        timeout_at(search.until, fetching).await.ok()?.ok().map(named)
    }

    async fn gather(
        self: &Arc<Self>,
        search: &Search,
        missing: Vec<Wanted>,
        material: &mut Material,
    ) {
        let fetching = stream::iter(missing).map(|one| async move {
            let bytes = if one.is_config {
                self.config_for(search, one.digest).await
            } else {
                let media_type = Some(one.media_type.clone());
                self.manifest_for(search, one.digest, media_type).await.map(|it| it.bytes)
            };
            (one, bytes)
        });
        let mut fetched = std::pin::pin!(fetching.buffer_unordered(AT_ONCE));
        while let Some((one, bytes)) = fetched.next().await {
            if let Some(bytes) = bytes
                && !material.add(&one, bytes)
            {
                tracing::warn!(digest = %one.digest, "what came by a digest does not hash to it");
            }
        }
    }

    /// A config's bytes, from the store, else from the upstream by digest; the caller hashes them.
    async fn config_for(&self, search: &Search, digest: Digest) -> Option<Bytes> {
        let store = Arc::clone(&self.edges.store);
        let read = move || store.read_small(&digest, CONFIG_LIMIT);
        if let Ok(Ok(Some(bytes))) = tokio::task::spawn_blocking(read).await {
            return Some(bytes.into());
        }
        let origin = search.askable()?;
        let fetching = async {
            let answer = self.ask(&origin.upstream, origin.blob(digest, Method::Get)).await.ok()?;
            let is_it = answer.status == 200 && !answer.content_encoded;
            let limit = usize::try_from(CONFIG_LIMIT).unwrap_or(usize::MAX);
            if is_it { answer.body.collect(limit).await.ok() } else { None }
        };
        timeout_at(search.until, fetching).await.ok()?
    }
}

fn side(manifest: &StoredManifest) -> Side<'_> {
    Side { content: &manifest.content, bytes: &manifest.bytes }
}
