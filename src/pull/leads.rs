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
use super::{Asker, Lock, Pull, place};
use crate::config::ListenerKind;
use crate::oci::{Digest, Manifest};
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
pub(super) type Spot = (Arc<str>, Digest);

/// What is remembered of it.
pub(super) struct Leads {
    /// What a locked digest leads to.
    named: moka::sync::Cache<Spot, Arc<Named>>,
    /// What refers to such content.
    pub(super) referring: moka::sync::Cache<Spot, ()>,
    /// The configs and layers of that: never manifests, whatever their bytes are.
    pub(super) attached: moka::sync::Cache<Spot, ()>,
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
            referring: newest(REFERRING),
            attached: newest(REFERRING),
        }
    }
}

impl Pull {
    /// Whether a digest may be had from this repository.
    ///
    /// # Errors
    /// [`Reason::PinRequired`] if locked content does not lead to it; the upstream's trouble, if
    /// that kept this from being seen. On a mirror that is [`Reason::PinRequired`], too: a plain
    /// error sends the client to the registry, for content that nobody has seen to be locked.
    pub(super) async fn pass(
        self: &Arc<Self>,
        asker: &Asker,
        origin: &Origin,
        digest: Digest,
        sought: Sought,
    ) -> Result<(), Refusal> {
        let passed = self.look_whether_it_passes(origin, digest, sought).await;
        passed.map_err(|why| match self.settings.load().lock.as_ref() {
            Some(lock) if asker.listener == ListenerKind::Mirror => {
                why.required(|| lock.requires_digest(origin, digest))
            }
            _ => why,
        })
    }

    async fn look_whether_it_passes(
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
        if self.passes(origin, roots, &digest, sought) {
            return Ok(());
        }
        self.read_roots(origin, roots, Scope::Kept, &digest).await?;
        if self.passes(origin, roots, &digest, sought) {
            return Ok(());
        }
        let referrer = match sought {
            Sought::Manifest => self.referrer(origin, digest).await?,
            Sought::Content => None,
        };
        if self.refers(origin, roots, referrer.as_ref()).await? {
            return Ok(());
        }
        self.read_roots(origin, roots, Scope::All, &digest).await?;
        if self.passes(origin, roots, &digest, sought)
            || self.refers(origin, roots, referrer.as_ref()).await?
        {
            return Ok(());
        }
        Err(self.trouble(origin, roots).unwrap_or_else(required))
    }

    fn passes(
        &self,
        origin: &Origin,
        roots: &HashSet<Digest>,
        digest: &Digest,
        sought: Sought,
    ) -> bool {
        let spot = (place(&origin.upstream.name, &origin.repository), *digest);
        let is_attached =
            sought == Sought::Content && self.memory.leads.attached.contains_key(&spot);
        is_attached || self.leads_to(origin, roots, digest)
    }

    /// Whether it is known that locked content leads to a digest.
    pub(super) fn leads_to(
        &self,
        origin: &Origin,
        roots: &HashSet<Digest>,
        digest: &Digest,
    ) -> bool {
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

    /// The refusal of what cannot be looked up in the file, since it could not be understood, or
    /// something failed here.
    pub fn requires_sense(&self, why: Refusal) -> Refusal {
        let required = || {
            let words =
                format!("this is not in the lock file {}, and nothing else passes", self.name);
            Refusal::new(Reason::PinRequired, words)
        };
        why.required(required)
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

impl Refusal {
    /// The same as a refusal of what is not in the lock file, in words that tell both.
    pub(super) fn required(self, required: impl FnOnce() -> Self) -> Self {
        if self.reason == Reason::PinRequired {
            return self;
        }
        let required = required();
        let message = format!("{} (it could not be seen: {})", required.message, self.message);
        Self { message, retry_after: self.retry_after, ..required }
    }
}

/// A set that forgets what was not looked at for longest.
fn newest(capacity: u64) -> moka::sync::Cache<Spot, ()> {
    let lru = moka::policy::EvictionPolicy::lru();
    moka::sync::Cache::builder().max_capacity(capacity).eviction_policy(lru).build()
}

/// The first of the upstream's troubles, else any gap.
fn trouble_of(closure: &Closure) -> Option<Refusal> {
    let is_lasting =
        |why: &Refusal| matches!(why.reason, Reason::ManifestUnknown | Reason::UpstreamInvalid);
    closure.gaps.iter().map(|gap| &gap.why).min_by_key(|why| is_lasting(why)).cloned()
}
