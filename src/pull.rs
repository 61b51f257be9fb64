//! The pull path: the two straight lines of the design, without a word of HTTP.
//!
//! A manifest by tag: rule → `record` relays, everything else asks the ledger first and serves
//! only what is durable there. A manifest by digest: bytes that hash to it. A blob: the stored
//! file, or the running fill.

mod asking;
mod attached;
mod audited;
mod blob;
mod by_digest;
mod canary;
mod claim;
mod closure;
mod complete;
mod covered;
mod explain;
mod filling;
mod flights;
mod hint;
mod idle;
mod keep;
mod leads;
mod listing;
mod lock;
mod locked;
mod merging;
mod pending;
mod permit;
mod places;
mod quota;
mod recorded;
mod referring;
mod refusal;
mod reply;
mod resume;
mod retain;
mod sight;
mod standing;
mod sure;
mod tripwire;
mod walk;
mod warm;
mod whole;
mod writing;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt as _;

pub use audited::Looked;
pub use blob::{BlobBody, BlobReply, BlobRequest, OnItsWay, Span};
pub use canary::{CANARY_TAGS, CanaryError, CanaryGuard, is_canary};
pub use explain::Reader;
pub use listing::{ListReply, ListRequest};
pub use lock::Lock;
pub use refusal::{Reason, Refusal};
pub use reply::ManifestReply;
pub use resume::Arriving;
pub use standing::Standing;
pub use tripwire::one_client;
pub use warm::{WarmPlatform, WarmProgress, Warmed};

use crate::blob::BlobStore;
use crate::blob::links::Links;
use crate::clock::Clock;
use crate::config::{ListenerKind, Retention};
use crate::ledger::{LedgerStore, StoredManifest};
use crate::metrics::Metrics;
use crate::oci::{Accept, Digest, ManifestReference, Registry, Repository};
use crate::pin::PinKey;
use crate::policy::{Decision, Policy};
use crate::units::Percent;
use crate::upstream::{ClientCredential, CredentialKey, Upstream, Upstreams};

/// What a reload may change.
pub struct Settings {
    /// The effective rules.
    pub policy: Policy,
    /// The lock file, if there is one.
    pub lock: Option<Arc<Lock>>,
    /// The upstreams.
    pub upstreams: Upstreams,
    /// How long recorded tags get the last verified answer while their upstream fails.
    pub stale_if_error: Duration,
    /// Ask no upstream.
    pub offline: bool,
    /// How often each tag is asked for, whether it is pulled or not; 0: never.
    pub audit_interval: Duration,
    /// What is kept of what a pin needs.
    pub retain: Retention,
    /// Held content that nobody pulled for this long may be let go; 0: it never is.
    pub retain_idle: Duration,
    /// How many blobs are fetched at once; counts when the process starts.
    pub max_fills: usize,
    /// What share of a blob must be here for its fetch to go on when nobody reads it any more.
    pub finish_from: Percent,
}

/// What the pull path works with.
pub struct Edges {
    /// The ledger.
    pub ledger: Arc<dyn LedgerStore>,
    /// The blob store.
    pub store: Arc<dyn BlobStore>,
    /// Which repository may see which digest.
    pub links: Arc<Links>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The pull path.
pub struct Pull {
    edges: Edges,
    settings: ArcSwap<Settings>,
    canary: ArcSwapOption<canary::Canary>,
    /// How often settings or canary changed, and what content is called.
    turns: AtomicU64,
    memory: Memory,
}

/// What is remembered, bounded, and lost with the process: no decision rests on it alone.
struct Memory {
    /// When each covered tag's upstream was asked.
    asked: moka::sync::Cache<PinKey, Arc<covered::Asked>>,
    /// Manifests by digest, weighed in bytes.
    manifests: moka::sync::Cache<Digest, StoredManifest>,
    /// Digests that an upstream's HEAD named for a recorded tag, until the GET by digest comes.
    claims: moka::sync::Cache<(Arc<str>, Digest), PinKey>,
    /// Tags whose invalid answers were written down within the hour.
    invalid: moka::sync::Cache<PinKey, ()>,
    /// How often recorded tags moved within the hour.
    merging: merging::Merging,
    /// Content that pins need, by repository.
    kept: moka::sync::Cache<(Arc<str>, Digest), keep::Mark>,
    /// How many of these marks were made.
    marks_made: AtomicU64,
    /// Content that is held, with its link, by repository.
    held: moka::sync::Cache<(Arc<str>, Digest), ()>,
    /// When an upstream accepted credentials for a repository, by the monotonic clock.
    permits: moka::sync::Cache<(Arc<str>, Holder), Duration>,
    sights: flights::Flights<(PinKey, Holder), Result<Arc<crate::pin::TagState>, Refusal>>,
    manifest_fetches: flights::Flights<(Arc<str>, Holder, Digest), Result<StoredManifest, Refusal>>,
    fills: filling::Fills,
    looks: flights::Flights<(Arc<str>, Holder, Digest, closure::Scope), Arc<closure::Closure>>,
    heads: flights::Flights<(Arc<str>, Holder, Digest), Result<(), Refusal>>,
    /// Blobs of a repository that its upstream had within the minute.
    upstream_has: moka::sync::Cache<(Arc<str>, Digest), ()>,
    /// Blobs of a repository that its upstream said it had, and gave otherwise, cut or not at all.
    spoilt: moka::sync::Cache<(Arc<str>, Digest), ()>,
    /// Manifests of a repository that lead to some that were not to be had within the minute.
    unread: moka::sync::Cache<(Arc<str>, Digest), ()>,
    /// Stored content that was hashed because a manifest claims another length.
    hashed: moka::sync::Cache<Digest, ()>,
    /// Pins whose content was completed, or tried to be, within ten minutes.
    completed: moka::sync::Cache<(PinKey, u64, retain::Need), ()>,
    /// Room for completions, for each upstream: none keeps another's tags waiting.
    completions: moka::sync::Cache<(Registry, retain::Need), Arc<tokio::sync::Semaphore>>,
    /// Room for what waits to be fetched for pins.
    chores: Arc<tokio::sync::Semaphore>,
    /// Holding and letting go keep out of each other's way.
    letting_go: idle::Gate,
    /// Something that a pin needs was lost, or other settings want more to be kept.
    wants_walk: tokio::sync::Notify,
    tripwire: tripwire::Tripwire,
    /// How many new tags each upstream brought within the hour.
    quota: quota::Quota,
    /// The counter of answers from what is here, found once.
    manifest_hits: prometheus::IntCounter,
    started: Duration,
    /// What locked content leads to.
    leads: leads::Leads,
    /// The time by which waits end.
    sure: sure::Sure,
}

/// Which way a tag goes.
enum Way {
    /// Under `alert`, `hold` or `block`.
    Covered(Arc<crate::policy::Rule>),
    /// Mutable by specification.
    Exempt,
    /// Under `record`, or under no rule.
    Recorded,
    /// Not in the lock file, where nothing else passes.
    Unlocked,
}

/// Who asks, and how.
#[derive(Clone)]
pub struct Asker {
    /// The kind of listener that the request came in by.
    pub listener: ListenerKind,
    /// The client's address.
    pub client: IpAddr,
    /// The client's own credentials, where the upstream takes those.
    pub credential: Option<ClientCredential>,
}

/// A request for a manifest.
pub struct ManifestRequest {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The repository, canonical.
    pub repository: Repository,
    /// Tag or digest.
    pub reference: ManifestReference,
    /// Only the header is wanted.
    pub is_head: bool,
    /// What the client accepts.
    pub accept: Accept,
    /// The same as the client wrote it, its lines joined.
    pub accept_text: Option<String>,
    /// Who asks.
    pub asker: Asker,
}

impl ManifestRequest {
    fn origin(&self) -> asking::Origin {
        self.asker.origin(&self.upstream, &self.repository)
    }
}

impl Pull {
    /// A pull path with nothing remembered.
    pub fn new(edges: Edges, settings: Settings) -> Arc<Self> {
        let memory = Memory::new(&edges, settings.max_fills);
        let (settings, canary) = (ArcSwap::from_pointee(settings), ArcSwapOption::empty());
        Arc::new(Self { edges, settings, canary, turns: AtomicU64::new(0), memory })
    }

    /// Takes new settings; requests under way keep theirs.
    pub fn reload(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.mark_anew();
        self.memory.wants_walk.notify_one();
        self.turn();
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// What it works with.
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// Answers a request for a manifest.
    pub async fn manifest(
        self: &Arc<Self>,
        request: ManifestRequest,
    ) -> Result<ManifestReply, Refusal> {
        let epoch = self.epoch_of(&request);
        let tag = match &request.reference {
            ManifestReference::Digest(digest) => {
                let digest = *digest;
                self.trip(&request, digest);
                return self.manifest_by_digest(request, digest, epoch).await;
            }
            ManifestReference::Tag(tag) => tag.clone(),
        };
        let key = PinKey {
            registry: request.upstream.name.clone(),
            repository: request.repository.clone(),
            tag,
        };
        let client = request.asker.client;
        let reply = match self.decide(&key) {
            Way::Covered(rule) => {
                let is_locked = rule.is_exact;
                // A connection that breaks off sends a client to the real registry.
                let covered = async {
                    if is_locked {
                        return self.locked(request, key.clone(), rule, epoch).await;
                    }
                    self.covered(request, key.clone(), rule, epoch).await
                };
                let caught = AssertUnwindSafe(covered).catch_unwind().await;
                caught.unwrap_or_else(|_| Err(crashed(&key)))
            }
            Way::Exempt => self.uncovered(request, None).await,
            Way::Recorded => self.uncovered(request, Some(key)).await,
            Way::Unlocked => self.unlocked(request, &key).await,
        };
        if let Ok(ManifestReply { digest: Some(digest), .. }) = &reply {
            self.give(client, *digest);
        }
        reply
    }

    fn decide(&self, key: &PinKey) -> Way {
        if let Some(rule) = self.canary_rule(key) {
            return Way::Covered(rule);
        }
        let settings = self.settings.load();
        match &settings.lock {
            Some(lock) if lock.tag(key).is_some() => return Way::Covered(Arc::clone(lock.rule())),
            Some(lock) if lock.is_locked => return Way::Unlocked,
            _ => {}
        }
        match settings.policy.decide(key) {
            Decision::Ruled(rule) if rule.reaction.is_covered() => Way::Covered(Arc::clone(rule)),
            Decision::Exempt => Way::Exempt,
            Decision::Ruled(_) | Decision::Unmatched => Way::Recorded,
        }
    }
}

impl Memory {
    fn new(edges: &Edges, max_fills: usize) -> Self {
        const MANIFEST_BYTES: u64 = 32 << 20;
        let minute = Duration::from_mins(1);
        let weigh = |_: &Digest, manifest: &StoredManifest| {
            u32::try_from(manifest.bytes.len() + 256).unwrap_or(u32::MAX)
        };
        Self {
            asked: moka::sync::Cache::new(200_000),
            manifests: moka::sync::Cache::builder()
                .max_capacity(MANIFEST_BYTES)
                .weigher(weigh)
                .build(),
            claims: remembering(10_000, minute),
            invalid: remembering(10_000, Duration::from_hours(1)),
            merging: merging::Merging::default(),
            // The newest always has room: what it marks is pulled next.
            kept: moka::sync::Cache::builder()
                .max_capacity(keep::MARKS)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
            marks_made: AtomicU64::new(0),
            held: moka::sync::Cache::new(100_000),
            permits: moka::sync::Cache::new(100_000),
            sights: flights::Flights::default(),
            manifest_fetches: flights::Flights::default(),
            fills: filling::Fills::new(max_fills),
            looks: flights::Flights::default(),
            heads: flights::Flights::default(),
            upstream_has: remembering(100_000, minute),
            completed: remembering(100_000, 10 * minute),
            spoilt: remembering(100_000, 10 * minute),
            unread: remembering(100_000, minute),
            hashed: remembering(100_000, Duration::from_hours(1)),
            completions: moka::sync::Cache::new(10_000),
            chores: Arc::new(tokio::sync::Semaphore::new(retain::CHORES)),
            letting_go: idle::Gate::default(),
            wants_walk: tokio::sync::Notify::new(),
            tripwire: tripwire::Tripwire::default(),
            quota: quota::Quota::default(),
            manifest_hits: edges.metrics.cache_hits.with_label_values(&["manifest"]),
            started: edges.clock.monotonic(),
            leads: leads::Leads::default(),
            sure: sure::Sure::new(&*edges.clock),
        }
    }
}

/// What is remembered for a while: at most `capacity` entries, each for `span`.
fn remembering<K, V>(capacity: u64, span: Duration) -> moka::sync::Cache<K, V>
where
    K: Eq + std::hash::Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder().max_capacity(capacity).time_to_live(span).build()
}

fn crashed(key: &PinKey) -> Refusal {
    tracing::error!(%key, "immutag's own code panicked; the tag is refused");
    Refusal::new(Reason::Overloaded, "immutag failed at this tag; see its log").of(key)
}

/// Whose credentials something was got with; `None`: nobody's, or the operator's own.
type Holder = Option<CredentialKey>;

/// A repository of an upstream, as memory knows it.
fn place(registry: &Registry, repository: &Repository) -> Arc<str> {
    format!("{registry}/{repository}").into()
}

#[cfg(test)]
mod tests;
