//! A ledger that goes elsewhere as a whole.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{REGISTRY, decide, under};
use crate::support::immutag::{Immutag, immutag};
use crate::support::process::{Ran, kill};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// A ledger to which all sorts of things happened, and its server.
fn eventful() -> (ScriptedRegistry, Immutag) {
    let registry = ScriptedRegistry::start();
    let immutag = under(&registry, "hold");
    for number in 0..12 {
        registry.push_index(
            "app",
            &format!("2.{number}"),
            &format!("{number}"),
            &["amd64", "arm64"],
        );
        immutag.direct_manifest(REGISTRY, "app", &format!("2.{number}"));
    }
    // The same manifest at another tag, which is not written twice.
    let first = registry.push_image("app", "1.0.0", "a");
    registry.push_image("app", "1.0.1", "a");
    for tag in ["1.0.0", "1.0.1"] {
        immutag.direct_manifest(REGISTRY, "app", tag);
    }
    let second = registry.push_image("app", "1.0.0", "b");
    immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    decide(&immutag, "approve", &["--digest", second.digest(), "--revoke", first.digest()]).ok();
    super::import(&immutag, &format!("{REGISTRY}/later:1@sha256:{}\n", "5".repeat(64)), &[]).ok();
    (registry, immutag)
}

/// A command of the ledger in another data directory, without a server.
#[track_caller]
fn elsewhere(data_dir: &Path, arguments: &[&str]) -> Ran {
    let data_dir = data_dir.display().to_string();
    immutag(&[&["ledger"][..], arguments, &["--data-dir", &data_dir]].concat())
}

fn export(immutag: &Immutag) -> String {
    immutag.cli(&["ledger", "export"]).ok().stdout
}

#[test]
fn an_export_that_is_imported_elsewhere_is_exported_the_same_but_for_the_ledgers_own_name() {
    let (_registry, source) = eventful();
    let before = export(&source);
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("export"), folder.path().join("data"));
    std::fs::write(&file, &before).unwrap();
    let file = file.display().to_string();
    let ran = elsewhere(&data, &["import", &file, "--reason", "a new machine"]).ok();
    assert!(ran.stdout.contains("were taken over"), "{ran:?}");
    elsewhere(&data, &["verify"]).ok();
    let after = elsewhere(&data, &["export"]).ok().stdout;

    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // Header and creation are each ledger's own; at the end stands where it came from.
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[2..after.len() - 1], before[2..]);
    assert!(before.iter().any(|line| line.starts_with("{\"manifest\":")), "manifests are there");
    assert_ne!(after[0], before[0]);
    assert!(
        before[1].contains("\"kind\":\"created\"") && after[1].contains("\"kind\":\"created\"")
    );
    let last = after[after.len() - 1];
    assert!(
        last.contains("\"kind\":\"ledger-imported\"") && last.contains("a new machine"),
        "{last}"
    );
    let header: serde_json::Value = serde_json::from_str(before[0]).unwrap();
    assert!(last.contains(header["head"].as_str().unwrap()), "{last}");
    assert!(last.contains(header["ledger"].as_str().unwrap()), "{last}");

    let of = |ran: Ran| ran.ok().stdout;
    let tags = ["export", "--format", "tags"];
    let pins = of(source.cli(&["ledger", "export", "--format", "tags"]));
    assert_eq!(of(elsewhere(&data, &tags)), pins);
    assert!(pins.lines().count() > 12, "{pins}");
    // The second import finds it full, and takes nothing over: all of it is known.
    let again = elsewhere(&data, &["import", &file, "--json"]).ok();
    assert!(again.stdout.contains("\"new\":0"), "{again:?}");
}

#[test]
fn a_ledger_that_was_taken_over_serves_with_its_upstream_gone() {
    let (mut registry, mut source) = eventful();
    let before = export(&source);
    let pinned = source.direct_manifest(REGISTRY, "app", "2.3");
    let target = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    registry.stop();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    std::fs::write(&file, &before).unwrap();
    let data = folder.path().join("data");
    elsewhere(&data, &["import", &file.display().to_string()]).ok();
    let mut target = target.data_dir(&data).start();
    let answer = target.direct_manifest(REGISTRY, "app", "2.3");
    assert_eq!((answer.status, &answer.body), (200, &pinned.body), "{}", answer.text());
    target.assert_alive_and_clean();
    source.terminate();
}

#[test]
fn a_file_that_is_cut_and_a_kill_in_the_middle_leave_no_ledger_behind() {
    let (_registry, source) = eventful();
    let whole = export(&source);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let cut = folder.path().join("cut");
    for part in [whole.len() / 3, whole.len() / 2, whole.len() - 40] {
        std::fs::write(&cut, &whole[..part]).unwrap();
        elsewhere(&data, &["import", &cut.display().to_string()]).failed_with("line");
        assert!(!data.join("ledger").exists() && !data.join("anchor").exists());
        assert!(!data.join("ledger.importing").exists());
    }
    let fresh = data.join("ledger.importing");
    for part in [whole.len() / 4, whole.len() - 1] {
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_immutag"));
        command.args(["ledger", "import", "-", "--format", "jsonl", "--data-dir"]).arg(&data);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&whole.as_bytes()[..part]).unwrap();
        input.flush().unwrap();
        crate::support::wait::eventually("the import has begun", || fresh.exists());
        kill(child.id(), rustix::process::Signal::KILL);
        child.wait().unwrap();
        drop(input);
        assert!(fresh.exists(), "a kill cannot clear up");
        assert!(!data.join("ledger").exists() && !data.join("anchor").exists());
    }
    std::fs::write(&cut, &whole).unwrap();
    elsewhere(&data, &["import", &cut.display().to_string()]).ok();
    elsewhere(&data, &["verify"]).ok();
    assert!(!data.join("ledger.importing").exists() && !data.join("ledger.before-import").exists());
}

#[test]
fn an_empty_ledger_is_replaced_and_a_lost_one_is_not() {
    let (registry, source) = eventful();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    std::fs::write(&file, export(&source)).unwrap();
    let file = file.display().to_string();
    let mut empty = under(&registry, "hold");
    // While a server runs on it, a ledger is given claims, and keeps its own history.
    let claims = empty.cli(&["ledger", "import", &file, "--dry-run", "--json"]).ok();
    assert!(claims.stdout.contains("\"new\":14"), "{claims:?}");
    empty.terminate();
    empty.cli(&["ledger", "import", &file]).ok();
    empty.restart();
    assert_eq!(
        empty.cli(&["ledger", "export", "--format", "tags"]).ok().stdout,
        source.cli(&["ledger", "export", "--format", "tags"]).ok().stdout
    );
    empty.terminate();
    std::fs::remove_dir_all(empty.data_dir().join("ledger")).unwrap();
    let refused = empty.cli(&["ledger", "import", &file]).failed_with("rolled back");
    assert_eq!(refused.status.code(), Some(4));
}
