//! A manifest by digest: bytes that hash to it, unparsed.

use std::sync::Arc;

use super::asking::{Origin, Question};
use super::leads::Sought;
use super::refusal::{Reason, Refusal};
use super::standing::Epoch;
use super::{ManifestReply, ManifestRequest, Pull, place};
use crate::ledger::StoredManifest;
use crate::oci::manifest::MANIFEST_LIMIT;
use crate::oci::{ComputedDigest, Digest, ManifestKind, MediaType};
use crate::pin::Content;

impl Pull {
    /// A manifest that is here, from memory, ledger or store; nobody is asked for it, and whoever
    /// gets it must not pass it to clients: no link was looked for.
    pub async fn manifest_at_hand(&self, digest: &Digest) -> Option<StoredManifest> {
        if let Some(manifest) = self.memory.manifests.get(digest) {
            return Some(manifest);
        }
        if let Ok(Some(manifest)) = self.edges.ledger.manifest(digest).await {
            return Some(manifest);
        }
        self.load_stored(digest, ManifestKind::OciManifest.into()).await
    }

    pub(super) async fn manifest_by_digest(
        self: &Arc<Self>,
        request: ManifestRequest,
        digest: Digest,
        epoch: Option<Epoch>,
    ) -> Result<ManifestReply, Refusal> {
        if self.edges.ledger.is_revoked(&digest) {
            return Err(Refusal::revoked(digest));
        }
        self.pass(&request.asker, &request.origin(), digest, Sought::Manifest).await?;
        self.permit(&request.upstream, &request.repository, &request.reference, &request.asker)
            .await?;
        let origin = request.origin();
        let manifest = self.stored_or_fetched(&origin, digest).await?;
        if self.edges.ledger.is_revoked(&manifest.content.digest) {
            return Err(Refusal::revoked(digest));
        }
        self.settle_claim(&request, digest, &manifest);
        let standing = self.standing_of_digest(epoch, &origin, digest);
        Ok(ManifestReply { digest: Some(digest), standing, ..manifest.into() })
    }

    /// From memory, ledger or store where the repository has a link; else from the upstream.
    pub(super) async fn stored_or_fetched(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Result<StoredManifest, Refusal> {
        if let Some(manifest) = self.stored(origin, digest).await {
            self.edges.metrics.cache_hits.with_label_values(&["manifest"]).inc();
            self.keep_manifest(origin, &manifest);
            return Ok(manifest);
        }
        self.edges.metrics.cache_misses.with_label_values(&["manifest"]).inc();
        let (at, holder) = origin.circle();
        let flight = (at, holder, digest);
        let (pull, question) = (Arc::clone(self), origin.by_digest(digest));
        let fetch = || async move { pull.fetch_manifest(question, digest).await };
        self.memory.manifest_fetches.join(flight, fetch).await.unwrap_or_else(|| {
            Err(Refusal::new(Reason::Overloaded, "the fetch ended early; try again"))
        })
    }

    /// From memory, ledger or store, where the repository has a link.
    pub(super) async fn stored(&self, origin: &Origin, digest: Digest) -> Option<StoredManifest> {
        let Origin { upstream, repository, .. } = origin;
        let link = self.edges.links.find(&upstream.name, repository, &digest)?;
        let media_type = self.media_type_of(&upstream.name, repository, digest, link.media_type?);
        self.load_by_digest(&digest, media_type).await
    }

    async fn fetch_manifest(
        self: Arc<Self>,
        question: Question,
        digest: Digest,
    ) -> Result<StoredManifest, Refusal> {
        let fetched = self.get_manifest(&question).await?.ok_or_else(|| {
            let words = format!("the upstream has no manifest {digest} in this repository");
            Refusal::new(Reason::ManifestUnknown, words)
        })?;
        let mut manifest = fetched.manifest;
        let Question { upstream, repository, .. } = &question;
        let claimed = manifest.content.media_type;
        let media_type = self.media_type_of(&upstream.name, repository, digest, claimed);
        manifest.content.media_type = media_type.clone();
        let (store, bytes) = (Arc::clone(&self.edges.store), manifest.bytes.clone());
        let stored = tokio::task::spawn_blocking(move || store.put(&digest, &bytes)).await;
        if let Ok(Err(error)) = stored {
            tracing::warn!(%digest, %error, "a manifest was not cached");
        }
        self.link(&upstream.name, repository, &digest, Some(media_type));
        self.memory.manifests.insert(digest, manifest.clone());
        self.keep_manifest(&question.origin(), &manifest);
        Ok(manifest)
    }

    async fn load_by_digest(
        &self,
        digest: &Digest,
        media_type: MediaType,
    ) -> Option<StoredManifest> {
        let loaded = if let Some(manifest) = self.memory.manifests.get(digest) {
            manifest
        } else {
            let loaded = match self.load_stored(digest, media_type.clone()).await {
                Some(manifest) => manifest,
                None => self.edges.ledger.manifest(digest).await.ok()??,
            };
            self.memory.manifests.insert(*digest, loaded.clone());
            loaded
        };
        // Bytes are shared between repositories, what their upstreams call them is not.
        let content = Content { media_type, ..loaded.content };
        Some(StoredManifest { content, bytes: loaded.bytes })
    }

    /// Reads a manifest from the blob store and hashes it again: what memory serves was verified
    /// by this process.
    pub(super) async fn load_stored(
        &self,
        digest: &Digest,
        media_type: MediaType,
    ) -> Option<StoredManifest> {
        let (store, claim) = (Arc::clone(&self.edges.store), *digest);
        let read = move || -> std::io::Result<Option<Vec<u8>>> {
            let Some(blob) = store.open(&claim)? else { return Ok(None) };
            let mut bytes = Vec::new();
            let limit = MANIFEST_LIMIT as u64 + 1;
            std::io::Read::read_to_end(&mut std::io::Read::take(&*blob.file, limit), &mut bytes)?;
            // It is weighed by its length in memory, and may stay there for long.
            bytes.shrink_to_fit();
            Ok(Some(bytes))
        };
        let bytes = match tokio::task::spawn_blocking(read).await.ok()? {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored manifest could not be read");
                return None;
            }
        };
        let computed = ComputedDigest::of(&bytes, Some(digest));
        if !computed.supports(digest) {
            tracing::error!(%digest, "a stored manifest is damaged and not served");
            return None;
        }
        Some(StoredManifest::new(&computed, media_type, bytes.into()))
    }

    /// A client that asked a recorded tag by HEAD and now got the digest that was claimed: the
    /// claim is verified now, and written down after the reply.
    fn settle_claim(
        self: &Arc<Self>,
        request: &ManifestRequest,
        digest: Digest,
        manifest: &StoredManifest,
    ) {
        let at = place(&request.upstream.name, &request.repository);
        let Some(key) = self.memory.claims.remove(&(at, digest)) else { return };
        self.observe_later(key, manifest.content.clone());
    }
}
