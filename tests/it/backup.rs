//! `ledger backup`, `ledger restore`, `ledger verify --against` and `ledger.expect`, with the real
//! binary, with its server and without. `faults.md`: D-10.

use std::path::Path;

use serde_json::Value;

use crate::support::content::Image;
use crate::support::immutag::{Immutag, immutag};
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

/// A server with `app:1.0.0` pinned, and `2.0.0` not yet.
struct Stage {
    registry: ScriptedRegistry,
    image: Image,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a");
        registry.push_image("app", "2.0.0", "b");
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
        let stage = Self { registry, image, immutag: setup.start() };
        stage.pull("1.0.0");
        stage
    }

    fn pull(&self, tag: &str) -> String {
        self.immutag.manifest(REGISTRY, "app", tag).digest().to_owned()
    }

    fn ledger(&self, arguments: &[&str]) -> Ran {
        self.immutag.cli(&[&["ledger"], arguments].concat())
    }

    /// `SIZE:HASH`, as a person copies it from the table.
    fn head(&self) -> String {
        let status = self.ledger(&["status", "--table"]).ok().stdout;
        let line = status.lines().find_map(|line| line.strip_prefix("head")).expect("a head");
        line.trim().to_owned()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ledger(&["status"]).ok().stdout).expect("JSON")
    }

    fn file(&self, name: &str) -> String {
        let data_dir = self.immutag.data_dir();
        data_dir.with_file_name(name).display().to_string()
    }
}

fn code(ran: &Ran) -> i32 {
    ran.status.code().expect("it ended by itself")
}

/// The same program on a data directory of its own.
fn elsewhere(data_dir: &str, arguments: &[&str]) -> Ran {
    immutag(&[&["ledger"], arguments, &["--data-dir", data_dir]].concat())
}

#[test]
fn a_backup_of_a_running_server_is_restored_elsewhere_and_verifies_against_its_head() {
    let mut stage = Stage::new();
    let (to, other) = (stage.file("backup"), stage.file("other"));
    let head = stage.head();
    let made = stage.ledger(&["backup", &to]).ok();
    assert!(made.stdout.contains(&head), "{made:?}");
    assert!(Path::new(&to).join("backup.json").is_file());
    stage.pull("2.0.0");
    assert_eq!(code(&stage.ledger(&["backup", &to]).failed_with("is there already")), 1);
    stage.ledger(&["verify", "--against", &head]).ok();
    let served = stage.ledger(&["restore", &to, "--reason", "x"]);
    assert_eq!(code(&served.failed_with("a server runs on")), 1);

    let restored = elsewhere(&other, &["restore", &to, "--reason", "a new disk"]).ok();
    assert!(restored.stdout.contains(&head), "{restored:?}");
    elsewhere(&other, &["verify", "--against", &head]).ok();
    let events = elsewhere(&other, &["export"]).ok().stdout;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "restored");
    assert!(last["why"].as_str().unwrap().starts_with("a new disk; from a backup at "), "{last}");
    assert_ne!(last["who"], "");
    // What the running one has since is not there, and its head says so.
    let later = stage.head();
    let refused = elsewhere(&other, &["verify", "--against", &later]);
    assert_eq!(code(&refused.failed_with("another history")), 4);
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn a_roll_back_is_refused_told_by_the_head_and_recorded_when_accepted() {
    let mut stage = Stage::new();
    let to = stage.file("backup");
    stage.ledger(&["backup", &to]).ok();
    stage.pull("2.0.0");
    let head = stage.head();
    stage.immutag.terminate();
    stage.ledger(&["verify", "--against", &head]).ok();
    let refused = stage.ledger(&["restore", &to, "--reason", "x"]);
    assert_eq!(code(&refused.failed_with("--accept-rollback")), 4);
    let all = ["restore", &to, "--reason", "the newer one is bad", "--accept-rollback"];
    let restored = stage.ledger(&all).ok();
    assert!(restored.stdout.contains("ledger.before-restore-"), "{restored:?}");
    let refused = stage.ledger(&["verify", "--against", &head]);
    assert_eq!(code(&refused.failed_with("another history")), 4);
    let longer = head.replacen(head.split(':').next().unwrap(), "999", 1);
    assert_eq!(
        code(&stage.ledger(&["verify", "--against", &longer]).failed_with("rolled back")),
        4
    );
    let mistyped = stage.ledger(&["verify", "--against", "12"]);
    assert_eq!(code(&mistyped.failed_with("SIZE:HASH")), 2);
    stage.immutag.restart();
    assert_eq!(stage.pull("1.0.0"), stage.image.digest());
    assert_eq!(stage.status()["pins"], 1);
    stage.registry.push_image("app", "1.0.0", "c");
    assert_eq!(stage.pull("1.0.0"), stage.image.digest(), "the pin came back with the backup");
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn the_head_stands_in_the_log_at_start_and_at_stop_as_verify_takes_it() {
    let mut stage = Stage::new();
    let head = stage.head();
    stage.immutag.terminate();
    let log = stage.immutag.log();
    let heads: Vec<&str> = log.lines().filter(|line| line.contains("the ledger's head")).collect();
    assert_eq!(heads.len(), 2, "{log}");
    assert!(heads[1].contains(&head), "{} has no {head}", heads[1]);
    let mut words = heads[0].split(|c: char| !(c.is_ascii_hexdigit() || c == ':'));
    let first = words.rfind(|word| word.len() > 65 && word.contains(':'));
    stage.ledger(&["verify", "--against", first.expect("a head")]).ok();
}

#[test]
fn ledger_expect_refuses_another_an_empty_and_a_restored_ledger() {
    let mut stage = Stage::new();
    let to = stage.file("backup");
    stage.ledger(&["backup", &to]).ok();
    let id = stage.status()["id"].as_str().unwrap().to_owned();
    let expecting = |id: &str| format!("[ledger]\nexpect = \"{id}\"");
    stage.immutag.restart_with(|setup| setup.tables(&expecting(&id)));
    assert_eq!(stage.pull("1.0.0"), stage.image.digest());
    stage.immutag.terminate();

    let wrong = expecting(&"0".repeat(32));
    let refused = |ran: Ran| assert_eq!(code(&ran.failed_with("ledger.expect asks for")), 4);
    let data_dir = stage.immutag.data_dir().to_owned();
    refused(Setup::new().data_dir(&data_dir).tables(&wrong).refuse_to_start());
    let empty = Setup::new().tables(&expecting(&id));
    refused(empty.refuse_to_start());
    let config = stage.file("wrong.toml");
    std::fs::write(&config, &wrong).unwrap();
    let data_dir = data_dir.display().to_string();
    refused(elsewhere(&data_dir, &["status", "--config", &config]));
    let other = stage.file("other");
    let restore = ["restore", &to, "--reason", "x", "--config", &config];
    refused(elsewhere(&other, &restore));
    assert!(!Path::new(&other).join("ledger").exists());
}
