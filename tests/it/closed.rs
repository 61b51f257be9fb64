//! What keeps clients of a mirror closed: no refusal of a pinned tag sends them to the registry.

use crate::support::content::{Image, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

fn immutag(registry: &ScriptedRegistry, reaction: &str) -> Immutag {
    Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s").start()
}

/// Both verbs on the mirror refuse in the block's form, and the direct listener in words.
#[track_caller]
fn assert_closed(immutag: &Immutag, accept: &str, words: &str) {
    let ask = |method: &str, url: &str| Call::new(method, url).field("accept", accept).send();
    let mirror = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let head = ask("HEAD", &mirror);
    assert_eq!(head.status, 300, "{} {}", head.reason, head.digest());
    assert!(head.reason.contains("PINNED_CONTENT_GONE"), "{}", head.reason);
    assert!(head.reason.contains(words), "{}", head.reason);
    let tombstone = ask("GET", &mirror);
    assert_eq!((tombstone.status, tombstone.digest()), (200, head.digest()));
    let refused = ask("GET", &immutag.direct(&format!("{REGISTRY}/app/manifests/1.0.0")));
    assert_eq!((refused.status, reason(&refused)), (404, "PINNED_CONTENT_GONE".to_owned()));
    assert!(immutag.metric("immutag_possible_bypass_total", "").abs() < f64::EPSILON);
}

fn reason(answer: &Answer) -> String {
    answer.field("immutag-reason").unwrap_or_default().to_owned()
}

#[test]
fn a_young_tag_that_the_upstream_deleted_is_refused_so_that_nobody_goes_there() {
    for reaction in ["hold", "block"] {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let mut immutag = immutag(&registry, reaction);
        assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), a.digest());
        registry.delete_tag("app", "1.0.0");
        immutag.manifest(REGISTRY, "app", "1.0.0");
        immutag.wait_for_metric("immutag_events_total", "deleted", 1.0);
        assert_closed(&immutag, OCI_MANIFEST, "deleted");
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_tag_that_was_deleted_is_asked_for_again_before_it_is_refused() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = immutag(&registry, "hold");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), a.digest());
    registry.delete_tag("app", "1.0.0");
    immutag.manifest(REGISTRY, "app", "1.0.0");
    immutag.wait_for_metric("immutag_events_total", "deleted", 1.0);
    let b = registry.push_image("app", "1.0.0", "b");
    let held = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((held.status, held.digest()), (200, a.digest()));
    assert!(held.field("warning").is_some_and(|warning| warning.contains(b.digest())));
}

#[test]
fn a_child_of_the_pin_that_is_not_to_be_had_closes_the_tag_to_who_needs_it() {
    let mut registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["arm64", "amd64"]);
    let immutag = immutag(&registry, "hold");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), index.digest());
    registry.delete("app", index.images[1].digest());
    assert_closed(&immutag, OCI_MANIFEST, index.images[1].digest());
    registry.stop();
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    assert_eq!(Call::new("HEAD", &url).field("accept", OCI_MANIFEST).send().status, 300);
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), index.digest());
}

#[test]
fn an_index_without_linux_amd64_closes_the_tag_to_who_takes_none() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["arm64"]);
    let immutag = immutag(&registry, "hold");
    assert_closed(&immutag, OCI_MANIFEST, "linux/amd64");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), index.digest());
}

/// Bytes that a recorded tag may have and a covered one may not.
fn ambiguous() -> Manifest {
    let index = Index::new("ambiguous", &["amd64"]).manifest;
    let text = String::from_utf8(index.blob.bytes.to_vec()).expect("it is JSON");
    let text = text.replacen('{', "{\"layers\":[],", 1);
    Manifest::new(&index.media_type, text)
}

/// An immutag that served `manifest` under `record`, which is told again by `hold`.
fn turned(registry: &ScriptedRegistry, manifest: &Manifest, between: impl FnOnce()) -> Immutag {
    registry.put_manifest("app", manifest);
    registry.retag("app", "1.0.0", manifest.digest());
    let mut immutag = immutag(registry, "record");
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), manifest.digest());
    immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    assert!(immutag.terminate().success());
    std::fs::remove_dir_all(immutag.data_dir().join("cache")).expect("it is there");
    between();
    immutag.restart_with(|setup| setup.without_rules().every_tag("hold", "0s"));
    immutag
}

#[test]
fn a_pin_whose_bytes_turn_out_to_be_ambiguous_closes_the_tag() {
    let registry = ScriptedRegistry::start();
    let manifest = ambiguous();
    let immutag = turned(&registry, &manifest, || {
        registry.delete("app", manifest.digest());
        registry.push_image("app", "1.0.0", "b");
    });
    assert_closed(&immutag, OCI_INDEX, manifest.digest());
    registry.put_manifest("app", &manifest);
    assert_closed(&immutag, OCI_INDEX, manifest.digest());
    // By its digest it is to be had as it is, and nothing that this leaves here opens the tag.
    assert_eq!(immutag.manifest(REGISTRY, "app", manifest.digest()).body, manifest.blob.bytes);
    assert_closed(&immutag, OCI_INDEX, manifest.digest());
}

#[test]
fn what_was_recorded_and_may_not_be_pinned_is_no_pin_to_judge_by() {
    let registry = ScriptedRegistry::start();
    let b = Image::new("b");
    let immutag = turned(&registry, &ambiguous(), || {
        registry.put_image("app", &b);
        registry.retag("app", "1.0.0", b.digest());
    });
    let pinned = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((pinned.status, pinned.digest()), (200, b.digest()), "{}", pinned.text());
    assert!(immutag.metric("immutag_conflicts_total", "").abs() < f64::EPSILON);
}

#[test]
fn what_the_upstream_calls_a_pins_content_elsewhere_changes_nothing() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64"]);
    let rules = "[[rule]]\ntag = { glob = \"1.*\" }\non-conflict = \"hold\"\n\
                 [[rule]]\non-conflict = \"record\"\n";
    let immutag = Setup::new().upstream(REGISTRY, &registry.url()).rules(rules).start();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), index.digest());
    registry.fault("GET manifests/", Fault::field("Content-Type", "text/plain"));
    for (digest, media_type) in
        [(index.digest(), OCI_INDEX), (index.images[0].digest(), OCI_MANIFEST)]
    {
        registry.retag("app", "elsewhere", digest);
        let recorded = immutag.manifest(REGISTRY, "app", "elsewhere");
        assert_eq!(recorded.field("content-type"), Some("text/plain"), "as the upstream says");
        let pinned = immutag.manifest(REGISTRY, "app", digest);
        assert_eq!((pinned.digest(), pinned.field("content-type")), (digest, Some(media_type)));
    }
}
