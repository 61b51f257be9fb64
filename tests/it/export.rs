//! What is locked, for others: from a lock file, and from the ledger of a server that runs.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::content::Image;
use crate::support::immutag::immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

#[test]
fn the_ledgers_pins_are_written_into_a_dockerfile_once() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
    let server = setup.start();
    assert_eq!(server.manifest(REGISTRY, "app", "1.0.0").digest(), image.digest());
    let pinned = format!("{REGISTRY}/app:1.0.0@{}", image.digest());
    let exported = server.cli(&["export", "references", "--ledger"]).ok();
    assert_eq!(exported.stdout, format!("{pinned}\n"));
    assert!(exported.stderr.contains("1 reference of the ledger"), "{}", exported.stderr);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("Dockerfile");
    let path_text = path.display().to_string();
    let before = format!("# ours\nFROM {REGISTRY}/app:1.0.0 AS a # kept\nRUN true\n");
    std::fs::write(&path, &before).expect("our own folder");
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&path, mode).expect("our own file");
    let rewrite = |more: &[&str]| {
        server.cli(&[&["export", "dockerfile", &path_text, "--ledger"][..], more].concat())
    };
    let after = before.replace(&format!("{REGISTRY}/app:1.0.0"), &pinned);
    assert_eq!(rewrite(&[]).ok().stdout, after);
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), before);
    assert_eq!(rewrite(&["--write"]).ok().stdout, "");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), after);
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(rewrite(&["--write"]).ok().stderr.contains("nothing to change"));
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), after);
    assert_eq!(std::fs::read_dir(folder.path()).expect("our own folder").count(), 1);
}

/// The one that `immutag lock` writes and `immutag serve` reads.
#[test]
fn without_more_words_the_lock_file_of_the_configuration_is_exported() {
    let setup = Setup::new();
    let digest = Image::new("a").digest().to_owned();
    let lock = setup.file(
        "ci.lock",
        &format!(
            "{{\"version\": 1, \"sources\": [], \"images\": {{\n  \
             \"docker.io/library/alpine:3.19\": {{\"digest\": \"{digest}\"}}\n}}}}\n"
        ),
    );
    let server = setup.tables(&format!("[lock]\nfile = '{}'\n", lock.display())).start();
    let exported = server.cli(&["export", "references"]).ok();
    assert_eq!(exported.stdout, format!("docker.io/library/alpine:3.19@{digest}\n"));
    assert!(exported.stderr.contains("1 reference of "), "{}", exported.stderr);
    let exported = server.cli(&["export", "references", "--ledger"]).ok();
    assert_eq!(exported.stdout, "", "nothing is confirmed yet");
}

#[test]
fn a_dockerfile_with_something_unlocked_is_left_with_code_6() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (lock, dockerfile) = (at("images.lock"), at("Dockerfile"));
    let digest = Image::new("a").digest().to_owned();
    let locked = format!(
        "{{\"version\": 1, \"sources\": [], \"images\": {{\n  \
         \"docker.io/library/alpine:3.19\": {{\"digest\": \"{digest}\"}}\n}}}}\n"
    );
    std::fs::write(&lock, locked).expect("our own folder");
    let text = "ARG TAG=3.19\nFROM alpine:3.19\nFROM alpine:$TAG\nFROM busybox\n";
    std::fs::write(&dockerfile, text).expect("our own folder");
    let run = |more: &[&str]| immutag(&[&["export", "--lock", &lock], more].concat());
    let refused = run(&["dockerfile", &dockerfile, "--write"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:#?}");
    let words = format!("Dockerfile:4: docker.io/library/busybox:latest is not in {lock}");
    assert!(refused.stderr.contains(&words), "{refused:#?}");
    assert_eq!(std::fs::read_to_string(&dockerfile).expect("it is there"), text);

    let other = at("pod.json");
    std::fs::write(&other, "{\"kind\": \"Pod\"}\n").expect("our own folder");
    let ran = run(&["dockerfile", &other]).failed_with("has no FROM: it is no Dockerfile");
    assert_eq!(ran.stdout, "");

    let policy: serde_json::Value =
        serde_json::from_str(&run(&["buildkit-policy"]).ok().stdout).expect("it is JSON");
    let alpine = "docker-image://docker.io/library/alpine:3.19";
    assert_eq!(policy["rules"][0]["action"], "CONVERT");
    assert_eq!(policy["rules"][0]["selector"]["identifier"], alpine);
    assert_eq!(policy["rules"][0]["selector"]["match_type"], "EXACT");
    assert_eq!(policy["rules"][0]["updates"]["identifier"], format!("{alpine}@{digest}"));
    let images = run(&["kustomize"]).ok().stdout;
    assert!(images.contains(&format!(
        "  - name: \"alpine\"\n    newTag: \"3.19\"\n    digest: \"{digest}\"\n"
    )));

    std::fs::write(&lock, "{}").expect("our own folder");
    run(&["references"]).failed_with("images.lock");
}
