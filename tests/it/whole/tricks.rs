//! Publishers who prepare a pin that looks whole and is not, upstreams that say they have what they
//! do not give, and files that lost their end: a contested tag stays closed, or becomes whole.

use sha2::{Digest as _, Sha512};

use super::whole_here;
use super::{NO_CACHE, REGISTRY, assert_closed, blob, held, held_whole, pull, pull_blobs, setup};
use crate::support::content::{Image, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::Call;
use crate::support::registry::ScriptedRegistry;
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

pub(super) fn index(entries: &[String]) -> Manifest {
    let entries = entries.join(",");
    let index =
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#);
    Manifest::new(OCI_INDEX, index)
}

/// A child for linux/amd64 under `media_type`, with more fields.
pub(super) fn entry(manifest: &Manifest, media_type: &str, more: &str) -> String {
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
    let (registry, a, immutag) = held_whole();
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
