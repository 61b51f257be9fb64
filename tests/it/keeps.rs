//! What a pin keeps: its config though no client asked for it, what clients pulled, all platforms
//! if that is wanted; and what was lost is fetched again.

mod idle;
mod offline;
mod warm;

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::content::{Blob, Image, Manifest, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Answer, get};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

const ALL_PLATFORMS: &str = "[cache]\nretain = \"all-platforms\"";

fn setup(registry: &ScriptedRegistry, reaction: &str) -> Setup {
    Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s")
}

fn pull(immutag: &Immutag, tag: &str) -> Answer {
    immutag.manifest(REGISTRY, "app", tag)
}

fn blob(immutag: &Immutag, repository: &str, digest: &str) -> Answer {
    get(&immutag.mirror(&format!("{repository}/blobs/{digest}?ns={REGISTRY}")))
}

fn place(data_dir: &Path, below: &str, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    data_dir.join(below).join("sha256").join(&hex[..2]).join(hex)
}

fn held(immutag: &Immutag, digest: &str) -> PathBuf {
    place(immutag.data_dir(), "held", digest)
}

fn wait_until_held(immutag: &Immutag, digest: &str) {
    let path = held(immutag, digest);
    eventually("it is held", || path.is_file());
}

fn wait_until_whole(immutag: &Immutag, image: &Image) {
    for part in image.layers.iter().chain([&image.config]) {
        wait_until_held(immutag, &part.digest);
    }
}

/// Content is held first, and then the link of its repository: a kill between the two leaves what
/// is fetched anew.
fn wait_until_linked(immutag: &Immutag) {
    let links = immutag.data_dir().join("held/links");
    eventually("manifest, config and layer are linked", || {
        links.read_dir().is_ok_and(|links| links.count() >= 3)
    });
}

fn remove_cache(immutag: &Immutag) {
    std::fs::remove_dir_all(immutag.data_dir().join("cache")).expect("our own directory");
}

#[test]
fn a_pins_config_is_held_though_no_client_asked_for_it() {
    for reaction in ["alert", "hold", "block"] {
        let mut registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let mut immutag = setup(&registry, reaction).start();
        assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
        wait_until_held(&immutag, &a.config.digest);
        immutag.wait_for_metric("immutag_retained_total", "need=\"config\",outcome=\"kept\"", 1.0);
        assert_eq!(registry.count(&format!("* blobs/{}", a.layers[0].digest)), 0);
        registry.stop();
        remove_cache(&immutag);
        immutag.restart();
        assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
        assert_eq!(blob(&immutag, "app", &a.config.digest).body, a.config.bytes);
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn of_an_index_the_configs_of_the_children_that_clients_pulled_are_held() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
    let immutag = setup(&registry, "hold").start();
    pull(&immutag, "1.0.0");
    let [pulled, other] = [&index.images[0], &index.images[1]];
    assert_eq!(pull(&immutag, pulled.digest()).status, 200);
    wait_until_held(&immutag, &pulled.config.digest);
    wait_until_held(&immutag, pulled.digest());
    assert_eq!(registry.count(&format!("* manifests/{}", other.digest())), 0);
    assert_eq!(registry.count(&format!("* blobs/{}", other.config.digest)), 0);
}

#[test]
fn layers_are_held_under_hold_and_block_and_not_under_alert() {
    for (reaction, is_kept) in [("alert", false), ("hold", true), ("block", true)] {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let mut immutag = setup(&registry, reaction).start();
        pull(&immutag, "1.0.0");
        let layer = &a.layers[0];
        assert_eq!(blob(&immutag, "app", &layer.digest).body, layer.bytes);
        wait_until_held(&immutag, &a.config.digest);
        if is_kept {
            wait_until_held(&immutag, &layer.digest);
        } else {
            // The walk would hold it at the latest.
            immutag.restart();
            immutag.wait_for_metric("immutag_retention_walks_total", "", 1.0);
            assert!(!held(&immutag, &layer.digest).exists());
        }
    }
}

#[test]
fn a_config_that_is_longer_than_its_manifest_says_is_not_kept_for_ever() {
    let registry = ScriptedRegistry::start();
    let config = Blob::new(vec![b' '; 100_000]);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[]}}"#,
        config.digest
    );
    let manifest = Manifest::new(OCI_MANIFEST, manifest);
    registry.put_manifest("app", &manifest);
    registry.put_blob("app", &config.digest, config.bytes.clone());
    registry.retag("app", "1.0.0", manifest.digest());
    let immutag = setup(&registry, "alert").start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), manifest.digest());
    immutag.wait_for_metric("immutag_retained_total", "need=\"config\",outcome=\"failed\"", 1.0);
    assert!(!held(&immutag, &config.digest).exists());
}

#[test]
fn all_platforms_of_a_pin_are_fetched_as_soon_as_it_is_made() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64", "unknown"]);
    let immutag = setup(&registry, "hold").tables(ALL_PLATFORMS).start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), index.digest());
    for image in &index.images {
        wait_until_held(&immutag, image.digest());
        wait_until_whole(&immutag, image);
    }
    immutag.wait_for_metric("immutag_retained_total", "need=\"platforms\",outcome=\"kept\"", 1.0);
}

#[test]
fn what_of_all_platforms_was_not_to_be_had_is_fetched_after_a_restart() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
    registry.fault("GET blobs/", Fault::Status(404));
    let mut immutag = setup(&registry, "hold").tables(ALL_PLATFORMS).start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), index.digest());
    immutag.wait_for_metric("immutag_retained_total", "need=\"platforms\",outcome=\"failed\"", 1.0);
    registry.clear_faults();
    immutag.restart();
    index.images.iter().for_each(|image| wait_until_whole(&immutag, image));
}

#[test]
fn all_platforms_of_pins_that_are_there_are_fetched_when_the_setting_is_turned_on() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
    let immutag = setup(&registry, "hold").tables("[cache]\nretain = \"pulled\"").start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), index.digest());
    immutag.wait_for_metric("immutag_retention_walks_total", "", 1.0);
    let by_digest = format!("* manifests/{}", index.images[1].digest());
    assert_eq!(registry.count(&by_digest), 0);
    let configuration = immutag.configuration();
    immutag.write_configuration(&configuration.replace("\"pulled\"", "\"all-platforms\""));
    immutag.signal(Signal::HUP);
    index.images.iter().for_each(|image| wait_until_whole(&immutag, image));
}

#[test]
fn a_pull_that_joins_another_repositorys_fetch_is_held_for_its_own_pin() {
    let mut registry = ScriptedRegistry::start();
    let a = Image::sized("a", 300_000);
    for repository in ["app", "other"] {
        registry.put_image(repository, &a);
        registry.retag(repository, "1.0.0", a.digest());
    }
    let rules = "[[rule]]\nrepository = \"other\"\non-conflict = \"record\"\n";
    let mut immutag = Setup::new()
        .upstream(REGISTRY, &registry.url())
        .rules(rules)
        .every_tag("hold", "1h")
        .start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
    wait_until_held(&immutag, &a.config.digest);
    let layer = &a.layers[0];
    let gate = Gate::closed();
    let wanted = format!("GET blobs/{}", layer.digest);
    registry.fault_times(&wanted, Fault::HoldBody(1000, gate.clone()), 1);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| blob(&immutag, "other", &layer.digest));
        gate.wait_for(1);
        let joined = scope.spawn(|| blob(&immutag, "app", &layer.digest));
        // It asks whether its repository has it, too, by HEAD if it saw the other fetch by then.
        let asked = format!("HEAD blobs/{}", layer.digest);
        eventually("the second client's question", || {
            registry.count(&asked) + registry.count(&wanted) >= 2
        });
        gate.open();
        for pull in [first, joined] {
            assert_eq!(pull.join().expect("it does not panic").body, layer.bytes);
        }
    });
    wait_until_held(&immutag, &layer.digest);
    wait_until_linked(&immutag);
    registry.stop();
    remove_cache(&immutag);
    immutag.restart();
    assert_eq!(blob(&immutag, "app", &layer.digest).body, layer.bytes);
}

#[test]
fn held_content_that_was_lost_is_fetched_again_without_a_client() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = setup(&registry, "hold").start();
    pull(&immutag, "1.0.0");
    let layer = &a.layers[0];
    assert_eq!(blob(&immutag, "app", &layer.digest).body, layer.bytes);
    wait_until_whole(&immutag, &a);
    wait_until_linked(&immutag);
    immutag.terminate();
    for lost in [layer, &a.config] {
        std::fs::remove_file(held(&immutag, &lost.digest)).expect("it is held");
        let cached = place(&immutag.data_dir().join("cache"), "blobs", &lost.digest);
        std::fs::remove_file(cached).expect("it is cached");
    }
    immutag.restart();
    wait_until_whole(&immutag, &a);
    immutag.wait_for_metric("immutag_retained_total", "need=\"lost\",outcome=\"kept\"", 1.0);
}

#[test]
fn what_was_pulled_before_its_tag_was_pinned_is_held_by_the_walk_at_the_latest() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = setup(&registry, "record").start();
    pull(&immutag, "1.0.0");
    for part in a.layers.iter().chain([&a.config]) {
        assert_eq!(blob(&immutag, "app", &part.digest).body, part.bytes);
    }
    // Under hold the tag is asked for, its blobs are not: the client has them.
    immutag.restart_with(|setup| setup.without_rules().every_tag("hold", "1h"));
    assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
    immutag.restart();
    wait_until_whole(&immutag, &a);
}
