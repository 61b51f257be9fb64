//! `immutag lock`: what stands in `images.lock`, what moves it, and what must not.

mod hostile;
mod ledger;
mod sources;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Ran, run};
use crate::support::registry::ScriptedRegistry;

const REGISTRY: &str = "registry.example";

/// A folder with files that name images, and no ledger.
struct Project {
    folder: TempDir,
    registry: ScriptedRegistry,
}

impl Project {
    fn new() -> Self {
        let project = Self {
            folder: tempfile::tempdir().expect("a file of the test's own"),
            registry: ScriptedRegistry::start(),
        };
        let url = project.registry.url();
        let upstream = format!("[upstream.\"{REGISTRY}\"]\nurl = \"{url}\"\n");
        let plain = "plain-http = true\nallow-private = true\n";
        project.write("immutag.toml", &format!("{upstream}{plain}"));
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text.replace("$R", REGISTRY))
            .expect("a file of the test's own");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file of the test's own")
    }

    /// Runs `immutag lock` there, as on a terminal.
    #[track_caller]
    fn lock(&self, arguments: &[&str]) -> Ran {
        run(self.command().args(["lock", "--table"]).args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_immutag"));
        self.prepare(&mut command);
        command
    }

    /// In this folder, with nothing of this machine's environment that could change what it does.
    fn prepare(&self, command: &mut Command) {
        let own =
            |name: &str| name.starts_with("IMMUTAG") || name.to_lowercase().ends_with("_proxy");
        for (name, _) in std::env::vars().filter(|(name, _)| own(name)) {
            command.env_remove(name);
        }
        let data_dir = self.path("data").display().to_string();
        command.current_dir(self.folder.path()).env("IMMUTAG__DATA_DIR", data_dir);
    }

    /// What the lock file has for `name`, below the registry.
    #[track_caller]
    fn digest(&self, name: &str) -> String {
        let lock: Value =
            serde_json::from_str(&self.read("images.lock")).expect("a file of the test's own");
        let digest = &lock["images"][format!("{REGISTRY}/{name}")]["digest"];
        digest.as_str().unwrap_or_else(|| panic!("no {name} in {lock:#}")).to_owned()
    }
}

#[track_caller]
fn ended(ran: &Ran, code: i32) {
    assert_eq!(ran.status.code(), Some(code), "{ran:#?}");
}

#[test]
fn a_lock_file_keeps_what_it_has_and_takes_in_what_is_new() {
    let project = Project::new();
    let base = project.registry.push_index("base", "3.19", "a", &["amd64", "arm64"]);
    let tool = project.registry.push_image("tool", "1.0.0", "b");
    let cert = project.registry.push_image("cert", "2", "c");
    project.write(
        "Dockerfile",
        "ARG VERSION=3.19\nFROM --platform=linux/arm64 $R/base:${VERSION} AS build\nRUN make\n\
         FROM $R/tool:1.0.0?immutable=1\nCOPY --from=build /a /a\nCOPY --from=$R/cert:2 /c /c\n",
    );
    let ran = project.lock(&[]).ok();
    assert!(ran.stdout.contains(&format!("+ {REGISTRY}/base:3.19 {}\n", base.digest())), "{ran:?}");
    assert!(ran.stderr.contains("images.lock: written; 3 references"), "{ran:?}");
    let expected = format!(
        "{{\n  \"version\": 1,\n  \"sources\": [\"Dockerfile\"],\n  \"images\": {{\n    \
         \"{REGISTRY}/base:3.19\": {{\"digest\": \"{}\"}},\n    \
         \"{REGISTRY}/cert:2\": {{\"digest\": \"{}\"}},\n    \
         \"{REGISTRY}/tool:1.0.0\": {{\"digest\": \"{}\", \"immutable\": true}}\n  }}\n}}\n",
        base.digest(),
        cert.digest(),
        tool.digest()
    );
    assert_eq!(project.read("images.lock"), expected);
    project.lock(&["--check"]).ok();

    // Everything moves upstream, and a new one is named.
    for name in ["base:3.19", "tool:1.0.0", "cert:2"] {
        let (repository, tag) = name.split_once(':').unwrap();
        project.registry.push_image(repository, tag, "moved");
    }
    project.registry.push_image("new", "1", "d");
    project.registry.forget_requests();
    let ran = project.lock(&[]).ok();
    assert_eq!((ran.stdout.as_str(), project.registry.requests().len()), ("", 0));
    let dockerfile = project.read("Dockerfile") + &format!("FROM {REGISTRY}/new:1\n");
    project.write("Dockerfile", &dockerfile);
    let ran = project.lock(&["--check"]);
    ended(&ran, 6);
    let missing = format!("missing: {REGISTRY}/new:1 (Dockerfile:7)\n");
    assert!(ran.stdout == missing && ran.stderr.contains("is stale"), "{ran:?}");
    assert_eq!((project.read("images.lock"), project.registry.requests().len()), (expected, 0));
    project.lock(&[]).ok();
    assert_eq!(project.digest("base:3.19"), base.digest());
    assert_eq!(project.registry.count("GET /v2/new/manifests/1"), 1);
    assert_eq!(project.registry.requests().len(), 1);
    project.lock(&["--check"]).ok();
}

#[test]
fn an_update_moves_what_it_is_told_to_and_never_what_is_immutable() {
    let project = Project::new();
    let old = ["a", "b", "c"].map(|name| project.registry.push_image(name, "1", name));
    project.write("Dockerfile", "FROM $R/a:1\nFROM $R/b:1\nFROM $R/c:1?immutable=1\n");
    project.lock(&[]).ok();
    let new = ["a", "b", "c"].map(|name| project.registry.push_image(name, "1", "moved"));
    let [a, b, c] = ["a:1", "b:1", "c:1"];

    let dry = project.lock(&["--update", "--dry-run"]);
    ended(&dry, 3);
    assert_eq!(project.digest(a), old[0].digest());
    project.lock(&[&format!("--update={REGISTRY}/b:1")]).ok();
    assert_eq!([a, b].map(|it| project.digest(it)), [old[0].digest(), new[1].digest()]);

    let ran = project.lock(&["--update"]);
    ended(&ran, 3);
    let words = format!(
        "! {REGISTRY}/c:1 {}: it is immutable and stays; it is {} now",
        old[2].digest(),
        new[2].digest()
    );
    assert!(ran.stdout.contains(&words), "{ran:?}");
    let moved = format!("~ {REGISTRY}/a:1 {} -> {}\n", &old[0].digest()[..19], new[0].digest());
    assert!(ran.stdout.contains(&moved), "{ran:?}");
    assert_eq!([a, c].map(|it| project.digest(it)), [new[0].digest(), old[2].digest()]);
    ended(&project.lock(&["--update=other:1"]), 2);
}

#[test]
fn nothing_is_written_unless_everything_is_resolved() {
    let mut project = Project::new();
    project.registry.push_image("a", "1", "a");
    project.write("Dockerfile", "FROM $R/a:1\n");
    project.lock(&[]).ok();
    let before = project.read("images.lock");
    project.registry.push_image("b", "1", "b");
    project.write("Dockerfile", "FROM $R/a:1\nFROM $R/b:1\nFROM $R/gone:1\n");
    let ran = project.lock(&[]);
    ended(&ran, 1);
    let words = format!("{REGISTRY}/gone:1 (Dockerfile:3): the upstream has no such tag");
    assert!(ran.stderr.contains(&words) && ran.stderr.contains("nothing was written"), "{ran:?}");
    assert_eq!((project.read("images.lock"), ran.stdout.as_str()), (before.clone(), ""));
    project.write("Dockerfile", "FROM unknown.example/a:1\n");
    let ran = project.lock(&[]);
    ended(&ran, 1);
    assert!(ran.stderr.contains("no such upstream"), "{ran:?}");
    project.write("Dockerfile", "FROM $R/a:1\nFROM $R/b:1\n");
    project.registry.stop();
    let ran = project.lock(&[]);
    ended(&ran, 5);
    assert_eq!(project.read("images.lock"), before);
    assert_eq!(
        std::fs::read_dir(project.folder.path()).unwrap().count(),
        3,
        "no staged file stays"
    );
}

#[test]
fn what_no_source_names_stays_until_it_is_pruned() {
    let project = Project::new();
    for name in ["a", "b", "hand"] {
        project.registry.push_image(name, "1", name);
    }
    project.write("Dockerfile", "FROM $R/a:1\nFROM $R/b:1\n");
    project.lock(&["--add", &format!("{REGISTRY}/hand:1?immutable=1")]).ok();
    project.write("Dockerfile", "FROM $R/a:1\n");
    let ran = project.lock(&[]).ok();
    assert!(ran.stderr.contains("2 of them are named by no source"), "{ran:?}");
    let ran = project.lock(&["--check"]).ok();
    assert!(ran.stdout.contains(&format!("named by no source: {REGISTRY}/hand:1\n")), "{ran:?}");
    ended(&project.lock(&["--check", "--prune"]), 6);
    let ran = project.lock(&["--prune"]).ok();
    assert!(ran.stdout.contains(&format!("- {REGISTRY}/b:1 sha256:")), "{ran:?}");
    project.lock(&["--check", "--prune"]).ok();
    assert!(!project.read("images.lock").contains("hand"));
}
