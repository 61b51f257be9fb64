//! The command line, beside a running server and without one: `faults.md`, L-06, L-09, O-04.

use std::process::Command;

use serde_json::Value;

use crate::support::content::Image;
use crate::support::immutag::{Immutag, immutag};
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";
const TAG: &str = "registry.example/app:1.0.0";

/// `app:1.0.0` was first seen at A and then at B, under hold.
struct Stage {
    registry: ScriptedRegistry,
    a: Image,
    b: Image,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let b = Image::new("b");
        registry.put_image("app", &b);
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
        let stage = Self { registry, a, b, immutag: setup.start() };
        assert_eq!(stage.pull(), stage.a.digest());
        stage.move_to(stage.b.digest());
        stage
    }

    /// The upstream moves, and immutag has seen it.
    fn move_to(&self, digest: &str) {
        self.registry.retag("app", "1.0.0", digest);
        let before = self.immutag.metric("immutag_events_total", "");
        self.pull();
        self.immutag.wait_for_metric("immutag_events_total", "", before + 1.0);
    }

    fn pull(&self) -> String {
        self.immutag.manifest(REGISTRY, "app", "1.0.0").digest().to_owned()
    }

    fn approve(&self, digest: &str) -> Ran {
        let arguments = ["ledger", "approve", TAG, "--digest", digest, "--reason", "ticket 7"];
        self.immutag.cli(&arguments)
    }

    fn show(&self) -> Value {
        let shown = self.immutag.cli(&["ledger", "show", TAG]).ok();
        serde_json::from_str(&shown.stdout).expect("one line of JSON")
    }
}

fn code(ran: &Ran) -> i32 {
    ran.status.code().expect("it ended by itself")
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

#[test]
fn an_approval_moves_the_tag_of_a_running_server_at_once() {
    let stage = Stage::new();
    assert_eq!(stage.show()["conflict"]["observed"], stage.b.digest());
    assert_eq!(code(&stage.immutag.cli(&["check", TAG])), 3);
    stage.approve(stage.b.digest()).ok();
    assert_eq!(stage.pull(), stage.b.digest());
    assert_eq!(stage.show()["conflict"], Value::Null);
    let again = stage.approve(stage.b.digest()).ok();
    assert_eq!(lines(&again)[0]["changed"], false);
    let unseen = format!("sha256:{}", "c".repeat(64));
    assert_eq!(code(&stage.approve(&unseen).failed_with("was never observed")), 1);
    let history = lines(&stage.immutag.cli(&["ledger", "history", TAG]).ok());
    let kinds: Vec<_> = history.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["pinned", "conflict", "approved"]);
    assert_eq!(history[2]["why"], "ticket 7");
    assert_ne!(history[2]["who"], "");
    assert_eq!(code(&stage.immutag.cli(&["check", TAG])), 0);
}

#[test]
fn a_hostile_first_pin_is_cured_with_the_server_down_in_one_command() {
    let mut stage = Stage::new();
    stage.immutag.terminate();
    let (a, b) = (stage.a.digest().to_owned(), stage.b.digest().to_owned());
    let cure = ["ledger", "approve", TAG, "--digest", &b, "--revoke", &a, "--reason", "stolen key"];
    stage.immutag.cli(&cure).ok();
    let events = lines(&stage.immutag.cli(&["ledger", "export"]).ok());
    let audited = |kind: &str| {
        events.iter().any(|event| event["kind"] == kind && event["why"] == "stolen key")
    };
    assert!(audited("revoked") && audited("approved"), "{events:#?}");
    stage.immutag.cli(&["ledger", "verify"]).ok();
    stage.immutag.restart();
    assert_eq!(stage.pull(), b);
    assert_eq!(stage.immutag.direct_manifest(REGISTRY, "app", &a).status, 403);
}

#[test]
fn a_revocation_is_at_once_and_can_be_taken_back() {
    let stage = Stage::new();
    let a = stage.a.digest();
    stage.immutag.cli(&["ledger", "revoke", a, "--reason", "hostile"]).ok();
    for reference in ["1.0.0", a] {
        assert_eq!(stage.immutag.direct_manifest(REGISTRY, "app", reference).status, 403);
        assert_ne!(stage.immutag.manifest(REGISTRY, "app", reference).digest(), a);
    }
    stage.approve(a).failed_with("is revoked");
    stage.immutag.cli(&["ledger", "revoke", a, "--undo", "--reason", "a mistake"]).ok();
    assert_eq!(stage.pull(), a);
}

#[test]
fn a_forgotten_tag_is_a_first_sight_again() {
    let stage = Stage::new();
    stage.immutag.cli(&["ledger", "forget", TAG, "--reason", "moved on"]).ok();
    assert_eq!(stage.pull(), stage.b.digest());
    assert_eq!(stage.show()["pin"]["content"]["digest"], stage.b.digest());
}

#[test]
fn a_rejected_digest_closes_the_conflict_and_is_never_served() {
    let stage = Stage::new();
    let b = stage.b.digest();
    stage.immutag.cli(&["ledger", "reject", TAG, "--digest", b, "--reason", "hostile"]).ok();
    assert_eq!(stage.show()["conflict"], Value::Null);
    assert_eq!(stage.pull(), stage.a.digest());
    assert!(lines(&stage.immutag.cli(&["ledger", "list", "--conflicts"]).ok()).is_empty());
}

#[test]
fn a_table_is_for_people() {
    let stage = Stage::new();
    let table = stage.immutag.cli(&["ledger", "list", "app*", "--table"]).ok().stdout;
    assert!(table.starts_with("TAG "), "{table}");
    assert!(table.contains("CONFLICT sha256:"), "{table}");
    let shown = stage.immutag.cli(&["ledger", "show", TAG, "--table"]).ok().stdout;
    assert!(shown.contains(stage.a.digest()) && shown.contains(stage.b.digest()), "{shown}");
    let status = lines(&stage.immutag.cli(&["ledger", "status"]).ok());
    assert_eq!((&status[0]["pins"], &status[0]["conflicts"]), (&1.into(), &1.into()));
    stage.immutag.cli(&["ledger", "rebuild"]).ok();
}

#[test]
fn a_check_compares_with_the_given_digest_and_tells_an_upstream_that_is_down() {
    let mut stage = Stage::new();
    stage.registry.retag("app", "1.0.0", stage.a.digest());
    let given = format!("{TAG}@{}", stage.a.digest());
    assert_eq!(code(&stage.immutag.cli(&["check", TAG, &given])), 0);
    let wrong = stage.immutag.cli(&["check", &format!("{TAG}@{}", stage.b.digest())]);
    assert_eq!((code(&wrong), &lines(&wrong)[0]["found"]), (3, &"mismatch".into()));
    let other = stage.immutag.cli(&["check", "registry.example/app:none", "nowhere.example/x:1"]);
    assert_eq!(code(&other), 1);
    stage.registry.stop();
    assert_eq!(code(&stage.immutag.cli(&["check", TAG])), 5);
}

#[test]
fn rules_are_explained_and_held_against_the_ledger() {
    let stage = Stage::new();
    let explained = stage.immutag.cli(&["rules", "test", "alpine:3.19.1", "--table"]).ok();
    assert!(explained.stdout.contains("rule 1"), "{}", explained.stdout);
    let held = lines(&stage.immutag.cli(&["rules", "test", "--ledger"]).ok());
    assert_eq!((held.len(), &held[0]["reaction"]), (1, &"hold".into()));
    assert_eq!(held[0]["held"]["digest"], stage.a.digest());
    let unseen = lines(&stage.immutag.cli(&["rules", "test", "--ledger", "alpine:9"]).ok());
    assert_eq!(unseen[0]["held"]["digest"], Value::Null);
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_immutag"));
    let ran = command.args(["completions", "bash"]).stdout(writer).output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn a_command_that_cannot_be_meant_or_done_says_so_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    for (arguments, expected) in [
        (vec!["nonsense"], 2),
        (vec!["ledger", "approve", "alpine:3"], 2),
        (vec!["ledger", "list", "--data-dir", empty], 1),
        (vec!["validate", "--config", "does-not-exist.toml"], 2),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["completions", "fish"], 0),
        (vec!["rules", "test", "alpine:3.19.1", "--data-dir", empty], 0),
    ] {
        let ran = immutag(&arguments);
        assert_eq!(code(&ran), expected, "{arguments:?}: {ran:#?}");
    }
    let made = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(made, 0, "a command that only reads makes no ledger");
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once() {
    let setup = Setup::new();
    let file = setup.file("broken.toml", "offline = 3\nnonsense = 1\n");
    let ran = immutag(&["validate", "--config", file.to_str().unwrap()]);
    assert_eq!((code(&ran), lines(&ran).len()), (2, 2), "{ran:#?}");
    assert!(ran.stderr.contains("offline") && ran.stderr.contains("nonsense"), "{ran:#?}");
    let file = setup.file("good.toml", "data-dir = \"/nowhere\"\n");
    let ran = immutag(&["validate", "--config", file.to_str().unwrap()]).ok();
    let listeners = lines(&ran)[0]["listeners"].as_array().expect("a list").len();
    assert_eq!(listeners, 2);
}
