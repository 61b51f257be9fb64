//! `immutag check REF:TAG@DIGEST`: clients ask for the digest alone, so the tag in front of it can
//! say anything (containerd #6450). `check` tells what it is.

use serde_json::Value;

use crate::support::content::{Image, Index};
use crate::support::docker_registry::DockerRegistry;
use crate::support::immutag::Immutag;
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

/// `app:1` is an index, `app:2` an image; both were pulled through immutag, under hold.
struct Stage {
    registry: ScriptedRegistry,
    one: Index,
    two: Image,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let one = registry.push_index("app", "1", "one", &["amd64", "arm64"]);
        let two = registry.push_image("app", "2", "two");
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
        let immutag = setup.start();
        for tag in ["1", "2"] {
            immutag.manifest(REGISTRY, "app", tag).digest();
        }
        Self { registry, one, two, immutag }
    }

    /// The exit code and the one finding.
    fn check(&self, tag: &str, digest: &str, options: &[&str]) -> (i32, Value) {
        let reference = format!("registry.example/app:{tag}@{digest}");
        let ran = self.immutag.cli(&[&["check", &reference][..], options].concat());
        finding(&ran)
    }
}

fn finding(ran: &Ran) -> (i32, Value) {
    let finding = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran.status.code().expect("it ended by itself"), finding)
}

#[track_caller]
fn assert_is(found: &(i32, Value), code: i32, expected: &Value) {
    let (is, finding) = found;
    for (name, value) in expected.as_object().expect("a table of fields") {
        assert_eq!(finding[name], *value, "{name} of {finding:#}");
    }
    assert_eq!(*is, code, "{finding:#}");
}

#[test]
fn a_tag_that_points_to_the_digest_or_to_an_index_that_names_it_is_a_match() {
    let stage = Stage::new();
    let found = stage.check("1", stage.one.digest(), &[]);
    let there = serde_json::json!({ "found": "match", "tag-is": "there", "digest-is": "this-tag" });
    assert_is(&found, 0, &there);
    assert_eq!(found.1["ledger"]["pin"], stage.one.digest());
    let arm = &stage.one.images[1];
    let inside = serde_json::json!({
        "found": "match", "tag-is": "elsewhere", "digest-is": "platform-of-this-tag",
        "platform": "linux/arm64", "observed": stage.one.digest(),
    });
    assert_is(&stage.check("1", arm.digest(), &[]), 0, &inside);
}

/// The ledger of a job is in its server's memory: there is nothing on the disk to find it by.
#[test]
fn a_ledger_in_memory_is_asked_while_its_server_runs() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1", "one");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
    let immutag = setup.tables("[ledger]\nstore = \"memory\"\n").start();
    immutag.manifest(REGISTRY, "app", "1").digest();
    let ran = immutag.cli(&["check", "registry.example/app:1"]);
    let pinned = serde_json::json!({ "found": "match", "expected": image.digest() });
    assert_is(&finding(&ran), 0, &pinned);
    assert!(!ran.stderr.contains("there is no ledger"), "{ran:?}");
}

#[test]
fn a_tag_that_points_elsewhere_is_told_with_where_and_since_when() {
    let stage = Stage::new();
    let new = Image::new("new");
    stage.registry.put_image("app", &new);
    stage.registry.retag("app", "2", new.digest());
    stage.immutag.manifest(REGISTRY, "app", "2");
    stage.immutag.wait_for_metric("immutag_events_total", "conflict", 1.0);
    let found = stage.check("2", stage.two.digest(), &[]);
    let elsewhere = serde_json::json!({
        "found": "mismatch", "tag-is": "elsewhere", "digest-is": "no-tag",
        "observed": new.digest(), "expected": stage.two.digest(),
    });
    assert_is(&found, 3, &elsewhere);
    let ledger = &found.1["ledger"];
    assert_eq!(
        (&ledger["pin"], &ledger["conflict"]),
        (&stage.two.digest().into(), &new.digest().into())
    );
    assert!(ledger["conflict-since-ms"].as_u64() >= ledger["pin-since-ms"].as_u64(), "{ledger}");
    assert_eq!(ledger["digest-until-ms"], ledger["conflict-since-ms"]);
    assert_eq!(ledger["digest-was-served"], true);
    // And the other way round: the upstream's word is not the pin's.
    assert_is(&stage.check("2", new.digest(), &[]), 3, &serde_json::json!({ "found": "conflict" }));
    let reference = format!("registry.example/app:2@{}", stage.two.digest());
    let page = stage.immutag.cli(&["check", &reference, "--table"]).stdout;
    for words in ["MISMATCH", "points elsewhere", "no tag was found", "in conflict with", "until"] {
        assert!(page.contains(words), "no `{words}` in {page}");
    }
}

#[test]
fn a_digest_of_another_tag_is_found_by_the_ledger_and_at_the_upstream() {
    let stage = Stage::new();
    let two = stage.two.digest();
    let both = serde_json::json!([
        { "tag": "2", "says": "ledger-pin" }, { "tag": "2", "says": "upstream" },
    ]);
    let borrowed = |tag_is: &str| {
        serde_json::json!({
            "found": "mismatch", "tag-is": tag_is, "digest-is": "other-tag", "other-tags": both,
            "is-cut": false,
        })
    };
    assert_is(&stage.check("1", two, &[]), 3, &borrowed("elsewhere"));
    assert_is(&stage.check("fake", two, &[]), 3, &borrowed("unknown"));
    // A tag that the ledger never saw.
    let lone = stage.registry.push_image("app", "9", "lone");
    let other = serde_json::json!([{ "tag": "9", "says": "upstream" }]);
    let found = stage.check("1", lone.digest(), &[]);
    assert_is(&found, 3, &serde_json::json!({ "digest-is": "other-tag", "other-tags": other }));
    assert_eq!(found.1["tags-asked"], 2);
}

#[test]
fn a_tag_that_nobody_knows_is_unknown_and_one_that_was_pinned_is_gone() {
    let stage = Stage::new();
    let absent = format!("sha256:{}", "e".repeat(64));
    let unknown =
        serde_json::json!({ "found": "unknown", "tag-is": "unknown", "digest-is": "absent" });
    assert_is(&stage.check("fake", &absent, &[]), 1, &unknown);
    assert_is(&stage.check("1", &absent, &[]), 3, &serde_json::json!({ "digest-is": "absent" }));
    let untagged = Image::new("untagged");
    stage.registry.put_image("app", &untagged);
    let lone = serde_json::json!({ "found": "unknown", "digest-is": "no-tag" });
    assert_is(&stage.check("fake", untagged.digest(), &[]), 1, &lone);
    stage.registry.delete_tag("app", "2");
    let gone = serde_json::json!({ "found": "gone", "tag-is": "unknown", "digest-is": "no-tag" });
    assert_is(&stage.check("2", stage.two.digest(), &[]), 3, &gone);
}

#[test]
fn the_digest_of_a_config_is_told_as_what_it_is() {
    let stage = Stage::new();
    let found = stage.check("2", &stage.two.config.digest, &[]);
    assert_is(&found, 3, &serde_json::json!({ "digest-is": "config-of-this-tag" }));
}

#[test]
fn a_repository_of_many_tags_is_asked_for_some_and_that_is_said() {
    let stage = Stage::new();
    for number in 100..200 {
        stage.registry.retag("app", &number.to_string(), stage.one.digest());
    }
    let lone = stage.registry.push_image("app", "zz", "lone");
    stage.registry.forget_requests();
    let found = stage.check("1", lone.digest(), &[]);
    let cut = serde_json::json!({ "digest-is": "no-tag", "is-cut": true, "tags-asked": 64 });
    assert_is(&found, 3, &cut);
    assert_eq!(stage.registry.count("HEAD manifests/"), 64);
}

#[test]
fn a_header_that_lies_about_another_tag_proves_nothing() {
    use crate::support::fault::Fault;
    let stage = Stage::new();
    let untagged = Image::new("untagged");
    stage.registry.put_image("app", &untagged);
    let lie = Fault::field("Docker-Content-Digest", untagged.digest());
    stage.registry.fault("HEAD /v2/app/manifests/2", lie);
    let found = stage.check("1", untagged.digest(), &[]);
    assert_is(&found, 3, &serde_json::json!({ "digest-is": "no-tag", "other-tags": [] }));
}

#[test]
fn a_lock_file_is_compared_too() {
    let stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images.lock");
    let lock = |digest: &str| {
        let images = serde_json::json!({ "registry.example/app:2": { "digest": digest } });
        let text = serde_json::json!({ "version": 1, "sources": [], "images": images });
        std::fs::write(&file, text.to_string()).unwrap();
    };
    let option = ["--lock", file.to_str().unwrap()];
    lock(stage.two.digest());
    let agrees = serde_json::json!({ "found": "match", "locked": stage.two.digest() });
    assert_is(&stage.check("2", stage.two.digest(), &option), 0, &agrees);
    lock(stage.one.digest());
    let differs = serde_json::json!({
        "found": "mismatch", "locked": stage.one.digest(), "expected": stage.one.digest(),
    });
    assert_is(&stage.check("2", stage.two.digest(), &option), 3, &differs);
    let plain = stage.immutag.cli(&[&["check", "registry.example/app:2"][..], &option].concat());
    assert_is(&finding(&plain), 3, &differs);
    std::fs::write(&file, "{").unwrap();
    stage
        .immutag
        .cli(&[&["check", "registry.example/app:2"][..], &option].concat())
        .failed_with("images.lock");
}

#[test]
fn the_scenarios_are_told_apart_at_a_real_registry() {
    let registry = DockerRegistry::start();
    let one = registry.push_index("app", "1", "one", &["amd64", "arm64"]);
    let two = registry.push_image("app", "2", "two");
    let setup = Setup::new().upstream(REGISTRY, registry.url()).every_tag("hold", "0s");
    let immutag = setup.start();
    immutag.manifest(REGISTRY, "app", "1").digest();
    let absent = format!("sha256:{}", "e".repeat(64));
    for (tag, digest, code, digest_is) in [
        ("1", one.digest(), 0, "this-tag"),
        ("1", one.images[0].digest(), 0, "platform-of-this-tag"),
        ("1", two.digest(), 3, "other-tag"),
        ("1", &absent, 3, "absent"),
        ("fake", two.digest(), 3, "other-tag"),
        ("fake", one.images[0].digest(), 1, "no-tag"),
        ("fake", &absent, 1, "absent"),
    ] {
        let ran = immutag.cli(&["check", &format!("registry.example/app:{tag}@{digest}")]);
        assert_is(&finding(&ran), code, &serde_json::json!({ "digest-is": digest_is }));
    }
}
