//! What locked content leads to, in locked mode: of what is asked by digest, nothing else passes.
//!
//! For each repository of the lock file: its digests, what they name (children, configs, layers,
//! as far as [`super::closure`] follows them), and what refers to these. What one repository has in
//! the lock lets nothing through for another one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::asking::Origin;
use super::canary::is_canary;
use super::closure::{Closure, Scope};
use super::refusal::{Reason, Refusal};
use super::{Lock, ManifestReply, ManifestRequest, Pull, place};
use crate::oci::{ComputedDigest, Digest, Manifest, Tag};
use crate::pin::PinKey;

/// How much is remembered of what all locked content leads to, in bytes.
const NAMED_BYTES: u64 = 64 << 20;

/// How many digests are remembered that refer to locked content, or belong to what does.
const REFERRING: u64 = 100_000;

/// How long it is believed that a locked manifest leads to no more than was found.
const BELIEVED: Duration = Duration::from_mins(10);

/// How long an upstream's trouble in reading locked content answers for the next who asks.
const TROUBLED_MS: u64 = 2_000;

/// A place and a digest there.
type Spot = (Arc<str>, Digest);

/// What is remembered of it.
pub(super) struct Leads {
    /// What a locked digest leads to.
    named: moka::sync::Cache<Spot, Arc<Named>>,
    /// What refers to such content, with its blobs.
    referring: moka::sync::Cache<Spot, ()>,
}

/// What a locked digest leads to.
struct Named {
    digests: HashSet<Digest>,
    /// Whether there is no more to be found.
    is_whole: bool,
    /// Why not, if the upstream failed, and when, in milliseconds of the monotonic clock.
    trouble: Option<(Refusal, u64)>,
}

/// As what a digest is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// As content, or as what others refer to.
    Content,
    /// As a manifest, which may itself refer to locked content.
    Manifest,
}

impl Default for Leads {
    fn default() -> Self {
        let weigh = |_: &Spot, named: &Arc<Named>| {
            u32::try_from(256 + named.digests.len() * 2 * size_of::<Digest>()).unwrap_or(u32::MAX)
        };
        let named = moka::sync::Cache::builder().max_capacity(NAMED_BYTES).weigher(weigh);
        Self {
            named: named.time_to_live(BELIEVED).build(),
            referring: moka::sync::Cache::builder()
                .max_capacity(REFERRING)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
        }
    }
}

impl Pull {
    /// Whether a digest may be had from this repository.
    ///
    /// # Errors
    /// [`Reason::PinRequired`] if locked content does not lead to it; the upstream's trouble, if
    /// that kept this from being seen.
    pub(super) async fn pass(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
        sought: Sought,
    ) -> Result<(), Refusal> {
        let lock = self.settings.load().lock.clone().filter(|lock| lock.is_locked);
        let Some(lock) = lock.filter(|_| !is_canary(&origin.upstream.name)) else { return Ok(()) };
        let required = || lock.requires_digest(origin, digest);
        let Some(roots) = lock.roots(&origin.upstream.name, &origin.repository) else {
            return Err(required());
        };
        if self.leads_to(origin, roots, &digest) {
            return Ok(());
        }
        self.read_roots(origin, roots, Scope::Kept, &digest).await?;
        if self.leads_to(origin, roots, &digest) {
            return Ok(());
        }
        if sought == Sought::Manifest && self.is_referring(origin, roots, digest).await? {
            return Ok(());
        }
        self.read_roots(origin, roots, Scope::All, &digest).await?;
        if self.leads_to(origin, roots, &digest)
            || (sought == Sought::Manifest && self.is_referring(origin, roots, digest).await?)
        {
            return Ok(());
        }
        Err(self.trouble(origin, roots).unwrap_or_else(required))
    }

    /// Whether it is known that locked content leads to a digest.
    fn leads_to(&self, origin: &Origin, roots: &HashSet<Digest>, digest: &Digest) -> bool {
        let at = place(&origin.upstream.name, &origin.repository);
        let leads = &self.memory.leads;
        roots.contains(digest)
            || leads.referring.contains_key(&(Arc::clone(&at), *digest))
            || roots.iter().any(|root| {
                let named = leads.named.get(&(Arc::clone(&at), *root));
                named.is_some_and(|named| named.digests.contains(digest))
            })
    }

    /// Reads locked manifests until one leads to `digest`, those first that were used last.
    async fn read_roots(
        self: &Arc<Self>,
        origin: &Origin,
        roots: &HashSet<Digest>,
        scope: Scope,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let at = place(&origin.upstream.name, &origin.repository);
        let is_unread = |root: &&Digest| {
            let named = self.memory.leads.named.get(&(Arc::clone(&at), **root));
            named.is_none_or(|named| !named.is_whole && !self.is_troubled(&named))
        };
        let mut unread: Vec<_> = roots.iter().filter(is_unread).copied().collect();
        unread.sort_by_key(|root| !self.memory.manifests.contains_key(root));
        for root in unread {
            let Some(named) = self.read_root(origin, root, scope).await? else { continue };
            let is_found = named.digests.contains(digest);
            self.memory.leads.named.insert((Arc::clone(&at), root), Arc::new(named));
            if is_found {
                break;
            }
        }
        Ok(())
    }

    /// What a locked digest leads to; `None` if it is not here, and may not be fetched.
    async fn read_root(
        self: &Arc<Self>,
        origin: &Origin,
        root: Digest,
        scope: Scope,
    ) -> Result<Option<Named>, Refusal> {
        let is_all = scope == Scope::All;
        let found = if is_all {
            self.stored_or_fetched(origin, root).await
        } else {
            match self.stored(origin, root).await {
                Some(stored) => Ok(stored),
                None => return Ok(None),
            }
        };
        let manifest = match found {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Some(self.named_of(HashSet::new(), Some(why), is_all))),
        };
        let closure = self.look_at_content(origin, &manifest, scope).await?;
        let mut digests = closure.named.clone();
        digests.extend(closure.blobs.iter().map(|blob| blob.digest));
        // What an index lists is its content, also where nothing says that it is a manifest.
        for manifest in closure.manifests.iter().chain([&manifest]) {
            let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.content.media_type));
            digests.extend(parsed.iter().flat_map(Manifest::digests).map(|it| it.digest));
        }
        Ok(Some(self.named_of(digests, trouble_of(&closure), is_all)))
    }

    /// Only the upstream's trouble is a reason to look again: what it does not have, or what nobody
    /// can read, leads nowhere.
    fn named_of(&self, digests: HashSet<Digest>, why: Option<Refusal>, is_all: bool) -> Named {
        let lasts = |why: &Refusal| {
            !matches!(why.reason, Reason::ManifestUnknown | Reason::UpstreamInvalid)
        };
        let trouble = why.filter(|why| is_all && lasts(why)).map(|why| (why, self.now_ms()));
        Named { digests, is_whole: is_all && trouble.is_none(), trouble }
    }

    fn is_troubled(&self, named: &Named) -> bool {
        let since = named.trouble.as_ref().map(|(_, since_ms)| *since_ms);
        since.is_some_and(|since_ms| self.now_ms().saturating_sub(since_ms) < TROUBLED_MS)
    }

    /// What kept locked content from being read.
    fn trouble(&self, origin: &Origin, roots: &HashSet<Digest>) -> Option<Refusal> {
        let at = place(&origin.upstream.name, &origin.repository);
        let named = |root: &Digest| self.memory.leads.named.get(&(Arc::clone(&at), *root));
        roots
            .iter()
            .filter_map(named)
            .find_map(|named| named.trouble.as_ref().map(|(why, _)| why.clone()))
    }

    /// Whether a manifest refers to what locked content leads to, and is nothing that a client
    /// could run; if so, it and its blobs may be had from now on.
    async fn is_referring(
        self: &Arc<Self>,
        origin: &Origin,
        roots: &HashSet<Digest>,
        digest: Digest,
    ) -> Result<bool, Refusal> {
        let found = match self.stored_or_fetched(origin, digest).await {
            Ok(found) => found,
            Err(why) if why.reason == Reason::ManifestUnknown => return Ok(false),
            Err(why) => return Err(why),
        };
        let parsed = Manifest::parse(&found.bytes, Some(&found.content.media_type));
        let Ok(manifest) = parsed else { return Ok(false) };
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        let refers = subject.is_some_and(|subject| self.leads_to(origin, roots, &subject));
        let passes = refers && !is_runnable(&manifest) && !has_image_config(&manifest);
        if passes {
            self.let_refer(origin, digest, &manifest);
        }
        Ok(passes)
    }

    /// An index of referrers lets nothing through but itself: each of them has a subject.
    fn let_refer(&self, origin: &Origin, digest: Digest, manifest: &Manifest) {
        let at = place(&origin.upstream.name, &origin.repository);
        let blobs = manifest.config.iter().chain(&manifest.layers).map(|blob| blob.digest);
        for digest in blobs.chain([digest]) {
            self.memory.leads.referring.insert((Arc::clone(&at), digest), ());
        }
    }

    /// A tag that the lock file does not have: refused, unless it is the tag by which clients find
    /// what refers to locked content.
    pub(super) async fn unlocked(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: &PinKey,
    ) -> Result<ManifestReply, Refusal> {
        let lock = self.settings.load().lock.clone();
        let required = || match &lock {
            Some(lock) => lock.requires_tag(key),
            None => Refusal::new(Reason::PinRequired, "there is no lock file").of(key),
        };
        let subject = subject_of(&key.tag).ok_or_else(required)?;
        let origin = request.origin();
        match self.pass(&origin, subject, Sought::Content).await {
            Err(refusal) if refusal.reason == Reason::PinRequired => return Err(required()),
            admitted => admitted.map_err(|refusal| refusal.of(key))?,
        }
        // What is behind it must be seen, also for a HEAD: the client goes on by its digest.
        let reply = self.uncovered(ManifestRequest { is_head: false, ..request }, None).await;
        let reply = reply.map_err(|refusal| refusal.of(key))?;
        let bytes = reply.bytes.as_deref().unwrap_or_default();
        let manifest = Manifest::parse(bytes, reply.media_type.as_ref()).ok();
        let manifest = manifest.filter(|manifest| !is_runnable(manifest)).ok_or_else(required)?;
        if let Some(digest) = reply.digest {
            self.let_refer(&origin, digest, &manifest);
        }
        Ok(reply)
    }
}

impl Lock {
    /// The refusal of a tag that is not in the file.
    pub fn requires_tag(&self, key: &PinKey) -> Refusal {
        let words =
            format!("{key} is not in the lock file {}, and nothing else may be pulled", self.name);
        let help = format!("to add it: immutag lock --add {key}, and commit {}", self.name);
        Refusal { help, ..Refusal::new(Reason::PinRequired, words).of(key) }
    }

    /// The refusal of whatever is in a registry that is not known here.
    pub fn requires_registry(&self, registry: &str) -> Refusal {
        let words = format!(
            "nothing of the registry {registry:?} is in the lock file {}, and nothing else may be \
             pulled",
            self.name
        );
        let help = format!(
            "to add an image: configure [upstream.{registry:?}] for immutag, then immutag lock --add REF"
        );
        Refusal { help, ..Refusal::new(Reason::PinRequired, words) }
    }

    /// The refusal of a digest that nothing in the file leads to.
    fn requires_digest(&self, origin: &Origin, digest: Digest) -> Refusal {
        let at = place(&origin.upstream.name, &origin.repository);
        let words = format!(
            "nothing of {at} in the lock file {} leads to {digest}, and nothing else may be pulled",
            self.name
        );
        let help =
            format!("to add an image: immutag lock --add {at}@{digest}, and commit {}", self.name);
        Refusal { observed: Some(digest), help, ..Refusal::new(Reason::PinRequired, words) }
    }
}

/// The first of the upstream's troubles, else any gap.
fn trouble_of(closure: &Closure) -> Option<Refusal> {
    let is_lasting =
        |why: &Refusal| matches!(why.reason, Reason::ManifestUnknown | Reason::UpstreamInvalid);
    closure.gaps.iter().map(|gap| &gap.why).min_by_key(|why| is_lasting(why)).cloned()
}

/// What a referrers' tag is about: `sha256-<hex>`, alone or with an ending. A SHA-512 digest is cut
/// in a tag, and names nothing for sure.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let hex = tag.as_str().strip_prefix("sha256-").filter(|_| tag.is_referrers())?;
    format!("sha256:{}", hex.get(..64)?).parse().ok()
}

/// Whether a client could run it: an image with layers of an image. What has the empty config of
/// an artifact has no root file system, whatever its layers are called.
fn is_runnable(manifest: &Manifest) -> bool {
    const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image."];
    let is_layer = |it: &str| LAYERS.iter().any(|prefix| it.starts_with(prefix));
    let is_empty = |digest: &Digest| ComputedDigest::of(b"{}", Some(digest)).supports(digest);
    manifest.config.as_ref().is_some_and(|config| !is_empty(&config.digest))
        && manifest.layers.iter().any(|layer| is_layer(layer.media_type.as_str()))
}

/// Whether it says that its config is an image's: Docker runs it, whatever its layers are called.
fn has_image_config(manifest: &Manifest) -> bool {
    const CONFIGS: [&str; 2] = [
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    ];
    let config = manifest.config.as_ref().map(|config| config.media_type.as_str());
    config.is_some_and(|media_type| CONFIGS.contains(&media_type))
}
