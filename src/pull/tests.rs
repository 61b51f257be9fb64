use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod standing;

use super::*;
use crate::blob::fs::{FsStore, Limits};
use crate::ledger::MemoryLedger;
use crate::oci::manifest::fixtures;
use crate::oci::{ComputedDigest, ManifestKind, Registry};
use crate::pin::Content;
use crate::policy::matcher::{Matcher, TagMatcher};
use crate::policy::{Reaction, Rule};
use crate::units::{DiskSize, Percent};

/// A clock that panics when it is told to: whatever asks it dies. It is moved by the second.
#[derive(Default)]
struct BrokenClock(AtomicBool, AtomicU64);

impl Clock for BrokenClock {
    fn wall_ms(&self) -> u64 {
        assert!(!self.0.load(Ordering::SeqCst), "as wanted");
        1 + self.1.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }
}

struct Stage {
    pull: Arc<Pull>,
    clock: Arc<BrokenClock>,
    _folder: tempfile::TempDir,
}

fn settings(reaction: Reaction) -> Settings {
    let rule = Rule {
        name: "rule 1".into(),
        matcher: Matcher::everywhere(TagMatcher::Any),
        reaction,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: Duration::from_hours(1),
        include_referrers: false,
        is_exact: false,
    };
    Settings {
        lock: None,
        policy: Policy { rules: vec![Arc::new(rule)] },
        upstreams: Upstreams::new(&BTreeMap::new()).unwrap(),
        stale_if_error: Duration::ZERO,
        offline: true,
        audit_interval: Duration::ZERO,
        retain: Retention::Pulled,
        retain_idle: Duration::ZERO,
        max_fills: 128,
        finish_from: Percent(25),
    }
}

impl Stage {
    fn new(reaction: Reaction) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::<BrokenClock>::default();
        let limits = Limits { max_size: DiskSize::Bytes(0), min_free: DiskSize::Bytes(0) };
        let edges = Edges {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            store: Arc::new(FsStore::open(folder.path(), limits).unwrap()),
            links: Arc::new(Links::open(folder.path()).unwrap()),
            metrics: Arc::new(Metrics::new()),
            clock: clock.clone(),
        };
        Self { pull: Pull::new(edges, settings(reaction)), clock, _folder: folder }
    }

    async fn pin(&self) -> Content {
        self.pin_at(key()).await
    }

    async fn pin_at(&self, key: PinKey) -> Content {
        let bytes = fixtures::image_json();
        let computed = ComputedDigest::of(bytes.as_bytes(), None);
        let media_type = ManifestKind::OciManifest.into();
        let manifest = StoredManifest::new(&computed, media_type, bytes.into());
        let content = manifest.content.clone();
        self.pull.edges.ledger.pin_if_absent(&key, manifest, "rule 1").await.unwrap();
        content
    }

    fn request(&self) -> ManifestRequest {
        let PinKey { registry, repository, tag } = key();
        ManifestRequest {
            upstream: self.pull.settings().upstreams.locate(&registry).unwrap(),
            repository,
            reference: ManifestReference::Tag(tag),
            is_head: false,
            accept: Accept::default(),
            accept_text: None,
            asker: Asker {
                listener: ListenerKind::Mirror,
                client: IpAddr::from([127, 0, 0, 1]),
                credential: None,
            },
        }
    }
}

fn key() -> PinKey {
    PinKey {
        registry: Registry::docker_io(),
        repository: "library/app".parse().unwrap(),
        tag: "1.0.0".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_panic_on_the_way_of_a_covered_tag_is_a_refusal_of_ours() {
    let stage = Stage::new(Reaction::Hold);
    stage.pin().await;
    assert!(stage.pull.manifest(stage.request()).await.is_ok());
    stage.clock.0.store(true, Ordering::SeqCst);
    let refusal = stage.pull.manifest(stage.request()).await.unwrap_err();
    assert!(refusal.reason.is_ours() && refusal.key == Some(key()), "{refusal:?}");
}

#[tokio::test]
async fn what_was_relayed_before_a_rule_turned_stricter_takes_no_pin_away() {
    let scene = Stage::new(Reaction::Record);
    scene.pull.reload(settings(Reaction::Hold));
    let pinned = scene.pin().await;
    let other = Content { digest: Digest::sha256([7; 32]), ..pinned.clone() };
    scene.pull.write_observed(&key(), other).await;
    let state = scene.pull.edges.ledger.state(&key()).await.unwrap().unwrap();
    assert_eq!(state.pin.as_ref().map(|pin| &pin.content), Some(&pinned));
}

#[tokio::test]
async fn a_recorded_tag_that_is_new_each_time_does_not_fill_the_ledger() {
    let stage = Stage::new(Reaction::Record);
    let pinned = stage.pin().await;
    for number in 0..100 {
        let other = Content { digest: Digest::sha256([number; 32]), ..pinned.clone() };
        stage.pull.write_observed(&key(), other).await;
    }
    let events = stage.pull.edges.ledger.history(&key()).await.unwrap();
    assert_eq!(events.len(), 1 + 12, "{events:?}");
}

#[test]
fn a_host_with_a_network_of_addresses_is_one_client_to_the_tripwire() {
    let stage = Stage::new(Reaction::Block);
    let digest = Digest::sha256([7; 32]);
    let refusal = Refusal { observed: Some(digest), ..Refusal::new(Reason::DigestChanged, "x") };
    let asks_from = |client: &str| {
        let request = stage.request();
        let asker = Asker { client: client.parse().unwrap(), ..request.asker.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { stage.pull.trip(&ManifestRequest { asker, ..request }, digest) });
        stage.pull.edges.metrics.bypasses.get()
    };
    stage.pull.arm("fd00:0:0:1::1".parse().unwrap(), &refusal.of(&key()));
    assert_eq!(asks_from("fd00:0:0:2::1"), 0);
    assert_eq!(asks_from("fd00:0:0:1:ffff::2"), 1);
    let told = |network: u16| {
        let client = one_client(IpAddr::from([0xfd00, 0, 0, network, 0, 0, 0, 1]));
        stage.pull.memory.tripwire.has_told(client, digest, &key())
    };
    assert!(told(1) && !told(2), "another address of the network is nothing new for the ledger");
}

#[tokio::test]
async fn a_canary_that_a_killed_process_left_is_forgotten_and_nothing_else_is() {
    let stage = Stage::new(Reaction::Hold);
    let registry = canary::REGISTRY.parse().unwrap();
    let repository = "immutag-canary/0123456789abcdef".parse().unwrap();
    let left = PinKey { registry, repository, ..key() };
    stage.pin().await;
    stage.pin_at(left.clone()).await;
    let has_pin = async |key: &PinKey| {
        stage.pull.edges.ledger.state(key).await.unwrap().unwrap().pin.is_some()
    };
    let placed = stage.pull.place_canary(1, "0123456789abcdef").unwrap();
    Arc::clone(&stage.pull).resume_completions().await;
    assert!(has_pin(&left).await, "it is in use");
    drop(placed);
    Arc::clone(&stage.pull).resume_completions().await;
    assert!(!has_pin(&left).await && has_pin(&key()).await);
}
