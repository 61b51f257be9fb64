//! The tripwire: whoever asks for the digest that was just refused to it went round immutag.

use serde_json::Value;

use crate::support::content::Image;
use crate::support::http::{Call, head};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

struct Stage {
    immutag: Immutag,
    registry: ScriptedRegistry,
    b: Image,
}

impl Stage {
    /// A blocked tag that has moved to image B.
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        registry.push_image("app", "1.0.0", "a");
        let immutag =
            Setup::new().upstream(REGISTRY, &registry.url()).every_tag("block", "0s").start();
        immutag.manifest(REGISTRY, "app", "1.0.0");
        let b = registry.push_image("app", "1.0.0", "b");
        Self { immutag, registry, b }
    }

    fn ask(&self, method: &str, reference: &str) -> u16 {
        let url = self.immutag.mirror(&format!("app/manifests/{reference}?ns={REGISTRY}"));
        Call::new(method, &url).send().status
    }

    fn bypasses(&self) -> u64 {
        let counted = self.immutag.metric("immutag_bypasses_total", "");
        [0.0, 1.0, 2.0, 3.0].into_iter().zip(0..).find(|it| it.0 >= counted).expect("few").1
    }

    fn history(&self) -> Vec<Value> {
        let ran = self.immutag.cli(&["ledger", "history", "registry.example/app:1.0.0"]).ok();
        ran.stdout.lines().map(|line| line.parse().expect("JSON lines")).collect()
    }
}

#[test]
fn a_client_that_was_refused_and_asks_for_the_digest_is_told_with_who_it_is() {
    let mut stage = Stage::new();
    assert_eq!(stage.ask("HEAD", "1.0.0"), 300);
    // It is served: somebody's own digest is lawful, and refusing it would keep nothing from it.
    assert_eq!(stage.ask("HEAD", stage.b.digest()), 200);
    assert_eq!(stage.ask("GET", stage.b.digest()), 200);
    assert_eq!(stage.bypasses(), 1, "one client, one bypass");
    stage.immutag.wait_for_log("a client goes round immutag");
    stage.immutag.wait_for_metric("immutag_events_total", "bypassed", 1.0);
    let last = stage.history().pop().expect("events");
    assert_eq!((&last["kind"], &last["who"]), (&"bypassed".into(), &"127.0.0.1".into()));
    assert_eq!(last["observed"]["digest"], stage.b.digest());
    // It goes on, and is counted, but the ledger does not grow by it.
    assert_eq!(stage.ask("HEAD", "1.0.0"), 300);
    assert_eq!(stage.ask("HEAD", stage.b.digest()), 200);
    assert_eq!(stage.bypasses(), 2);
    let told = stage.history().iter().filter(|event| event["kind"] == "bypassed").count();
    assert_eq!(told, 1);
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn asking_for_a_digest_that_was_not_refused_is_lawful() {
    let stage = Stage::new();
    // Nobody was refused yet.
    assert_eq!(stage.ask("GET", stage.b.digest()), 200);
    assert_eq!(stage.ask("HEAD", "1.0.0"), 300);
    // Another digest, and the same one in another repository.
    let c = stage.registry.push_image("app", "2.0.0", "c");
    assert_eq!(stage.ask("GET", c.digest()), 200);
    stage.registry.put_image("other", &stage.b);
    let other =
        stage.immutag.mirror(&format!("other/manifests/{}?ns={REGISTRY}", stage.b.digest()));
    assert_eq!(head(&other).status, 200);
    assert_eq!(stage.bypasses(), 0);
    // A plain refusal on the direct listener is read by a person, and arms nothing.
    let stage = Stage::new();
    assert_eq!(stage.immutag.direct_manifest(REGISTRY, "app", "1.0.0").status, 403);
    assert_eq!(stage.immutag.direct_manifest(REGISTRY, "app", stage.b.digest()).status, 200);
    assert_eq!(stage.bypasses(), 0);
}

#[test]
fn a_digest_that_another_tag_gave_the_client_is_lawful() {
    // A publisher's `1.0.0` moves to what is `latest`, and a client pulls both: containerd and
    // Docker ask for `latest` by HEAD, then for the digest that it gave.
    for latest_first in [true, false] {
        let stage = Stage::new();
        stage.registry.retag("app", "latest", stage.b.digest());
        let mut tags = [("latest", 200), ("1.0.0", 300)];
        if !latest_first {
            tags.reverse();
        }
        for (tag, status) in tags {
            assert_eq!(stage.ask("HEAD", tag), status);
        }
        assert_eq!(stage.ask("GET", stage.b.digest()), 200);
        assert_eq!(stage.bypasses(), 0, "latest first: {latest_first}");
    }
}
