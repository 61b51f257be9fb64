//! What is asked by digest in locked mode, and what refers to it.

use serde_json::json;

use super::{REGISTRY, ask, ask_direct, assert_required, assert_serves, job, lock, locked};
use crate::support::content::{Blob, Image, Index, Manifest, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[track_caller]
fn assert_blob_refused(immutag: &Immutag, repository: &str, blob: &Blob) {
    let path = format!("{repository}/blobs/{}", blob.digest);
    let direct = ask_direct(immutag, "GET", &path);
    assert!(direct.status == 403 && direct.text().contains("PIN_REQUIRED"), "{}", direct.text());
    let mirror = ask(immutag, "GET", &path);
    assert_ne!(mirror.body, blob.bytes, "{path}");
    assert_eq!(ask(immutag, "HEAD", &path).status, 300);
}

#[test]
fn all_that_a_locked_index_leads_to_passes_and_nothing_beside_it() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1", "a", &["amd64", "arm64"]);
    let beside = registry.push_image("app", "2", "b");
    let mut immutag = locked(&registry, &lock(&[("app:1", index.digest())]));
    // By digest at once, as a client does that knows the index from elsewhere.
    for image in index.images.iter().rev() {
        let blob = &image.layers[0];
        let got = ask(&immutag, "GET", &format!("app/blobs/{}", blob.digest));
        assert!(got.status == 200 && got.body == blob.bytes, "{}", got.status);
        assert_serves(&immutag, "app", image.digest(), image);
    }
    let got = ask(&immutag, "GET", "app/manifests/1");
    assert_eq!(got.body, index.manifest.blob.bytes);
    assert_required(&immutag, &format!("app/manifests/{}", beside.digest()));
    assert_blob_refused(&immutag, "app", &beside.layers[0]);
    assert_blob_refused(&immutag, "app", &beside.config);
    assert_eq!(registry.count(&format!("* /v2/app/blobs/{}", beside.config.digest)), 0);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_digest_of_the_lock_file_passes_in_its_repository_only() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    registry.put_image("other", &app);
    registry.put_image("third", &app);
    let third = registry.push_image("third", "1", "c");
    let by_digest = format!("app@{}", app.digest());
    let entries = [(by_digest.as_str(), app.digest()), ("third:1", third.digest())];
    let mut immutag = locked(&registry, &lock(&entries));
    assert_serves(&immutag, "app", app.digest(), &app);
    // The tag that has it is not in the file.
    assert_required(&immutag, "app/manifests/1");
    for repository in ["other", "third"] {
        assert_required(&immutag, &format!("{repository}/manifests/{}", app.digest()));
        assert_blob_refused(&immutag, repository, &app.layers[0]);
    }
    assert_eq!(registry.count("* other/"), 0);
    immutag.assert_alive_and_clean();
}

#[test]
fn what_cannot_be_seen_to_be_locked_content_does_not_pass() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1", "a", &["amd64", "arm64"]);
    let mut immutag = locked(&registry, &lock(&[("app:1", index.digest())]));
    registry.fault("* manifests/", Fault::Status(500));
    let layer = &index.images[0].layers[0];
    let path = format!("app/blobs/{}", layer.digest);
    let refused = ask_direct(&immutag, "GET", &path);
    assert!(refused.status >= 500, "{}: {}", refused.status, refused.text());
    registry.clear_faults();
    // The trouble is forgotten soon.
    crate::support::wait::eventually("it passes", || {
        ask_direct(&immutag, "GET", &path).body == layer.bytes
    });
    immutag.assert_alive_and_clean();
}

/// A manifest that refers to `subject`, with a config and a layer of these media types.
fn referrer(subject: &Manifest, config: (&str, &Blob), layer: (&str, &Blob)) -> Manifest {
    let descriptor = |(media_type, blob): (&str, &Blob)| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.sbom",
        "config": descriptor(config),
        "layers": [descriptor(layer)],
        "subject": descriptor((&subject.media_type, &subject.blob)),
    });
    Manifest::new(OCI_MANIFEST, manifest.to_string())
}

#[test]
fn what_refers_to_locked_content_passes_with_its_blobs_unless_a_client_could_run_it() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let beside = registry.push_image("app", "2", "b");
    let (empty, sbom) = (Blob::new("{}"), Blob::new("an sbom"));
    for blob in [&empty, &sbom] {
        registry.put_blob("app", &blob.digest, blob.bytes.clone());
    }
    let put = |manifest: Manifest| {
        registry.put_manifest("app", &manifest);
        manifest.digest().to_owned()
    };
    let good = put(referrer(&app.manifest, (EMPTY, &empty), (IMAGE_LAYER, &sbom)));
    let signed = put(referrer(&app.manifest, ("application/x.sig", &sbom), ("text/plain", &sbom)));
    let of_other = put(referrer(&beside.manifest, (EMPTY, &empty), ("text/plain", &sbom)));
    let runs = (IMAGE_CONFIG, &beside.config);
    let runnable = put(referrer(&app.manifest, runs, (IMAGE_LAYER, &beside.layers[0])));
    let docker = put(referrer(&app.manifest, runs, ("text/plain", &beside.layers[0])));
    let typed = ("application/x.sig", &beside.config);
    let containerd = put(referrer(&app.manifest, typed, (IMAGE_LAYER, &beside.layers[0])));
    registry.put_referrers("app", app.digest(), &Index::of(Vec::new()));
    registry.put_referrers("app", beside.digest(), &Index::of(Vec::new()));
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_blob_refused(&immutag, "app", &sbom);
    for digest in [&good, &signed] {
        for method in ["HEAD", "GET"] {
            assert_eq!(ask(&immutag, method, &format!("app/manifests/{digest}")).status, 200);
        }
    }
    assert_eq!(ask(&immutag, "GET", &format!("app/blobs/{}", sbom.digest)).body, sbom.bytes);
    for digest in [&of_other, &runnable, &docker, &containerd] {
        assert_required(&immutag, &format!("app/manifests/{digest}"));
    }
    assert_blob_refused(&immutag, "app", &beside.layers[0]);
    let list = ask_direct(&immutag, "GET", &format!("app/referrers/{}", app.digest()));
    assert_eq!(list.status, 200, "{}", list.text());
    let list = ask_direct(&immutag, "GET", &format!("app/referrers/{}", beside.digest()));
    assert!(list.text().contains("PIN_REQUIRED"), "{}", list.text());
    assert_eq!(ask_direct(&immutag, "GET", "app/tags/list").status, 200);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_tag_of_referrers_passes_if_it_is_about_locked_content_and_nothing_to_run() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let beside = registry.push_image("app", "2", "b");
    let tag = |image: &Image, ending: &str| format!("{}{ending}", image.digest().replace(':', "-"));
    let put = |tag: &str, manifest: &Manifest| {
        registry.put_manifest("app", manifest);
        registry.retag("app", tag, manifest.digest());
    };
    let simple = Blob::new("{\"critical\":{}}");
    registry.put_blob("app", &simple.digest, simple.bytes.clone());
    let layer = ("application/vnd.dev.cosign.simplesigning.v1+json", &simple);
    let signature = referrer(&app.manifest, (IMAGE_CONFIG, &simple), layer);
    put(&tag(&app, ".sig"), &signature);
    put(&tag(&beside, ".sig"), &signature);
    put(&tag(&app, ".att"), &beside.manifest);
    let fallback = Index::of(Vec::new());
    put(&tag(&app, ""), &fallback.manifest);
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    // HEAD, then by digest, as clients go.
    let head = ask(&immutag, "HEAD", &format!("app/manifests/{}", tag(&app, ".sig")));
    assert_eq!((head.status, head.digest()), (200, signature.digest()));
    let got = ask(&immutag, "GET", &format!("app/manifests/{}", signature.digest()));
    assert_eq!(got.body, signature.blob.bytes);
    assert_eq!(ask(&immutag, "GET", &format!("app/blobs/{}", simple.digest)).body, simple.bytes);
    assert_eq!(ask(&immutag, "GET", &format!("app/manifests/{}", tag(&app, ""))).status, 200);
    assert_required(&immutag, &format!("app/manifests/{}", tag(&beside, ".sig")));
    assert_required(&immutag, &format!("app/manifests/{}", tag(&app, ".att")));
    assert_blob_refused(&immutag, "app", &beside.layers[0]);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_referrers_tag_that_is_in_the_lock_file_is_held_like_any_other() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let tag = format!("sha256-{}.sig", "0".repeat(64));
    registry.retag("app", &tag, app.digest());
    let moved = Image::new("b");
    registry.put_image("app", &moved);
    let reference = format!("app:{tag}");
    let setup = Setup::new().upstream(REGISTRY, &registry.url());
    let mut immutag = job(setup, &lock(&[(&reference, app.digest())])).start();
    registry.retag("app", &tag, moved.digest());
    assert_serves(&immutag, "app", &tag, &app);
    immutag.assert_alive_and_clean();
}
