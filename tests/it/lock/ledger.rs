//! The lock file beside a ledger: `faults.md`, L-14 and L-17.

use crate::support::content::OCI_MANIFEST;
use crate::support::http::Call;
use crate::support::immutag::Immutag;
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

use super::{REGISTRY, ended};

struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
        setup.file("Dockerfile", &format!("FROM {REGISTRY}/app:1.0.0\n"));
        Self { registry, immutag: setup.start() }
    }

    fn pull(&self, repository: &str) -> String {
        let answer = self.immutag.direct_manifest(REGISTRY, repository, "1.0.0");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.digest().to_owned()
    }

    #[track_caller]
    fn cli(&self, arguments: &[&str]) -> Ran {
        self.immutag.cli(&[arguments, &["--table"]].concat())
    }

    fn folder(&self) -> std::path::PathBuf {
        self.immutag.data_dir().parent().expect("a file of the test's own").to_owned()
    }

    fn lock_file(&self) -> String {
        std::fs::read_to_string(self.folder().join("images.lock"))
            .expect("a file of the test's own")
    }
}

#[test]
fn what_the_ledger_has_pinned_is_locked_and_a_different_upstream_is_told() {
    let mut stage = Stage::new();
    let first = stage.registry.push_image("app", "1.0.0", "a");
    stage.pull("app");
    let ran = stage.cli(&["lock", "--dry-run"]).ok();
    assert!(ran.stdout.contains("(as the ledger has it pinned)"), "{ran:?}");
    let second = stage.registry.push_image("app", "1.0.0", "b");
    // The same with the server up and down.
    for is_down in [false, true] {
        if is_down {
            stage.immutag.terminate();
        }
        let ran = stage.cli(&["lock"]);
        ended(&ran, 3);
        let words = format!("the ledger has it pinned, the upstream says {}", second.digest());
        assert!(ran.stdout.contains(&words), "{ran:?}");
        assert!(stage.lock_file().contains(first.digest()), "{}", stage.lock_file());
        std::fs::remove_file(stage.folder().join("images.lock")).unwrap();
    }
    // What was revoked is not locked.
    let revoke = ["ledger", "revoke", first.digest(), "--reason", "hostile"];
    stage.cli(&revoke).ok();
    let ran = stage.cli(&["lock"]);
    ended(&ran, 3);
    assert!(ran.stderr.contains("the ledger's pin is revoked"), "{ran:?}");
    assert!(!stage.folder().join("images.lock").exists());
}

#[test]
fn what_the_server_gave_is_locked_and_nothing_else() {
    let mut stage = Stage::new();
    let app = stage.registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
    let other = stage.registry.push_image("other", "1.0.0", "b");
    stage.registry.push_image("unasked", "1.0.0", "c");
    stage.pull("app");
    stage.pull("other");
    assert_eq!(stage.immutag.direct_manifest(REGISTRY, "gone", "1.0.0").status, 404);
    // A client that reads no index gets one platform of it.
    let call = Call::new("GET", &stage.immutag.direct(&format!("{REGISTRY}/app/manifests/1.0.0")));
    let answer = call.field("Accept", OCI_MANIFEST).send();
    assert_eq!(answer.digest(), app.images[0].digest());
    stage.cli(&["lock", "--seen", "--lock", "seen.lock"]).ok();
    let text = std::fs::read_to_string(stage.folder().join("seen.lock")).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&text).unwrap();
    let images = lock["images"].as_object().unwrap();
    for (name, digest) in [("app", app.digest()), ("other", other.digest())] {
        assert_eq!(images[&format!("{REGISTRY}/{name}:1.0.0")]["digest"], digest, "{text}");
    }
    let extra = images.len() - 2;
    assert!(!text.contains("unasked") && !text.contains("gone") && extra == 0, "{text}");
    stage.immutag.terminate();
    stage.cli(&["lock", "--seen", "--lock", "seen.lock"]).failed_with("no server runs");
}

#[test]
fn a_lock_file_goes_through_a_ledger_and_comes_out_the_same() {
    let stage = Stage::new();
    for name in ["app", "other", "third"] {
        stage.registry.push_image(name, "1.0.0", name);
        stage.pull(name);
    }
    stage.cli(&["ledger", "export", "--format", "lock", "--output", "first.lock"]).ok();
    let first = std::fs::read_to_string(stage.folder().join("first.lock")).unwrap();
    assert_eq!(first.lines().count(), 9, "{first}");

    let other = Setup::new().upstream(REGISTRY, &stage.registry.url()).every_tag("hold", "1h");
    let path = other.file("images.lock", &first);
    let other = other.start();
    let path = path.display().to_string();
    other.cli(&["ledger", "import", &path]).ok();
    let before = other.cli(&["ledger", "export", "--format", "lock"]).ok();
    assert!(before.stderr.contains("left out: 3 imported tags"), "{before:?}");
    for name in ["app", "other", "third"] {
        assert_eq!(other.direct_manifest(REGISTRY, name, "1.0.0").status, 200);
    }
    let second = other.cli(&["ledger", "export", "--format", "lock"]).ok().stdout;
    assert_eq!(second, first);
    other.cli(&["ledger", "verify"]).ok();
    // The locks of both say the same to `immutag lock`, too.
    let ran = other.cli(&["lock", "--lock", &path, "--from-ledger", "--table"]).ok();
    assert_eq!(ran.stdout, "", "{ran:?}");
}

#[test]
fn a_lock_file_that_disagrees_with_a_ledger_is_not_imported_and_nothing_of_it_is() {
    let stage = Stage::new();
    stage.registry.push_image("app", "1.0.0", "a");
    stage.pull("app");
    let entry = |name: &str, digit: &str| {
        let digest = format!("sha256:{}", digit.repeat(64));
        format!("    \"{REGISTRY}/{name}:1.0.0\": {{\"digest\": \"{digest}\"}}")
    };
    let text = |entries: &[String]| {
        let entries = entries.join(",\n");
        format!(
            "{{\n  \"version\": 1,\n  \"sources\": [],\n  \"images\": {{\n{entries}\n  }}\n}}\n"
        )
    };
    let events = || {
        let shown = stage.immutag.cli(&["ledger", "status", "--json"]).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["sequence"].as_u64()
    };
    let before = events();
    let path = stage.folder().join("other.lock");
    for (text, code, words) in [
        (text(&[entry("app", "9"), entry("new", "8")]), 3, "pinned to another digest"),
        (text(&[entry("new", "8"), entry("new", "8")]), 2, "twice"),
        (text(&[entry("new", "8")]).replace("\"version\": 1", "\"version\": 7"), 2, "newer"),
        (text(&[entry("new", "8")])[..90].to_owned(), 2, "EOF"),
    ] {
        std::fs::write(&path, text).unwrap();
        let ran = stage.cli(&["ledger", "import", "other.lock"]);
        ended(&ran, code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(words), "{words}: {ran:?}");
        assert_eq!(events(), before, "{words}");
    }
}
