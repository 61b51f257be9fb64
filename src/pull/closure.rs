//! What a manifest's content comes to: the manifests that an index names, and all their blobs.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::Pull;
use super::asking::Origin;
use super::filling::Filling;
use super::refusal::{Reason, Refusal};
use crate::ledger::StoredManifest;
use crate::oci::{Descriptor, Digest, Manifest, Platform};

/// How many digests of one tag are looked at, manifests and blobs. No honest tag has more; what
/// lies beyond cannot be vouched for.
const DIGESTS: usize = 20_000;

/// How many of them may be manifests.
const MANIFESTS: usize = 1000;

/// How much all manifests of one tag may weigh, in bytes.
const MANIFEST_BYTES: usize = 32 << 20;

/// How many things of one tag are asked for at once.
pub(super) const AT_ONCE: usize = 8;

/// What of some content is not to be had, and why.
#[derive(Clone)]
pub(super) struct Gap {
    pub(super) digest: Digest,
    pub(super) why: Refusal,
}

/// How far a closure is followed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// All of it, attestations too; what is not here is fetched.
    All,
    /// What a client may ask for when it pulls, as far as it is here.
    Here,
    /// All of it, attestations too, as far as it is here.
    Kept,
    /// What a client may ask for when it pulls; manifests that are not here are fetched.
    Pulled,
}

/// A config or a layer, as a manifest names it.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) digest: Digest,
    /// A claim.
    pub(super) size_bytes: u64,
    /// Whether it is a config, by the first manifest that names it.
    pub(super) is_config: bool,
}

impl Named {
    /// The blobs that a manifest names.
    fn of(manifest: &Manifest) -> impl Iterator<Item = Self> {
        let named = |descriptor: &Descriptor, is_config| Self {
            digest: descriptor.digest,
            size_bytes: descriptor.size_bytes,
            is_config,
        };
        let layers = manifest.layers.iter().map(move |layer| named(layer, false));
        manifest.config.iter().map(move |config| named(config, true)).chain(layers)
    }
}

/// What a manifest's content comes to.
#[derive(Default)]
pub(super) struct Closure {
    /// The manifests below it.
    pub(super) manifests: Vec<StoredManifest>,
    /// Configs and layers, each once.
    pub(super) blobs: Vec<Named>,
    /// Manifests that could not be had or read.
    pub(super) gaps: Vec<Gap>,
    /// Every digest on the way.
    pub(super) named: HashSet<Digest>,
}

impl Pull {
    /// The same for a request: those who ask for the same tag at once share one look, and one copy
    /// of the manifests, which a hostile publisher can make heavy.
    pub(super) async fn look_at_content(
        self: &Arc<Self>,
        origin: &Origin,
        root: &StoredManifest,
        scope: Scope,
    ) -> Result<Arc<Closure>, Refusal> {
        let (at, holder) = origin.circle();
        let flight = (at, holder, root.content.digest, scope);
        let (pull, origin, root) = (Arc::clone(self), origin.clone(), root.clone());
        let look = || async move { Arc::new(pull.closure(&origin, &root, scope).await) };
        let early = || Refusal::new(Reason::Overloaded, "the look at its content ended early");
        self.memory.looks.join(flight, look).await.ok_or_else(early)
    }

    /// Follows a manifest to all that it names.
    pub(super) async fn closure(
        self: &Arc<Self>,
        origin: &Origin,
        root: &StoredManifest,
        scope: Scope,
    ) -> Closure {
        let named = HashSet::from([root.content.digest]);
        let mut closure = Closure { named, ..Closure::default() };
        let mut unread = vec![root.clone()];
        // Apart from the manifests: what is to be had as the one need not be as the other.
        let mut blobs = HashSet::new();
        let mut read_bytes = 0;
        while let Some(manifest) = unread.pop() {
            read_bytes += manifest.bytes.len();
            let parsed = match Manifest::parse(&manifest.bytes, Some(&manifest.content.media_type))
            {
                Ok(parsed) => parsed,
                Err(error) => {
                    let digest = manifest.content.digest;
                    closure.gaps.push(Gap { digest, why: Refusal::unreadable(&error) });
                    continue;
                }
            };
            for blob in Named::of(&parsed) {
                if blobs.insert(blob.digest) {
                    closure.blobs.push(blob);
                }
            }
            let children = parsed.children.iter().filter(|child| is_followed(child, scope));
            let children: Vec<_> = children
                .map(|child| child.digest)
                .filter(|digest| closure.named.insert(*digest))
                .collect();
            if closure.named.len() + blobs.len() > DIGESTS
                || closure.manifests.len() + children.len() > MANIFESTS
                || read_bytes > MANIFEST_BYTES
            {
                closure.gaps.push(too_large(manifest.content.digest));
                break;
            }
            let found = stream::iter(children)
                .map(|digest| self.follow(origin, digest, scope))
                .buffer_unordered(AT_ONCE)
                .collect::<Vec<_>>();
            for child in found.await {
                match child {
                    Ok(child) => {
                        closure.manifests.push(child.clone());
                        unread.push(child);
                    }
                    Err(gap) => closure.gaps.push(gap),
                }
            }
        }
        closure.named.extend(blobs);
        closure
    }

    async fn follow(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
        scope: Scope,
    ) -> Result<StoredManifest, Gap> {
        if matches!(scope, Scope::Here | Scope::Kept) {
            let missing = || Refusal::new(Reason::ManifestUnknown, "it is not held here");
            let stored = self.stored(origin, digest).await;
            return stored.ok_or_else(|| Gap { digest, why: missing() });
        }
        self.stored_or_fetched(origin, digest).await.map_err(|why| Gap { digest, why })
    }

    /// Which of these blobs are not here for this repository: bytes are shared, links are not.
    pub(super) async fn absent(self: &Arc<Self>, origin: &Origin, blobs: &[Named]) -> Vec<Digest> {
        let (pull, origin, asked) = (Arc::clone(self), origin.clone(), blobs.to_vec());
        let look = move || {
            let is_absent = |blob: &Named| !pull.has_here(&origin, *blob);
            asked.into_iter().filter(is_absent).map(|blob| blob.digest).collect()
        };
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|_| blobs.iter().map(|blob| blob.digest).collect())
    }

    pub(super) fn has_here(&self, origin: &Origin, blob: Named) -> bool {
        let Origin { upstream, repository, .. } = origin;
        let digest = blob.digest;
        if self.edges.links.find(&upstream.name, repository, &digest).is_none() {
            return false;
        }
        match self.edges.store.size_bytes(&digest) {
            Ok(Some(size_bytes)) if size_bytes == blob.size_bytes => true,
            // Either the manifest is wrong or the file.
            Ok(Some(_)) => self.is_sound(digest).unwrap_or(false),
            _ => false,
        }
    }

    /// Whether stored content still hashes to its digest; if not, it is thrown away.
    fn is_sound(&self, digest: Digest) -> io::Result<bool> {
        if self.memory.hashed.contains_key(&digest) {
            return Ok(true);
        }
        let is_sound = self.edges.store.keep_if_sound(&digest)?;
        if is_sound {
            self.memory.hashed.insert(digest, ());
        } else {
            self.content_lost();
            tracing::error!(%digest, "a stored blob is damaged: it was removed");
        }
        Ok(is_sound)
    }

    /// Asks the upstream whether it has a blob, unless it said so within a minute.
    pub(super) async fn find_upstream(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Option<Gap> {
        let (at, holder) = origin.circle();
        if self.memory.spoilt.contains_key(&(Arc::clone(&at), digest)) {
            let words = "the upstream says that it has it, but gave other bytes or not all of them";
            return Some(Gap { digest, why: Refusal::new(Reason::UpstreamInvalid, words) });
        }
        if self.memory.upstream_has.contains_key(&(Arc::clone(&at), digest)) {
            return None;
        }
        let (pull, origin) = (Arc::clone(self), origin.clone());
        let place = (Arc::clone(&at), digest);
        let ask = || async move {
            pull.vouch(&origin, digest).await?;
            pull.memory.upstream_has.insert(place, ());
            Ok(())
        };
        let found = self.memory.heads.join((at, holder, digest), ask).await;
        let early = || Refusal::new(Reason::Overloaded, "the look at the upstream ended early");
        found.unwrap_or_else(|| Err(early())).err().map(|why| Gap { digest, why })
    }

    /// Asks the upstream whether it has a blob: by HEAD, else by beginning to fetch it.
    pub(super) async fn vouch(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Result<(), Refusal> {
        match self.head_blob(origin, digest).await {
            Err(refusal) if is_about_head(&refusal) => {
                let filling = Filling { pull: Arc::clone(self), origin: origin.clone(), digest };
                filling.source().await.map(drop)
            }
            answered => answered.map(drop),
        }
    }
}

/// Whether the upstream did not say that it has no such blob, but would not be asked so. Some have
/// their blobs elsewhere, and redirect to addresses that were signed for GET alone.
fn is_about_head(refusal: &Refusal) -> bool {
    matches!(refusal.reason, Reason::UpstreamAuth | Reason::UpstreamInvalid)
}

/// Whether a client that pulls may ask for this child: any client may for one that is for a
/// platform, whatever its annotations and its media type are (Docker's daemon goes by the platform
/// alone). An attestation is for `unknown/unknown`, which nobody runs.
fn is_followed(child: &Descriptor, scope: Scope) -> bool {
    let is_for_nobody = child.platform.as_ref().is_some_and(Platform::is_unknown);
    let is_manifest = child.media_type.manifest_kind().is_some() || child.platform.is_some();
    is_manifest && (matches!(scope, Scope::All | Scope::Kept) || !is_for_nobody)
}

fn too_large(digest: Digest) -> Gap {
    let words = format!(
        "it leads to more than {MANIFESTS} manifests or {DIGESTS} digests, or to manifests of more \
         than {} MiB",
        MANIFEST_BYTES >> 20
    );
    Gap { digest, why: Refusal::invalid("TOO_LARGE", words) }
}
