//! Publishers who prepare a pin that looks whole and is not, upstreams that say they have what they
//! do not give, and files that lost their end: a contested tag stays closed, or becomes whole.

use std::time::Duration;

use sha2::{Digest as _, Sha512};

use super::{NO_CACHE, REGISTRY, assert_closed, blob, held, pull, pull_blobs, setup};
use super::{wait_until_held, whole_here};
use crate::support::content::{Blob, Image, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

/// Pins what is at `app:1.0.0`, moves the tag, and lets the upstream lose this part of the pin.
fn assert_closed_without(registry: &ScriptedRegistry, part: &str) {
    let immutag = setup(registry, "hold").tables(NO_CACHE).start();
    assert_eq!(pull(&immutag).status, 200);
    let b = registry.push_image("app", "1.0.0", "b");
    registry.fault(&format!("* {part}"), Fault::Status(404));
    let missing = part.rsplit('/').next().expect("it has a digest");
    assert_closed(&immutag, missing, &format!("--digest {}", b.digest()));
}

fn tag(registry: &ScriptedRegistry, manifest: &Manifest) {
    registry.put_manifest("app", manifest);
    registry.retag("app", "1.0.0", manifest.digest());
}

fn index(entries: &[String]) -> Manifest {
    let entries = entries.join(",");
    let index =
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#);
    Manifest::new(OCI_INDEX, index)
}

/// A child for linux/amd64 under `media_type`, with more fields.
fn entry(manifest: &Manifest, media_type: &str, more: &str) -> String {
    let (digest, size) = (manifest.digest(), manifest.blob.bytes.len());
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"platform":{{"architecture":"amd64","os":"linux"}}{more}}}"#
    )
}

#[test]
fn a_platforms_image_that_calls_itself_an_attestation_is_looked_at_all_the_same() {
    let registry = ScriptedRegistry::start();
    let image = Image::new("a");
    registry.put_image("app", &image);
    let mark = r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#;
    tag(&registry, &index(&[entry(&image.manifest, OCI_MANIFEST, mark)]));
    assert_closed_without(&registry, &format!("blobs/{}", image.layers[0].digest));
}

#[test]
fn a_platforms_image_under_a_strange_media_type_is_looked_at_too() {
    // Docker's daemon goes by the platform alone.
    let registry = ScriptedRegistry::start();
    let image = Image::new("a");
    registry.put_image("app", &image);
    tag(&registry, &index(&[entry(&image.manifest, "application/x-other", "")]));
    assert_closed_without(&registry, &format!("manifests/{}", image.digest()));
}

#[test]
fn a_layer_that_calls_itself_foreign_is_looked_at_since_docker_asks_for_it() {
    let registry = ScriptedRegistry::start();
    let mut image = Image::docker("a");
    let bytes = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("JSON");
    let bytes = bytes.replace("rootfs.diff.tar", "rootfs.foreign.diff.tar");
    image.manifest = Manifest::new(&image.manifest.media_type, bytes);
    registry.put_image("app", &image);
    registry.retag("app", "1.0.0", image.digest());
    assert_closed_without(&registry, &format!("blobs/{}", image.layers[0].digest));
}

#[test]
fn a_layer_with_the_digest_of_a_manifest_is_looked_at_as_a_layer() {
    let registry = ScriptedRegistry::start();
    let (image, other) = (Image::new("a"), Image::for_architecture("c", "s390x"));
    registry.put_image("app", &image);
    registry.put_image("app", &other);
    let bytes = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("JSON");
    let bytes = bytes.replace(&image.layers[0].digest, other.digest());
    let twice = Manifest::new(OCI_MANIFEST, bytes);
    registry.put_manifest("app", &twice);
    let children = [&other.manifest, &twice].map(|it| entry(it, OCI_MANIFEST, ""));
    tag(&registry, &index(&children));
    assert_closed_without(&registry, &format!("blobs/{}", other.digest()));
}

#[test]
fn an_upstream_that_says_it_has_a_blob_and_gives_another_is_not_believed_again() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    let b = registry.push_image("app", "1.0.0", "b");
    let layer = &a.layers[0];
    let wrong = vec![b'x'; layer.bytes.len()];
    registry.fault(&format!("GET blobs/{}", layer.digest), Fault::Body(wrong.into()));
    pull(&immutag);
    immutag.wait_for_metric("immutag_completions_total", "incomplete", 1.0);
    assert_closed(&immutag, &layer.digest, &format!("--digest {}", b.digest()));
    // Once the right bytes have come, by whatever way, all is well.
    registry.clear_faults();
    assert_eq!(blob(&immutag, &layer.digest).body, layer.bytes);
    eventually("the pin is served", || pull(&immutag).digest() == a.digest());
}

#[test]
fn a_stored_blob_that_lost_its_end_is_noticed_and_fetched_again() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).digest(), a.digest());
    pull_blobs(&immutag, &a);
    wait_until_held(&immutag, &a);
    let layer = &a.layers[0];
    let file = std::fs::File::options().write(true).open(held(&immutag, &layer.digest));
    file.and_then(|file| file.set_len(100)).expect("our own file");
    registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull(&immutag).digest(), a.digest());
    immutag.wait_for_log("a stored blob is damaged");
    immutag.wait_for_metric("immutag_completions_total", "\"complete\"", 1.0);
    pull_blobs(&immutag, &a);
    assert_eq!(whole_here(&immutag, layer), Some(layer.bytes.len() as u64));
}

#[test]
fn a_manifest_that_lies_about_a_layers_length_takes_nobodys_content_away() {
    let registry = ScriptedRegistry::start();
    let good = registry.push_image("good", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    let layer = &good.layers[0];
    let url = |what: &str| immutag.mirror(&format!("good/{what}?ns={REGISTRY}"));
    crate::support::http::get(&url("manifests/1.0.0"));
    assert_eq!(crate::support::http::get(&url(&format!("blobs/{}", layer.digest))).status, 200);
    let mut lying = good.clone();
    let bytes = String::from_utf8(good.manifest.blob.bytes.to_vec()).expect("JSON");
    let (size, other) = (layer.bytes.len(), layer.bytes.len() + 1);
    let bytes = bytes.replace(&format!("\"size\":{size}"), &format!("\"size\":{other}"));
    lying.manifest = Manifest::new(OCI_MANIFEST, bytes);
    registry.put_image("app", &lying);
    registry.retag("app", "1.0.0", lying.digest());
    for _ in 0..2 {
        assert_eq!(pull(&immutag).digest(), lying.digest());
        assert_eq!(blob(&immutag, &layer.digest).body, layer.bytes);
    }
    registry.fault(&format!("* blobs/{}", layer.digest), Fault::Status(404));
    assert_eq!(pull(&immutag).digest(), lying.digest());
    let again = crate::support::http::get(&url(&format!("blobs/{}", layer.digest)));
    assert_eq!((again.status, again.body), (200, layer.bytes.to_vec()));
}

#[test]
fn an_upstream_that_drips_does_not_keep_other_upstreams_tags_from_being_completed() {
    let (slow, other) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let immutag = Setup::new()
        .upstream(REGISTRY, &slow.url())
        .upstream("other.example", &other.url())
        .every_tag("hold", "0s")
        .start();
    let gate = crate::support::gate::Gate::closed();
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
    assert_eq!(pull(&immutag).digest(), a.digest());
    let gate = crate::support::gate::Gate::closed();
    registry.fault("GET blobs/", Fault::HoldBody(10, gate.clone()));
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
    let gate = crate::support::gate::Gate::closed();
    registry.fault("* manifests/1.0.0", Fault::Hold(gate.clone()));
    immutag.clock.advance(Duration::from_secs(61));
    let waited = |answer: &Answer| answer.field("warning").map(|it| it.contains("within 5 s"));
    let (first, second) = (pull(), pull());
    assert_eq!((first.digest(), second.digest()), (a.digest(), a.digest()));
    assert_eq!((waited(&first), waited(&second)), (Some(true), None));
    gate.open();
}

#[test]
fn a_revoked_child_closes_an_index_that_names_it_by_another_algorithm() {
    let registry = ScriptedRegistry::start();
    let image = Image::new("a");
    registry.put_image("app", &image);
    let raw = Sha512::digest(&image.manifest.blob.bytes).into();
    let other = immutag::oci::Digest::sha512(raw).to_string();
    let mut manifest = image.manifest.clone();
    manifest.blob.digest.clone_from(&other);
    registry.put_manifest("app", &manifest);
    let child = entry(&image.manifest, OCI_MANIFEST, "").replace(image.digest(), &other);
    tag(&registry, &index(&[child]));
    let immutag = setup(&registry, "hold").start();
    assert_eq!(pull(&immutag).status, 200);
    immutag.cli(&["ledger", "revoke", image.digest(), "--reason", "a miner"]).ok();
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let head = Call::new("HEAD", &url).send();
    assert_eq!(head.status, 300, "{}", head.reason);
    assert!(head.reason.contains("DIGEST_REVOKED"), "{}", head.reason);
}

#[test]
fn a_first_sight_for_which_immutag_itself_has_no_room_is_refused_in_the_blocks_form() {
    /// How many answers of one upstream are under way at once.
    const ROOM: usize = 64;
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let blobs: Vec<_> = (0..ROOM).map(|it| Blob::new(format!("blob {it:20}"))).collect();
    for blob in &blobs {
        registry.put_blob("app", &blob.digest, blob.bytes.clone());
    }
    let immutag = Setup::new()
        .upstream_with(REGISTRY, &registry.url(), "header-timeout = \"1s\"\n")
        .every_tag("hold", "0s")
        .start();
    let gate = crate::support::gate::Gate::closed();
    registry.fault("GET blobs/", Fault::HoldBody(10, gate.clone()));
    std::thread::scope(|scope| {
        for part in &blobs {
            scope.spawn(|| assert_eq!(blob(&immutag, &part.digest).body, part.bytes));
        }
        gate.wait_for(ROOM);
        let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
        let head = Call::new("HEAD", &url).send();
        gate.open();
        assert_eq!(head.status, 300, "{}", head.reason);
        assert!(head.reason.contains("OVERLOADED"), "{}", head.reason);
    });
    assert_eq!(pull(&immutag).digest(), a.digest());
}
