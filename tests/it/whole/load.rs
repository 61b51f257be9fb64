//! Hold is whole, and goes on: across kills, silent and slow upstreams, and many who ask at once.

use std::time::Duration;

use super::tricks::{entry, index};
use super::{NO_CACHE, REGISTRY, blob, pull, pull_blobs, setup, wait_until_held};
use crate::support::content::{Blob, Image, Manifest, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Answer, Call};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn an_upstream_that_drips_does_not_keep_other_upstreams_tags_from_being_completed() {
    let (slow, other) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let immutag = Setup::new()
        .upstream(REGISTRY, &slow.url())
        .upstream("other.example", &other.url())
        .every_tag("hold", "0s")
        .start();
    let gate = Gate::closed();
    slow.fault("GET blobs/", Fault::HoldBody(10, gate.clone()));
    for number in 0..5 {
        let repository = format!("app{number}");
        slow.push_image(&repository, "1.0.0", &format!("a{number}"));
        immutag.manifest(REGISTRY, &repository, "1.0.0");
        slow.push_image(&repository, "1.0.0", &format!("b{number}"));
        immutag.manifest(REGISTRY, &repository, "1.0.0");
    }
    gate.wait_for(8);
    other.push_image("app", "1.0.0", "a");
    immutag.manifest("other.example", "app", "1.0.0");
    other.push_image("app", "1.0.0", "b");
    immutag.manifest("other.example", "app", "1.0.0");
    immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 1.0);
    gate.open();
}

#[test]
fn children_that_no_registry_has_are_not_asked_for_with_every_pull_once_something_was_revoked() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64", "s390x"]);
    for image in &index.images[1..] {
        registry.delete("app", image.digest());
    }
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), index.digest());
    let nobodys = Blob::new("nobody's").digest;
    immutag.cli(&["ledger", "revoke", &nobodys, "--reason", "a miner"]).ok();
    registry.forget_requests();
    for _ in 0..10 {
        assert_eq!(pull(&immutag).digest(), index.digest());
    }
    for image in &index.images[1..] {
        let asked = registry.count(&format!("* manifests/{}", image.digest()));
        assert!(asked <= 1, "asked for {asked} times");
    }
}

#[test]
fn an_upstream_whose_blobs_are_to_be_had_by_get_alone_has_them() {
    // It redirects to a store elsewhere, to addresses that were signed for GET.
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    registry.fault("HEAD blobs/", Fault::Status(403));
    let immutag = setup(&registry, "hold").tables(NO_CACHE).start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull(&immutag).digest(), a.digest());
    pull_blobs(&immutag, &a);
}

#[test]
fn a_completion_that_a_kill_cut_short_goes_on_at_the_next_start() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = setup(&registry, "hold").start();
    let gate = Gate::closed();
    registry.fault("GET blobs/", Fault::HoldBody(10, gate.clone()));
    // The config is fetched as soon as the tag is pinned, the layer once it moved.
    assert_eq!(pull(&immutag).digest(), a.digest());
    gate.wait_for(1);
    registry.push_image("app", "1.0.0", "b");
    pull(&immutag);
    gate.wait_for(2);
    immutag.kill9();
    gate.open();
    immutag.restart();
    // Nobody asks for the tag.
    wait_until_held(&immutag, &a);
}

#[test]
fn many_who_ask_for_tags_of_heavy_manifests_are_answered_by_one_look_at_each() {
    // Together they are more than memory keeps of manifests.
    let registry = ScriptedRegistry::start();
    let tags = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"];
    for name in tags {
        let image = Image::new(name);
        registry.put_image("app", &image);
        let text = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("JSON");
        let heavy = |number: usize| {
            let padding = number.to_string().repeat(3_900_000);
            let more = format!(r#"{{"annotations":{{"a":"{padding}"}},"#);
            Manifest::new(OCI_MANIFEST, text.replacen('{', &more, 1))
        };
        let children: Vec<_> = (1..9).map(heavy).collect();
        for child in &children {
            registry.put_manifest("app", child);
        }
        let entries: Vec<_> = children.iter().map(|it| entry(it, OCI_MANIFEST, "")).collect();
        let index = index(&entries);
        registry.put_manifest("app", &index);
        registry.retag("app", name, index.digest());
    }
    let immutag = setup(&registry, "hold").start();
    for name in tags {
        assert_eq!(immutag.manifest(REGISTRY, "app", name).status, 200);
        registry.push_image("app", name, "b");
        assert_eq!(immutag.manifest(REGISTRY, "app", name).status, 200);
    }
    immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 4.0);
    let before_kib = immutag.peak_kib();
    std::thread::scope(|scope| {
        for name in tags.repeat(12) {
            let immutag = &immutag;
            scope.spawn(move || assert_eq!(immutag.manifest(REGISTRY, "app", name).status, 200));
        }
    });
    let grown_kib = immutag.peak_kib() - before_kib;
    assert!(grown_kib < 500 << 10, "48 clients took {grown_kib} KiB");
}

#[test]
fn one_client_waits_for_a_silent_upstream_and_the_others_have_the_held_tag_at_once() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1m");
    let immutag = InProcess::start(setup);
    let pull = || immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(pull().digest(), a.digest());
    let gate = Gate::closed();
    registry.fault("* manifests/1.0.0", Fault::Hold(gate.clone()));
    immutag.clock.advance(Duration::from_secs(61));
    let waited = |answer: &Answer| answer.field("warning").map(|it| it.contains("within 5 s"));
    let (first, second) = (pull(), pull());
    assert_eq!((first.digest(), second.digest()), (a.digest(), a.digest()));
    assert_eq!((waited(&first), waited(&second)), (Some(true), None));
    gate.open();
}

#[test]
fn a_first_sight_for_which_immutag_itself_has_no_room_is_refused_in_the_blocks_form() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let large = Blob::new(format!("blob {:20}", 0));
    registry.put_blob("app", &large.digest, large.bytes.clone());
    let limits = "header-timeout = \"1s\"\nmax-connections = 1\n";
    let immutag = Setup::new()
        .upstream_with(REGISTRY, &registry.url(), limits)
        .every_tag("hold", "0s")
        .start();
    let gate = Gate::closed();
    registry.fault("GET blobs/", Fault::HoldBody(10, gate.clone()));
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(blob(&immutag, &large.digest).body, large.bytes));
        gate.wait_for(1);
        let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
        let head = Call::new("HEAD", &url).send();
        gate.open();
        assert_eq!(head.status, 300, "{}", head.reason);
        assert!(head.reason.contains("OVERLOADED"), "{}", head.reason);
    });
    assert_eq!(pull(&immutag).digest(), a.digest());
}
