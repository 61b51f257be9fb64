//! Ways round the lock file, in locked mode, that somebody has who may push to a locked repository,
//! or writes the build's files.

use serde_json::json;

use super::{REGISTRY, accepting, ask, ask_direct, assert_required, job, lock, lock_of, locked};
use crate::support::content::{Blob, Image, Manifest, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::Call;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A manifest that refers to `subject`.
fn referrer(subject: &Image, config: (&str, &Blob), layers: &[(&str, &Blob)]) -> Manifest {
    let descriptor = |(media_type, blob): (&str, &Blob)| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let layers: Vec<_> = layers.iter().map(|it| descriptor(*it)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config),
        "layers": layers,
        "subject": descriptor((OCI_MANIFEST, &subject.manifest.blob)),
    });
    Manifest::new(OCI_MANIFEST, manifest.to_string())
}

#[test]
fn what_a_referrer_has_as_a_layer_is_no_manifest_that_passes() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let evil = registry.push_image("app", "2", "b");
    let empty = Blob::new("{}");
    registry.put_blob("app", &empty.digest, empty.bytes.clone());
    let layers = [&evil.manifest.blob, &evil.config, &evil.layers[0]];
    let layers = layers.map(|blob| ("application/octet-stream", blob));
    let artifact = referrer(&app, ("application/x.sbom", &empty), &layers);
    registry.put_manifest("app", &artifact);
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    let path = format!("app/manifests/{}", artifact.digest());
    assert_eq!(ask(&immutag, "GET", &path).body, artifact.blob.bytes);
    assert_required(&immutag, &format!("app/manifests/{}", evil.digest()));
    immutag.assert_alive_and_clean();
}

#[test]
fn what_docker_or_buildah_would_run_does_not_pass_whatever_it_is_called() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let evil = registry.push_image("app", "2", "b");
    let empty = Blob::new("{}");
    let text = Blob::new("{\"critical\": {}}");
    for blob in [&empty, &text] {
        registry.put_blob("app", &blob.digest, blob.bytes.clone());
    }
    let (config, layer) = (&evil.config, &evil.layers[0]);
    let by_digest = [
        referrer(&app, ("application/x.sig", config), &[("text/plain", layer)]),
        referrer(&app, ("application/json", config), &[("application/octet-stream", layer)]),
        referrer(&app, ("application/x.sig", config), &[]),
        referrer(&app, ("application/x.sig", config), &[(SIGNATURE, &text), (SIGNATURE, layer)]),
    ];
    let by_tag = [
        referrer(&app, (IMAGE_CONFIG, config), &[(SIGNATURE, layer)]),
        referrer(&app, (IMAGE_CONFIG, &empty), &[(IMAGE_LAYER, layer)]),
        referrer(&app, (IMAGE_CONFIG, &empty), &[("application/vnd.docker.x", layer)]),
    ];
    let good = referrer(&app, ("application/x.sig", config), &[(SIGNATURE, &text)]);
    let tag = format!("{}.sig", app.digest().replace(':', "-"));
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    for manifest in by_digest.iter().chain(&by_tag).chain([&good]) {
        registry.put_manifest("app", manifest);
    }
    for manifest in by_digest.iter().chain(&by_tag) {
        assert_required(&immutag, &format!("app/manifests/{}", manifest.digest()));
    }
    for manifest in &by_tag {
        registry.retag("app", &tag, manifest.digest());
        assert_required(&immutag, &format!("app/manifests/{tag}"));
        assert_required(&immutag, &format!("app/manifests/{}", manifest.digest()));
    }
    let got = ask(&immutag, "GET", &format!("app/manifests/{}", good.digest()));
    assert_eq!(got.body, good.blob.bytes, "{}", got.text());
    immutag.assert_alive_and_clean();
}

#[test]
fn an_upstream_in_trouble_sends_no_client_of_a_mirror_round_the_lock_file() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let evil = registry.push_image("app", "2", "b");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    registry.fault("* manifests/", Fault::Status(500));
    let tag = format!("{}.sig", app.digest().replace(':', "-"));
    for reference in [evil.digest(), &tag] {
        let path = format!("app/manifests/{reference}");
        let head = ask(&immutag, "HEAD", &path);
        assert!(head.status == 300 && head.reason.contains("PIN_REQUIRED"), "{}", head.status);
        let get = ask(&immutag, "GET", &path);
        assert!(get.text().contains("application/vnd.immutag.blocked.v1+json"), "{}", get.text());
        assert!(ask_direct(&immutag, "GET", &path).status >= 500);
    }
    registry.clear_faults();
    // That there is no signature is told as it is, once the trouble is forgotten.
    eventually("a plain 404", || {
        ask(&immutag, "GET", &format!("app/manifests/{tag}")).status == 404
    });
    immutag.assert_alive_and_clean();
}

#[test]
fn what_immutag_does_not_understand_sends_no_client_of_a_mirror_round_the_lock_file() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let text = lock(&[("app:1", app.digest())]);
    let mut immutag = locked(&registry, &text);
    let sha384 = format!("sha384:{}", "0".repeat(96));
    let long = "a/".repeat(200);
    let paths = [
        format!("app/manifests/{sha384}"),
        "app/manifests/.hidden".to_owned(),
        "App/manifests/1".to_owned(),
        format!("{long}app/manifests/1"),
    ];
    for path in &paths {
        let head = ask(&immutag, "HEAD", path);
        assert!(head.status == 300 && head.reason.contains("PIN_REQUIRED"), "{path}");
        let get = ask(&immutag, "GET", path);
        assert!(get.text().contains("application/vnd.immutag.blocked.v1+json"), "{}", get.text());
        assert!(ask_direct(&immutag, "GET", path).status >= 400, "{path}");
    }
    let odd = immutag.mirror("app/manifests/1?ns=b%20d");
    assert_eq!(accepting(Call::new("HEAD", &odd)).send().status, 300);
    immutag.assert_alive_and_clean();
    // Where not all is locked, they stay what they are.
    let setup = Setup::new().upstream(REGISTRY, &registry.url());
    let mut immutag = job(setup, &text).start();
    assert_eq!(ask(&immutag, "GET", &paths[0]).status, 400);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_tag_of_the_lock_file_whose_registry_is_not_configured_is_closed_on_a_mirror() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let text = lock_of("other.example", &[("app:1", app.digest())]);
    let mut immutag = job(Setup::new().upstream(REGISTRY, &registry.url()), &text).start();
    let head = |tag: &str| {
        let url = immutag.mirror(&format!("app/manifests/{tag}?ns=other.example"));
        accepting(Call::new("HEAD", &url)).send()
    };
    let refused = head("1");
    assert!(refused.status == 300 && refused.reason.contains("PINNED_CONTENT_GONE"));
    assert!(refused.reason.contains("not configured"), "{}", refused.reason);
    assert_eq!(head("2").status, 404);
    let report = immutag.cli(&["report", "--format", "json"]);
    assert!(report.stdout.contains("other.example/app:1"), "{}", report.stdout);
    assert_eq!(report.status.code(), Some(3), "{}", report.stdout);
    immutag.assert_alive_and_clean();
}
