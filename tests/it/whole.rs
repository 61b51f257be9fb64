//! Hold is whole or it is not hold: a pin that something stands against is served only if all of it
//! is to be had, and when a tag moves its pin's content is completed at once.

mod load;
mod tricks;

use std::path::PathBuf;

use crate::support::content::{Blob, Image, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call, get};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::server::Request;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// A cache that takes nothing: what is served passes through, and nothing can be completed.
const NO_CACHE: &str = "[cache]\nmax-size = \"0\"";

fn setup(registry: &ScriptedRegistry, reaction: &str) -> Setup {
    Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s")
}

fn pull(immutag: &Immutag) -> Answer {
    immutag.manifest(REGISTRY, "app", "1.0.0")
}

fn blob(immutag: &Immutag, digest: &str) -> Answer {
    get(&immutag.mirror(&format!("app/blobs/{digest}?ns={REGISTRY}")))
}

fn pull_blobs(immutag: &Immutag, image: &Image) {
    for part in image.layers.iter().chain([&image.config]) {
        assert_eq!(blob(immutag, &part.digest).body, part.bytes);
    }
}

fn held(immutag: &Immutag, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    immutag.data_dir().join("held/sha256").join(&hex[..2]).join(hex)
}

/// How long a blob is that is held, in bytes.
fn whole_here(immutag: &Immutag, blob: &Blob) -> Option<u64> {
    std::fs::metadata(held(immutag, &blob.digest)).ok().map(|file| file.len())
}

fn wait_until_held(immutag: &Immutag, image: &Image) {
    for part in image.layers.iter().chain([&image.config]) {
        let path = held(immutag, &part.digest);
        eventually("a blob is held", || path.is_file());
    }
}

/// A registry with `app:1.0.0`, and an immutag that holds all of it.
fn held_whole() -> (ScriptedRegistry, Image, Immutag) {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    pull_blobs(&immutag, &a);
    wait_until_held(&immutag, &a);
    (registry, a, immutag)
}

/// The mirror refuses in the block's form, and says which part is missing and what ends it.
#[track_caller]
fn assert_closed(immutag: &Immutag, missing: &str, ends_by: &str) {
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let head = Call::new("HEAD", &url).send();
    assert_eq!(head.status, 300, "{} {}", head.reason, head.digest());
    for words in ["PINNED_CONTENT_GONE", missing, ends_by] {
        assert!(head.reason.contains(words), "no {words} in: {}", head.reason);
    }
    let direct = immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!((direct.status, direct.field("immutag-reason")), (404, Some("PINNED_CONTENT_GONE")));
}

#[test]
fn a_moved_tag_is_completed_at_once_and_outlives_its_content_upstream() {
    for reaction in ["hold", "block"] {
        let mut registry = ScriptedRegistry::start();
        let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
        let mut immutag = setup(&registry, reaction).start();
        assert_eq!(pull(&immutag).digest(), index.digest());
        let b = registry.push_image("app", "1.0.0", "b");
        pull(&immutag);
        immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 1.0);
        for image in &index.images {
            wait_until_held(&immutag, image);
            assert!(held(&immutag, image.digest()).is_file(), "its manifest is held, too");
        }
        registry.stop();
        if reaction == "block" {
            let reject = ["--digest", b.digest(), "--reason", "not ours"];
            let decide =
                [&["ledger", "reject", "registry.example/app:1.0.0"], &reject[..]].concat();
            immutag.cli(&decide).ok();
        }
        std::fs::remove_dir_all(immutag.data_dir().join("cache")).expect("our own directory");
        immutag.restart();
        assert_eq!(pull(&immutag).digest(), index.digest());
        for image in &index.images {
            assert_eq!(immutag.manifest(REGISTRY, "app", image.digest()).status, 200);
            pull_blobs(&immutag, image);
        }
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_tag_that_vanished_is_completed_too() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    registry.delete_tag("app", "1.0.0");
    pull(&immutag);
    immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 1.0);
    wait_until_held(&immutag, &a);
}

#[test]
fn a_contested_pin_is_served_while_the_upstream_still_has_what_is_not_held() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").tables(NO_CACHE).start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    let b = registry.push_image("app", "1.0.0", "b");
    let served = pull(&immutag);
    assert_eq!(served.digest(), a.digest());
    immutag.wait_for_metric("immutag_completions_total", "incomplete", 1.0);
    immutag.wait_for_log("the pin's content is not held whole");
    let served = pull(&immutag);
    assert_eq!((served.status, served.digest()), (200, a.digest()));
    assert!(served.field("warning").is_some_and(|warning| warning.contains(b.digest())));
    pull_blobs(&immutag, &a);
}

#[test]
fn a_contested_pin_with_a_part_that_is_gone_is_refused_in_the_blocks_form() {
    for reaction in ["hold", "block"] {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let mut immutag = setup(&registry, reaction).tables(NO_CACHE).start();
        assert_eq!(pull(&immutag).digest(), a.digest());
        let b = registry.push_image("app", "1.0.0", "b");
        let layer = &a.layers[0].digest;
        registry.fault(&format!("* blobs/{layer}"), Fault::Status(404));
        let ends_by = if reaction == "hold" {
            format!("ledger approve registry.example/app:1.0.0 --digest {}", b.digest())
        } else {
            // What is rejected is still what a client finds that goes round.
            pull(&immutag);
            let reject = ["--digest", b.digest(), "--reason", "not ours"];
            let decide =
                [&["ledger", "reject", "registry.example/app:1.0.0"], &reject[..]].concat();
            immutag.cli(&decide).ok();
            "ledger forget registry.example/app:1.0.0".to_owned()
        };
        assert_closed(&immutag, layer, &ends_by);
        assert!(immutag.metric("immutag_possible_bypass_total", "").abs() < f64::EPSILON);
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_part_of_any_platform_that_is_gone_closes_an_index_but_an_attestation_does_not() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64", "unknown"]);
    let immutag = setup(&registry, "hold").tables(NO_CACHE).start();
    assert_eq!(pull(&immutag).digest(), index.digest());
    let b = registry.push_image("app", "1.0.0", "b");
    registry.delete("app", index.images[1].digest());
    let ends_by = format!("--digest {}", b.digest());
    assert_closed(&immutag, index.images[1].digest(), &ends_by);
    // Who takes no index needs the amd64 child alone.
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let child = Call::new("GET", &url).field("accept", OCI_MANIFEST).send();
    assert_eq!((child.status, child.digest()), (200, index.images[0].digest()));
}

#[test]
fn what_is_lost_here_and_upstream_is_noticed_before_the_first_reply_after_the_tag_moved() {
    let (registry, a, immutag) = held_whole();
    let b = registry.push_image("app", "1.0.0", "b");
    let layer = &a.layers[0].digest;
    registry.fault(&format!("* blobs/{layer}"), Fault::Status(404));
    for folder in ["held/sha256", "cache/blobs"] {
        std::fs::remove_dir_all(immutag.data_dir().join(folder)).expect("our own directory");
    }
    assert_closed(&immutag, layer, &format!("--digest {}", b.digest()));
}

#[test]
fn a_pin_that_is_whole_here_is_served_without_waiting_for_the_upstream() {
    let (registry, a, immutag) = held_whole();
    let gate = crate::support::gate::Gate::closed();
    registry.fault("* manifests/1.0.0", Fault::Hold(gate.clone()));
    let served = pull(&immutag);
    assert_eq!(served.digest(), a.digest());
    assert_eq!(served.field("warning"), None, "nobody waited for an answer that did not come");
    gate.open();
}

#[test]
fn what_is_too_large_to_vouch_for_is_not_served_once_it_is_contested() {
    let registry = ScriptedRegistry::start();
    let child = |number: usize| {
        let digest = Blob::new(number.to_string()).digest;
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1}}"#)
    };
    let children: Vec<_> = (0..1001).map(child).collect();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        children.join(",")
    );
    let index = Manifest::new(OCI_INDEX, index);
    registry.put_manifest("app", &index);
    registry.retag("app", "1.0.0", index.digest());
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), index.digest());
    let b = registry.push_image("app", "1.0.0", "b");
    assert_closed(&immutag, "more than 1000 manifests", &format!("--digest {}", b.digest()));
    let by_digest = |request: &Request| request.path.contains("/manifests/sha256:");
    let asked = registry.requests().into_iter().filter(by_digest).count();
    assert_eq!(asked, 0, "no child was asked for");
}

#[test]
fn a_revoked_layer_closes_every_tag_that_needs_it() {
    for reaction in ["record", "hold"] {
        a_revoked_layer_closes_a_tag_under(reaction);
    }
}

fn a_revoked_layer_closes_a_tag_under(reaction: &str) {
    let registry = ScriptedRegistry::start();
    let index: Index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
    let immutag = setup(&registry, reaction).start();
    assert_eq!(pull(&immutag).digest(), index.digest());
    let layer = &index.images[1].layers[0].digest;
    immutag.cli(&["ledger", "revoke", layer, "--reason", "a miner"]).ok();
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let head = Call::new("HEAD", &url).send();
    assert_eq!(head.status, 300, "{} {}", head.reason, head.digest());
    assert!(head.reason.contains("DIGEST_REVOKED") && head.reason.contains(layer.as_str()));
    immutag.cli(&["ledger", "revoke", layer, "--undo", "--reason", "it was none"]).ok();
    assert_eq!(pull(&immutag).digest(), index.digest());
}
