//! What a pin keeps: links for its content, and hard links for what clients pulled of it.

use std::io;
use std::sync::Arc;

use super::{Pull, place};
use crate::ledger::StoredManifest;
use crate::oci::{Digest, Manifest, MediaType, Registry, Repository};
use crate::pin::PinKey;

impl Pull {
    /// Writes down that the upstream gave `digest` for a repository.
    pub(super) fn link(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
        media_type: Option<MediaType>,
    ) {
        if let Err(error) = self.edges.links.add(registry, repository, digest, media_type) {
            // Without the link the upstream is asked again: slower, never wrong.
            tracing::warn!(%digest, %error, "a link could not be written");
        }
    }

    /// The pin itself proves that the upstream gave this digest for the repository, also when the
    /// cache with its links was deleted.
    pub(super) fn keep_pinned(self: &Arc<Self>, key: &PinKey, manifest: &StoredManifest) {
        let digest = manifest.content.digest;
        let media_type = manifest.content.media_type.clone();
        self.link(&key.registry, &key.repository, &digest, Some(media_type.clone()));
        let at = place(&key.registry, &key.repository);
        self.mark(&at, digest, media_type);
        self.keep_named(&at, manifest);
    }

    /// Marks what a kept manifest names, and holds the manifest itself.
    pub(super) fn keep_manifest(
        self: &Arc<Self>,
        registry: &Registry,
        repository: &Repository,
        manifest: &StoredManifest,
    ) {
        let at = place(registry, repository);
        let digest = manifest.content.digest;
        if self.is_wanted(registry, repository, digest) {
            self.keep_named(&at, manifest);
            self.hold_later(registry, repository, digest);
        }
    }

    fn keep_named(&self, at: &Arc<str>, manifest: &StoredManifest) {
        let media_type = &manifest.content.media_type;
        let Ok(parsed) = Manifest::parse(&manifest.bytes, Some(media_type)) else { return };
        for descriptor in parsed.digests() {
            self.mark(at, descriptor.digest, descriptor.media_type.clone());
        }
    }

    /// Notes that a pin needs this content, and what it calls it. What was answered for it before
    /// did not know that.
    fn mark(&self, at: &Arc<str>, digest: Digest, media_type: MediaType) {
        let key = (Arc::clone(at), digest);
        if self.memory.kept.get(&key).is_none_or(|known| known != media_type) {
            self.memory.kept.insert(key, media_type);
            self.turn();
        }
    }

    /// What a manifest is called: by a pin that needs it, else as the upstream claims. Clients that
    /// cannot read it by the name that they get go to the real registry, tag and all.
    pub(super) fn media_type_of(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: Digest,
        claimed: MediaType,
    ) -> MediaType {
        self.memory.kept.get(&(place(registry, repository), digest)).unwrap_or(claimed)
    }

    /// Whether a pin of this repository needs this content, and it is not held for it yet: bytes
    /// are shared, links are not.
    pub(super) fn is_wanted(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: Digest,
    ) -> bool {
        let key = (place(registry, repository), digest);
        self.memory.kept.contains_key(&key) && !self.memory.held.contains_key(&key)
    }

    /// Holds stored content for a pin, off the path.
    pub(super) fn hold_later(
        self: &Arc<Self>,
        registry: &Registry,
        repository: &Repository,
        digest: Digest,
    ) {
        let pull = Arc::clone(self);
        let (registry, repository) = (registry.clone(), repository.clone());
        tokio::task::spawn_blocking(move || match pull.hold(&registry, &repository, digest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%digest, %error, "pinned content could not be held"),
            Ok(()) => {}
        });
    }

    /// Holds stored content for a pin, with its link; it waits for the disk.
    pub(super) fn hold(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: Digest,
    ) -> io::Result<()> {
        self.edges.store.hold(&digest)?;
        self.edges.links.hold(registry, repository, &digest)?;
        self.memory.held.insert((place(registry, repository), digest), ());
        Ok(())
    }
}
