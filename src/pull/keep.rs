//! What a pin keeps: links for its content, and hard links for its content itself.
//!
//! Of every pin its manifests and configs, under `hold` and `block` also the layers that clients
//! pulled. What belongs to a pin is marked in memory when the pin or a manifest of it is served,
//! and held when it comes by. Marks are lost with the process, and the oldest make room for new
//! ones: the walk over all pins ([`super::walk`]) finds what slipped through.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::asking::Origin;
use super::covered::Asked;
use super::retain::CONFIG_LIMIT;
use super::{Pull, Way, place};
use crate::blob::fill::Fill;
use crate::ledger::StoredManifest;
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Registry, Repository};
use crate::pin::{Pin, PinKey};
use crate::policy::Reaction;

/// How much content is marked at most.
pub(super) const MARKS: u64 = 100_000;

/// After so many other marks those of a pin may be gone, and are made again.
const MARKS_LAST: u64 = MARKS / 2;

/// Content that a pin needs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// What the pin calls it.
    media_type: MediaType,
    /// Under `hold` or `block`: its layers are kept too, if it has some.
    with_layers: bool,
    /// A config under `alert` is kept only if it is no longer than its manifest says, in bytes.
    most_bytes: Option<u64>,
}

impl Pull {
    /// Writes down that the upstream gave `digest` for a repository.
    pub(super) fn link(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
        media_type: Option<MediaType>,
    ) {
        let links = &self.edges.links;
        let before = links.find(registry, repository, digest).and_then(|link| link.media_type);
        let is_renamed = before.is_some() && media_type.is_some() && before != media_type;
        if let Err(error) = links.add(registry, repository, digest, media_type) {
            // Without the link the upstream is asked again: slower, never wrong.
            tracing::warn!(%digest, %error, "a link could not be written");
        }
        if is_renamed {
            // Answers for the digest still call it what it was.
            self.turn();
        }
    }

    /// Whether this pin's content is marked; no lock is taken.
    pub(super) fn is_marked(&self, asked: &Asked, pin: &Pin) -> bool {
        let since = self.memory.marks_made.load(Ordering::Relaxed);
        asked.linked.load(Ordering::Relaxed) == pin.sequence
            && since.saturating_sub(asked.linked_at.load(Ordering::Relaxed)) < MARKS_LAST
    }

    /// From now on no pin's content counts as marked: other rules may keep other content.
    pub(super) fn mark_anew(&self) {
        self.memory.marks_made.fetch_add(MARKS_LAST, Ordering::Relaxed);
    }

    /// The pin itself proves that the upstream gave this digest for the repository, also when the
    /// cache with its links was deleted.
    pub(super) fn keep_pinned(
        self: &Arc<Self>,
        origin: &Origin,
        key: &PinKey,
        pin: &Pin,
        manifest: &StoredManifest,
    ) {
        let Origin { upstream, repository, .. } = origin;
        let digest = manifest.content.digest;
        let media_type = manifest.content.media_type.clone();
        self.link(&upstream.name, repository, &digest, Some(media_type.clone()));
        self.hold_link_later(origin, manifest);
        let asked = self.asked(key);
        asked.linked_at.store(self.memory.marks_made.load(Ordering::Relaxed), Ordering::Relaxed);
        let with_layers = self.keeps_layers(key);
        let mark = Mark { media_type, with_layers, most_bytes: None };
        self.mark(&place(&upstream.name, repository), digest, mark);
        self.keep_named(origin, manifest, with_layers);
        asked.linked.store(pin.sequence, Ordering::Relaxed);
        self.retain_later(origin, key, pin);
    }

    /// Holds the link of a pinned manifest, off the path; the ledger has its bytes.
    pub(super) fn hold_link_later(self: &Arc<Self>, origin: &Origin, manifest: &StoredManifest) {
        let (pull, content) = (Arc::clone(self), manifest.content.clone());
        let Origin { upstream, repository, .. } = origin.clone();
        tokio::task::spawn_blocking(move || {
            let links = &pull.edges.links;
            let (name, digest) = (&upstream.name, content.digest);
            let held = links
                .add(name, &repository, &digest, Some(content.media_type))
                .and_then(|()| links.hold(name, &repository, &digest));
            match held {
                Ok(()) => pull.memory.held.insert((place(name, &repository), digest), ()),
                Err(error) => tracing::warn!(%digest, %error, "a pin's link could not be held"),
            }
        });
    }

    /// Whether a tag's rule keeps what clients pulled of it.
    pub(super) fn keeps_layers(&self, key: &PinKey) -> bool {
        match self.decide(key) {
            Way::Covered(rule) => matches!(rule.reaction, Reaction::Hold | Reaction::Block),
            Way::Exempt | Way::Recorded | Way::Unlocked => false,
        }
    }

    /// Marks what a kept manifest names, and holds the manifest itself.
    pub(super) fn keep_manifest(self: &Arc<Self>, origin: &Origin, manifest: &StoredManifest) {
        let Origin { upstream, repository, .. } = origin;
        let digest = manifest.content.digest;
        let key = (place(&upstream.name, repository), digest);
        let Some(mark) = self.memory.kept.get(&key) else { return };
        if !self.memory.held.contains_key(&key) {
            self.keep_named(origin, manifest, mark.with_layers);
            self.hold_later(&upstream.name, repository, digest);
        }
    }

    fn keep_named(self: &Arc<Self>, origin: &Origin, manifest: &StoredManifest, with_layers: bool) {
        let at = place(&origin.upstream.name, &origin.repository);
        let media_type = &manifest.content.media_type;
        let Ok(parsed) = Manifest::parse(&manifest.bytes, Some(media_type)) else { return };
        let mark = |descriptor: &Descriptor, most_bytes| {
            let media_type = descriptor.media_type.clone();
            self.mark(&at, descriptor.digest, Mark { media_type, with_layers, most_bytes });
        };
        let layers = parsed.layers.iter().filter(|_| with_layers);
        parsed.children.iter().chain(layers).for_each(|descriptor| mark(descriptor, None));
        if let Some(config) = &parsed.config {
            if with_layers {
                mark(config, None);
            } else if config.size_bytes <= CONFIG_LIMIT {
                mark(config, Some(config.size_bytes));
            }
            self.keep_config_later(origin, config);
        }
    }

    fn mark(&self, at: &Arc<str>, digest: Digest, mark: Mark) {
        let key = (Arc::clone(at), digest);
        // Another pin may keep more of the same.
        let before = self.memory.kept.get(&key);
        let mark = match &before {
            Some(before) if before.with_layers => {
                Mark { with_layers: true, most_bytes: None, ..mark }
            }
            _ => mark,
        };
        // What was answered for it before did not know that.
        if before.as_ref() != Some(&mark) {
            self.memory.kept.insert(key, mark);
            self.turn();
        }
        self.memory.marks_made.fetch_add(1, Ordering::Relaxed);
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
        let mark = self.memory.kept.get(&(place(registry, repository), digest));
        mark.map_or(claimed, |mark| mark.media_type)
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
        // What was damaged or deleted since is to be held again.
        self.memory.kept.contains_key(&key)
            && !(self.memory.held.contains_key(&key) && self.edges.store.is_held(&digest))
    }

    /// Holds what a running fill brings, if a pin of this repository needs it: the fill itself
    /// knows only the repository that it was begun for.
    pub(super) fn hold_filled(self: &Arc<Self>, origin: &Origin, digest: Digest, fill: &Fill) {
        if !self.is_wanted(&origin.upstream.name, &origin.repository, digest) {
            return;
        }
        let (pull, origin, settling) =
            (Arc::clone(self), origin.clone(), fill.running().settling());
        tokio::spawn(async move {
            if settling.await {
                pull.hold_later(&origin.upstream.name, &origin.repository, digest);
            }
        });
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
            Err(error) if matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::NotFound) => {
            }
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
        let key = (place(registry, repository), digest);
        let most_bytes = self.memory.kept.get(&key).and_then(|mark| mark.most_bytes);
        if let Some(most_bytes) = most_bytes
            && self.edges.store.size_bytes(&digest)?.is_some_and(|size| size > most_bytes)
        {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let _not_now = self.memory.letting_go.holding();
        self.edges.store.hold(&digest)?;
        self.edges.links.hold(registry, repository, &digest)?;
        self.memory.held.insert(key, ());
        Ok(())
    }
}
