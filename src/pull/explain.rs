//! What changed at a tag, as far as a few requests tell: by digest only, bounded in number, bytes
//! and time. A hint for whoever decides; nothing is served, pinned or refused by it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::Pull;
use super::asking::Origin;
use crate::config::Credentials;
use crate::ledger::StoredManifest;
use crate::oci::{Digest, ManifestKind, MediaType};
use crate::pin::{Content, PinKey, TagState};
use crate::policy::judge::is_young;
use crate::triage::{CONFIG_LIMIT, Case, Material, Side, Triage, Wanted, compare, wanted};
use crate::upstream::Method;

/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How much is asked for at once.
const AT_ONCE: usize = 4;

/// Manifests, then configs.
const ROUNDS: usize = 2;

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
    /// not to be had in 20 s, or with nobody's credentials from an upstream that takes the
    /// clients' own, is told as not looked at.
    ///
    /// `None` if one of the two manifests is not to be had: then nothing can be said.
    pub async fn explain(
        self: &Arc<Self>,
        key: &PinKey,
        before: Digest,
        after: Digest,
    ) -> Option<Triage> {
        // On the heap: whoever asks need not carry all of it.
        Box::pin(self.look_into(key, before, after)).await
    }

    async fn look_into(
        self: &Arc<Self>,
        key: &PinKey,
        before: Digest,
        after: Digest,
    ) -> Option<Triage> {
        let search = self.search(key);
        let state = self.edges.ledger.state(key).await.ok().flatten().unwrap_or_default();
        let [before, after] = [before, after].map(|digest| self.root(&search, &state, digest));
        let (before, after) = tokio::join!(before, after);
        let (before, after) = (before?, after?);
        let [old, new] =
            [&before, &after].map(|it| Side { content: &it.content, bytes: &it.bytes });
        let gathering = async {
            let mut material = Material::default();
            for _ in 0..ROUNDS {
                let missing = wanted(old, new, &material);
                self.gather(&search, missing, &mut material).await;
            }
            material
        };
        let attached = self.signatures(&search, before.content.digest, after.content.digest);
        let (material, signatures) = tokio::join!(gathering, attached);
        let now_ms = self.edges.clock.wall_ms();
        let mut pins = state.pin.iter().filter(|pin| pin.content == before.content);
        Some(compare(&Case {
            before: old,
            after: new,
            material: &material,
            signatures: signatures.as_ref(),
            is_young: pins.any(|pin| is_young(pin, now_ms)),
            now_ms,
        }))
    }

    fn search(&self, key: &PinKey) -> Search {
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        let repository = key.repository.clone();
        let origin = upstream.map(|upstream| Origin { upstream, repository, credential: None });
        // With nobody's credentials an upstream that takes the clients' own may say anything.
        let may_ask = origin.as_ref().is_some_and(|origin| {
            let upstream = &origin.upstream;
            upstream.config.credentials != Credentials::Client && !self.is_offline(upstream)
        });
        Search { origin, may_ask, until: Instant::now() + DEADLINE }
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
