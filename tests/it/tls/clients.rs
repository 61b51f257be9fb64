//! Real clients over TLS, with the authority that they trust.

use std::process::Command;

use super::{REGISTRY, Stage};
use crate::support::clients::Home;
use crate::support::process::{find, have, run};

#[test]
fn skopeo_and_podman_pull_over_tls_through_both_listeners() {
    if !have(&["podman", "skopeo"]) {
        return;
    }
    let stage = Stage::new();
    let (mirror, direct) = (stage.mirror(), stage.direct());
    // Nothing but immutag has the image: the registry's name leads nowhere.
    let mirrored = format!(
        "[[registry]]\nprefix = \"{REGISTRY}\"\nlocation = \"{REGISTRY}\"\n\
         [[registry.mirror]]\nlocation = \"{mirror}/{REGISTRY}\"\n"
    );
    let home = Home::new(&mirrored).trust(&stage.authority.ca_pem);
    for reference in [format!("{REGISTRY}/app:1.0.0"), format!("{direct}/{REGISTRY}/app:1.0.0")] {
        assert_eq!(home.skopeo_digest(&reference), stage.image.digest());
        home.skopeo_copy(&reference).ok();
        home.podman_pull(&reference).ok();
        assert_eq!(home.podman_digest(&reference), stage.image.digest());
    }
    let stranger = Home::new(&mirrored);
    let reference = format!("docker://{direct}/{REGISTRY}/app:1.0.0");
    stranger.skopeo(&["inspect", "--no-tags", &reference]).failed_with("x509: certificate");
    stage.finish();
}

#[test]
fn curl_pulls_over_http_2_and_sees_what_http_1_says() {
    if !have(&["curl"]) {
        return;
    }
    let stage = Stage::new();
    let large = stage.blob(3_000_000);
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, &stage.authority.ca_pem).unwrap();
    let curl = |version: &str, more: &[&str], path: &str| {
        let mut command = Command::new(find("curl").unwrap());
        command.env_clear().args(["--silent", "--show-error", version, "--cacert"]).arg(&ca);
        let url = format!("https://{}/v2/{path}", stage.direct());
        run(command.args(more).arg(url)).ok().stdout
    };
    // All but the version and the date.
    let told = |version: &str, path: &str| {
        let head = curl(version, &["--head"], path);
        let mut lines: Vec<_> = head.lines().map(str::to_lowercase).collect();
        lines.retain(|line| !line.starts_with("date:"));
        assert!(lines[0].starts_with(if version == "--http2" {
            "http/2 200"
        } else {
            "http/1.1 200"
        }));
        lines.split_off(1)
    };
    for path in [
        format!("{REGISTRY}/app/manifests/1.0.0"),
        format!("{REGISTRY}/app/blobs/{}", large.digest),
        String::new(),
    ] {
        let (newer, older) = (told("--http2", &path), told("--http1.1", &path));
        assert_eq!(newer, older);
        assert!(newer.iter().any(|line| line.starts_with("content-length: ")), "{newer:?}");
    }
    let to = home.path().join("blob");
    let path = format!("{REGISTRY}/app/blobs/{}", large.digest);
    curl("--http2", &["--output", to.to_str().unwrap()], &path);
    assert!(std::fs::read(&to).unwrap() == large.bytes);
    curl("--http2", &["--range", "1000-", "--output", to.to_str().unwrap()], &path);
    assert!(std::fs::read(&to).unwrap() == large.bytes[1000..]);
    stage.finish();
}
