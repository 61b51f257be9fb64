//! What each reaction gives a client when the upstream answers something else: the table of the
//! design, section 3, against a scripted registry.

use std::collections::BTreeSet;

use crate::support::content::Image;
use crate::support::http::{Call, head};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";
const ANY: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json";

/// A registry with `app:1.0.0` at image A, and B ready to be moved to.
struct Stage {
    registry: ScriptedRegistry,
    a: Image,
    b: Image,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let b = Image::new("b");
        registry.put_image("app", &b);
        Self { registry, a, b }
    }

    fn immutag(&self, reaction: &str) -> Immutag {
        Setup::new().upstream(REGISTRY, &self.registry.url()).every_tag(reaction, "0s").start()
    }

    fn move_tag(&self) {
        self.registry.retag("app", "1.0.0", self.b.digest());
    }
}

#[test]
fn record_gives_what_the_upstream_says_and_writes_each_new_digest_down() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("record");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    stage.move_tag();
    let moved = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(moved.digest(), stage.b.digest());
    assert_eq!(moved.field("warning"), None);
    immutag.wait_for_metric("immutag_events_total", "observed", 2.0);
    immutag.assert_alive_and_clean();
}

#[test]
fn alert_gives_the_new_manifest_with_a_warning() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("alert");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    stage.move_tag();
    let moved = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(moved.digest(), stage.b.digest());
    let warning = moved.field("warning").expect("a warning").to_owned();
    assert!(warning.starts_with("299 - \"immutag: "), "{warning}");
    assert!(warning.contains(stage.a.digest()) && warning.contains(stage.b.digest()), "{warning}");
    assert!((immutag.metric("immutag_conflicts_total", "alert") - 1.0).abs() < f64::EPSILON);
    immutag.assert_alive_and_clean();
}

#[test]
fn hold_gives_what_was_recorded_and_warns_from_the_first_known_conflict_on() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("hold");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    stage.move_tag();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    let held = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((held.status, held.digest()), (200, stage.a.digest()));
    assert_eq!(held.body, stage.a.manifest.blob.bytes);
    let warning = held.field("warning").expect("a warning").to_owned();
    assert!(warning.contains(stage.b.digest()), "{warning}");
    assert!(immutag.log().contains("a tag moved"));
    immutag.assert_alive_and_clean();
}

#[test]
fn block_refuses_on_a_mirror_in_the_form_that_no_client_gets_round() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("block");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    stage.move_tag();
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let head = head(&url);
    assert_eq!(head.status, 300);
    assert!(head.reason.contains(stage.a.digest()), "{}", head.reason);
    assert!(head.reason.contains(stage.b.digest()), "{}", head.reason);
    assert_eq!(head.field("cache-control"), Some("no-store"));
    assert_eq!(head.field("location"), None);

    let tombstone = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((tombstone.status, tombstone.digest()), (200, head.digest()));
    assert_eq!(tombstone.field("content-type"), Some("application/vnd.oci.image.manifest.v1+json"));
    let config = tombstone.json()["config"].clone();
    let text = config["mediaType"].as_str().unwrap().to_owned();
    assert!(text.starts_with("application/vnd.immutag.blocked.v1+json; immutag: "), "{text}");
    assert!(text.contains("immutag ledger approve"), "{text}");

    let by_digest = immutag.manifest(REGISTRY, "app", tombstone.digest());
    assert_eq!((by_digest.status, &by_digest.body), (200, &tombstone.body));
    let blob = format!("app/blobs/{}?ns={REGISTRY}", config["digest"].as_str().unwrap());
    assert_eq!(Call::new("GET", &immutag.mirror(&blob)).send().status, 404);
    immutag.assert_alive_and_clean();
}

#[test]
fn block_refuses_on_a_direct_listener_with_plain_status_and_words() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("block");
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    stage.move_tag();
    let refused = immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(refused.status, 403);
    let error = refused.json()["errors"][0].clone();
    assert_eq!(error["code"], "MANIFEST_INVALID");
    assert!(error["message"].as_str().unwrap().starts_with("immutag: "), "{error}");
    assert_eq!(error["detail"]["reason"], "DIGEST_CHANGED");
    assert_eq!(error["detail"]["pinned"], stage.a.digest());
    assert_eq!(error["detail"]["observed"], stage.b.digest());
    assert!(error["detail"]["request-id"].is_string());
    let url = immutag.direct(&format!("{REGISTRY}/app/manifests/1.0.0"));
    let head = Call::new("HEAD", &url).field("accept", ANY).send();
    assert_eq!((head.status, head.field("immutag-reason")), (403, Some("DIGEST_CHANGED")));
    immutag.assert_alive_and_clean();
}

#[test]
fn no_two_refusals_have_one_request_id_whichever_listener_they_come_from() {
    let stage = Stage::new();
    let mut immutag = stage.immutag("block");
    let direct = immutag.direct("elsewhere.example/app/manifests/1");
    let mirror = immutag.mirror("app/manifests/1?ns=elsewhere.example");
    let id = |url| Call::new("GET", url).send().json()["errors"][0]["detail"]["request-id"].clone();
    let ids: BTreeSet<String> =
        [&direct, &mirror, &direct, &mirror].map(|url| id(url).to_string()).into();
    assert_eq!(ids.len(), 4, "{ids:?}");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_blocked_tag_is_served_again_when_the_upstream_is_back_at_the_pin() {
    let stage = Stage::new();
    let immutag = stage.immutag("block");
    immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    stage.move_tag();
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", "1.0.0").status, 403);
    stage.registry.retag("app", "1.0.0", stage.a.digest());
    let healed = immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((healed.status, healed.digest()), (200, stage.a.digest()));
    assert!((immutag.metric("immutag_events_total", "healed") - 1.0).abs() < f64::EPSILON);
    stage.move_tag();
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", "1.0.0").status, 403);
    assert!((immutag.metric("immutag_events_total", "flapped") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn every_way_in_leads_to_one_pin() {
    let stage = Stage::new();
    let immutag = Setup::new().docker_io(&stage.registry.url()).every_tag("hold", "1h").start();
    stage.registry.retag("library/app", "1.0.0", stage.a.digest());
    stage.registry.put_image("library/app", &stage.a);
    stage.registry.put_image("library/app", &stage.b);
    let mirror = immutag.addresses().mirror;
    let direct = immutag.addresses().direct;
    let ways = [
        format!("http://{mirror}/v2/library/app/manifests/1.0.0"),
        format!("http://{mirror}/v2/app/manifests/1.0.0"),
        format!("http://{mirror}/v2/library/app/manifests/1.0.0?ns=docker.io"),
        format!("http://{mirror}/v2/app/manifests/1.0.0?ns=registry-1.docker.io"),
        format!("http://{mirror}/v2/docker.io/library/app/manifests/1.0.0"),
        format!("http://{mirror}/docker.io/v2/library/app/manifests/1.0.0"),
        format!("http://{direct}/v2/docker.io/library/app/manifests/1.0.0"),
        format!("http://{direct}/v2/index.docker.io/app/manifests/1.0.0"),
    ];
    for (number, url) in ways.iter().enumerate() {
        let answer = Call::new("GET", url).field("accept", ANY).send();
        assert_eq!((answer.status, answer.digest()), (200, stage.a.digest()), "{url}");
        if number == 0 {
            stage.registry.retag("library/app", "1.0.0", stage.b.digest());
        }
    }
    assert!((immutag.metric("immutag_pins", "") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_pinned_and_fresh_tag_asks_no_upstream_and_survives_a_restart() {
    let mut stage = Stage::new();
    let mut immutag =
        Setup::new().upstream(REGISTRY, &stage.registry.url()).every_tag("hold", "1h").start();
    immutag.manifest(REGISTRY, "app", "1.0.0");
    // A pin's config is fetched and held after the reply.
    immutag.wait_for_metric("immutag_retained_total", "need=\"config\",outcome=\"kept\"", 1.0);
    stage.registry.forget_requests();
    for _ in 0..5 {
        assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    }
    assert_eq!(stage.registry.requests().len(), 0);
    immutag.restart();
    stage.move_tag();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    // The tag has moved: from now on its pin is served only while all of it is to be had.
    immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 1.0);
    stage.registry.stop();
    immutag.restart();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
}
