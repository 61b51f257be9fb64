use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::blob::fs::{FsStore, Limits};
use crate::ledger::MemoryLedger;
use crate::oci::manifest::fixtures;
use crate::oci::{ComputedDigest, ManifestKind, Registry};
use crate::pin::Content;
use crate::policy::matcher::{Matcher, TagMatcher};
use crate::policy::{Reaction, Rule};

/// A clock that panics when it is told to: whatever asks it dies.
#[derive(Default)]
struct BrokenClock(AtomicBool);

impl Clock for BrokenClock {
    fn wall_ms(&self) -> u64 {
        assert!(!self.0.load(Ordering::SeqCst), "as wanted");
        1
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
        settle: Duration::ZERO,
        recheck: Duration::from_hours(1),
        include_referrers: false,
    };
    Settings {
        policy: Policy { rules: vec![Arc::new(rule)] },
        upstreams: Upstreams::new(&BTreeMap::new()).unwrap(),
        stale_if_error: Duration::ZERO,
        offline: true,
    }
}

impl Stage {
    fn new(reaction: Reaction) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::<BrokenClock>::default();
        let limits = Limits { max_size_bytes: 0, min_free_bytes: 0 };
        let edges = Edges {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            store: Arc::new(FsStore::open(folder.path(), limits).unwrap()),
            links: Links::open(folder.path()).unwrap(),
            metrics: Arc::new(Metrics::new()),
            clock: clock.clone(),
        };
        Self { pull: Pull::new(edges, settings(reaction)), clock, _folder: folder }
    }

    async fn pin(&self) -> Content {
        let bytes = fixtures::image_json();
        let computed = ComputedDigest::of(bytes.as_bytes(), None);
        let media_type = ManifestKind::OciManifest.into();
        let manifest = StoredManifest::new(&computed, media_type, bytes.into());
        let content = manifest.content.clone();
        self.pull.edges.ledger.pin_if_absent(&key(), manifest, "rule 1").await.unwrap();
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
