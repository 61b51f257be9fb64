//! `immutag cache warm`: pulled before anybody needs it.

use super::{REGISTRY, held, setup};
use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::process::{Ran, have};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

fn warm(immutag: &Immutag, arguments: &[&str]) -> Ran {
    immutag.cli(&[&["cache", "warm"], arguments].concat())
}

/// The lines of JSON that it printed.
fn lines(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

fn blobs_asked_for(registry: &ScriptedRegistry, image: &Image) -> usize {
    let parts = image.layers.iter().chain([&image.config]);
    parts.map(|part| registry.count(&format!("GET blobs/{}", part.digest))).sum()
}

#[test]
fn a_client_pulls_offline_what_was_warmed() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let mut registry = DockerRegistry::start();
    let index = registry.push_index("team/app", "1.0.0", "a", &["amd64", "arm64"]);
    let mut immutag =
        Setup::new().upstream("docker.io", registry.url()).every_tag("hold", "1h").start();
    let ran = warm(&immutag, &["team/app:1.0.0", "--all-platforms"]).ok();
    let line = &lines(&ran)[0];
    assert_eq!(line["state"], "warm", "{ran:?}");
    assert_eq!(line["digest"], index.digest());
    assert_eq!(line["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    // Configs may have come in the background already.
    assert!(line["fetched-bytes"].as_u64() > Some(0), "{line}");
    assert!(ran.stderr.contains("warm  docker.io/team/app:1.0.0"), "{}", ran.stderr);
    for image in &index.images {
        for part in image.layers.iter().chain([&image.config]) {
            assert!(held(&immutag, &part.digest).is_file(), "as if a client had pulled it");
        }
    }
    registry.stop();
    immutag.terminate();
    immutag.restart_with(|setup| setup.top("offline = true"));
    let mirror = immutag.addresses().mirror.to_string();
    let home = Home::mirrored(&[("docker.io", &mirror)]);
    assert_eq!(home.skopeo_digest("docker.io/team/app:1.0.0"), index.digest());
    home.skopeo_copy("docker.io/team/app:1.0.0").ok();
    let again = warm(&immutag, &["team/app:1.0.0", "--all-platforms"]).ok();
    assert_eq!(lines(&again)[0]["fetched-bytes"], 0);
}

#[test]
fn only_the_platforms_that_were_named_are_pulled() {
    let registry = ScriptedRegistry::start();
    let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64", "s390x"]);
    let immutag = setup(&registry, "record").start();
    let reference = format!("{REGISTRY}/app:1.0.0");
    let ran = warm(&immutag, &[&reference, "--platform", "linux/arm64,linux/s390x"]).ok();
    assert_eq!(lines(&ran)[0]["platforms"], serde_json::json!(["linux/arm64", "linux/s390x"]));
    // Their layers are one, their configs are not.
    let asked_for = |image: &Image| registry.count(&format!("GET blobs/{}", image.config.digest));
    let asked_for: Vec<_> = index.images.iter().map(asked_for).collect();
    assert_eq!(asked_for, [0, 1, 1]);
    let ran = warm(&immutag, &[&reference, "--platform", "linux/riscv64"]);
    assert_eq!(ran.status.code(), Some(1));
    let remark = lines(&ran)[0]["remark"].to_string();
    assert!(remark.contains("nothing for linux/riscv64") && remark.contains("linux/s390x"));
}

#[test]
fn several_are_warmed_and_the_exit_code_says_the_worst_of_it() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    registry.push_image("moved", "1.0.0", "a");
    let immutag = setup(&registry, "block").start();
    immutag.manifest(REGISTRY, "moved", "1.0.0");
    let b = registry.push_image("moved", "1.0.0", "b");
    let list = immutag.data_dir().join("list");
    let text = format!("# ours\n{REGISTRY}/app:1.0.0\n{REGISTRY}/app@{}\n", a.digest());
    std::fs::write(&list, text).expect("our own directory");
    let from = list.display().to_string();
    let ran = warm(&immutag, &["--from", &from]).ok();
    assert_eq!(lines(&ran).len(), 2);
    assert_eq!(blobs_asked_for(&registry, &a), 2, "each blob once");

    let gone = format!("{REGISTRY}/app:9.9.9");
    let ran = warm(&immutag, &["--from", &from, &gone, "--table"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.stdout.contains("MANIFEST_UNKNOWN") && ran.stdout.contains("REMARK"), "{ran:?}");

    let moved = format!("{REGISTRY}/moved:1.0.0");
    let ran = warm(&immutag, &[&gone, &moved]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    let lines = lines(&ran);
    assert_eq!((&lines[0]["state"], &lines[1]["state"]), (&"failed".into(), &"conflict".into()));
    assert!(lines[1]["remark"].to_string().contains(b.digest()), "{ran:?}");
    assert!(immutag.metric("immutag_bypasses_total", "").abs() < f64::EPSILON);
}

#[test]
fn a_held_tag_that_moved_is_warmed_as_it_is_held_and_told() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = setup(&registry, "hold").start();
    immutag.manifest(REGISTRY, "app", "1.0.0");
    let b = registry.push_image("app", "1.0.0", "b");
    let ran = warm(&immutag, &[&format!("{REGISTRY}/app:1.0.0")]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    let line = &lines(&ran)[0];
    assert_eq!((&line["digest"], &line["conflict"]), (&a.digest().into(), &b.digest().into()));
    assert_eq!(blobs_asked_for(&registry, &a), 2);
}

#[test]
fn a_part_that_is_not_to_be_had_is_a_failure_with_its_reason() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    registry.fault(&format!("* blobs/{}", a.layers[0].digest), Fault::Status(404));
    let mut immutag = setup(&registry, "record").start();
    let reference = format!("{REGISTRY}/app:1.0.0");
    let ran = warm(&immutag, &[&reference]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(lines(&ran)[0]["remark"].to_string().contains("BLOB_UNKNOWN"), "{ran:?}");
    immutag.restart_with(|setup| setup.tables("[cache]\nmax-size = \"0\""));
    registry.clear_faults();
    let ran = warm(&immutag, &[&reference]).failed_with("the cache takes nothing more");
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn without_a_server_it_says_how_to_start_one() {
    let registry = ScriptedRegistry::start();
    let mut immutag = setup(&registry, "hold").start();
    immutag.terminate();
    let ran = warm(&immutag, &["alpine:3.20.1"]).failed_with("start `immutag serve`");
    assert_eq!(ran.status.code(), Some(1));
}
