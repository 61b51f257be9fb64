//! Where references are found, and how sources are named.

use super::{Project, REGISTRY, ended};
use crate::support::process::run;

#[test]
fn a_folder_a_compose_project_and_standard_input_are_read() {
    let project = Project::new();
    for name in ["web", "api", "db", "init"] {
        project.registry.push_image(name, "1", name);
    }
    std::fs::create_dir_all(project.path("deploy/deeper")).unwrap();
    project.write("deploy/Dockerfile.web", "FROM $R/web:1\n");
    project.write("deploy/api.Containerfile", "FROM $R/api:1\n");
    project.write("deploy/deeper/Dockerfile", "FROM $R/deeper:1\n");
    project.write("compose.json", "{\"name\":\"p\",\"services\":{\"db\":{\"image\":\"$R/db:1\"}}}");
    project.write(
        "pod.json",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[\
         {\"name\":\"i\",\"image\":\"$R/init:1\"}]}}",
    );
    let script = "\"$0\" lock deploy compose.json - --table < pod.json";
    let mut shell = std::process::Command::new("sh");
    project.prepare(&mut shell);
    run(shell.args(["-c", script, env!("CARGO_BIN_EXE_immutag")])).ok();
    let text = project.read("images.lock");
    let sources =
        "\"sources\": [\"compose.json\", \"deploy/Dockerfile.web\", \"deploy/api.Containerfile\"]";
    assert!(text.contains(sources), "{text}");
    for name in ["web:1", "api:1", "db:1", "init:1"] {
        project.digest(name);
    }

    // Named from elsewhere, the sources are the same files.
    std::fs::create_dir(project.path("ci")).unwrap();
    project.lock(&["--lock", "ci/images.lock", "compose.json"]).ok();
    assert!(project.read("ci/images.lock").contains("\"sources\": [\"../compose.json\"]"));
    project.lock(&["--lock", "ci/images.lock", "--check"]).ok();
    let ran = project.lock(&["deploy/deeper", "--check"]);
    ended(&ran, 6);
    assert!(ran.stdout.contains("not a source of the lock file yet: deploy/deeper/Dockerfile"));
}

/// What `immutag export dockerfile` writes is what the lock file has already.
#[test]
fn a_tag_with_the_digest_that_the_lock_file_has_for_it_is_that_entry() {
    let project = Project::new();
    project.registry.push_image("a", "1", "a");
    project.write("Dockerfile", "FROM $R/a:1\n");
    project.lock(&[]).ok();
    let digest = project.digest("a:1");
    project.write("Dockerfile", &format!("FROM $R/a:1@{digest}\n"));
    project.lock(&["--check", "--prune"]).ok();
    let before = project.read("images.lock");
    project.lock(&["--prune"]).ok();
    assert_eq!(project.read("images.lock"), before);
    // Another digest is another entry, whatever tag stands in front of it.
    let other = project.registry.push_image("a", "2", "b");
    project.write("Dockerfile", &format!("FROM $R/a:1@{}\n", other.digest()));
    let ran = project.lock(&["--check"]);
    ended(&ran, 6);
    assert!(ran.stdout.contains(&format!("a@{}", other.digest())), "{ran:?}");
}

#[test]
fn a_build_argument_decides_and_what_needs_an_unknown_one_is_told() {
    let project = Project::new();
    project.registry.push_image("a", "2", "a");
    project.write("Dockerfile", "ARG TAG\nARG OTHER\nFROM $R/a:${TAG}\nFROM $R/b:${OTHER}\n");
    let ran = project.lock(&["--build-arg", "TAG=2"]).ok();
    assert!(ran.stderr.contains("not read: Dockerfile:4: "), "{ran:?}");
    project.digest("a:2");
    ended(&project.lock(&["--check", "--build-arg", "TAG=3"]), 6);
}

#[test]
fn a_platform_that_an_index_lacks_is_told_with_its_place() {
    let project = Project::new();
    project.registry.push_index("base", "1", "a", &["amd64", "arm64"]);
    project.write(
        "Dockerfile",
        "FROM --platform=linux/amd64 $R/base:1\nFROM --platform=linux/riscv64 $R/base:1\n",
    );
    let ran = project.lock(&[]).ok();
    let words = format!(
        "Dockerfile:2: {REGISTRY}/base:1 has no linux/riscv64, only linux/amd64, linux/arm64"
    );
    assert!(ran.stderr.contains(&words), "{ran:?}");
    assert!(!ran.stderr.contains("Dockerfile:1"), "{ran:?}");
}

#[test]
fn a_digest_is_locked_as_it_stands_and_a_tag_beside_it_that_is_elsewhere_is_told() {
    let project = Project::new();
    let tagged = project.registry.push_image("a", "1", "a");
    let other = format!("sha256:{}", "7".repeat(64));
    project.write("Dockerfile", &format!("FROM $R/a:1\nFROM $R/a:1@{other}\n"));
    project.lock(&[]).ok();
    assert_eq!(project.digest(&format!("a@{other}")), other);
    assert_eq!(project.digest("a:1"), tagged.digest());
    assert_eq!(project.registry.requests().len(), 1);
    let ran = project.lock(&["--check"]).ok();
    let words = format!(
        "Dockerfile:2: {REGISTRY}/a:1 is named with {REGISTRY}/a@{other}, the lock file has {}",
        tagged.digest()
    );
    assert!(ran.stderr.contains(&words), "{ran:?}");
}

#[test]
fn without_a_source_there_is_nothing_to_lock_or_to_check() {
    let project = Project::new();
    for arguments in [&[][..], &["--check"]] {
        let ran = project.lock(arguments);
        ended(&ran, 2);
        assert!(ran.stderr.contains("no Dockerfile or Containerfile here"), "{ran:?}");
    }
    project.registry.push_image("a", "1", "a");
    project.lock(&["--add", &format!("{REGISTRY}/a:1")]).ok();
    ended(&project.lock(&["--check"]), 2);
    ended(&project.lock(&["nowhere"]), 1);
    // A source that is gone stops all but a prune.
    project.write("Dockerfile", "FROM $R/a:1\n");
    project.lock(&["Dockerfile"]).ok();
    std::fs::remove_file(project.path("Dockerfile")).unwrap();
    let ran = project.lock(&[]);
    ended(&ran, 1);
    assert!(ran.stderr.contains("Dockerfile cannot be read"), "{ran:?}");
    ended(&project.lock(&["--check"]), 6);
    project.lock(&["--prune"]).ok();
    assert!(project.read("images.lock").contains("\"sources\": [],"));
}
