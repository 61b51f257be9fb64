//! Deleted, restored, exchanged and shared data directories.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use immutag::event::{Draft, EventKind};
use immutag::ledger::{LedgerStore, OpenError, OpenOptions};
use immutag::oci::Digest;

use super::common::{assert_filled, copy, filled, key, open, options, pin, try_open};

fn accepting(dir: &Path) -> OpenOptions {
    OpenOptions { accept_rollback: true, ..options(dir) }
}

fn assert_rolled_back(dir: &Path, words: &str) {
    let error = try_open(&options(dir)).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::RolledBack { .. }) && error.is_damage(), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains("--accept-rollback"), "{error}");
}

#[tokio::test]
async fn a_deleted_ledger_directory_is_no_new_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 3).await;
    let old = open(dir).status().id;
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    assert_rolled_back(dir, "there is no log");
    assert_rolled_back(dir, "there is no log");
    let ledger = try_open(&accepting(dir)).unwrap();
    let kinds: Vec<_> = ledger.events(0, 9).await.unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::RollbackAccepted]);
    assert_ne!(ledger.status().id, old);
    drop(ledger);
    open(dir);
}

#[tokio::test]
async fn emptied_directories_are_no_new_ledger_either() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    fs::remove_dir_all(dir.join("ledger/log")).unwrap();
    assert_rolled_back(dir, "there is no log");
    fs::create_dir(dir.join("ledger/log")).unwrap();
    assert_rolled_back(dir, "there is no log");
}

#[tokio::test]
async fn a_restored_old_copy_is_refused_until_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 3).await;
    copy(&dir.join("ledger"), &dir.join("backup"));
    let ledger = open(dir);
    pin(&ledger, "t3").await.unwrap();
    ledger.close().await;
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    copy(&dir.join("backup"), &dir.join("ledger"));
    assert_rolled_back(dir, "ends with record 4");
    let ledger = try_open(&accepting(dir)).unwrap();
    assert_filled(&ledger, 3).await;
    assert_eq!(ledger.state(&key("t3")).await.unwrap(), None);
    let last = ledger.events(5, 9).await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].kind, EventKind::RollbackAccepted);
    assert!(last[0].why.contains("record 5"), "{}", last[0].why);
    drop(ledger);
    // The history has forked: the newer copy is now the one that does not fit.
    assert_filled(&open(dir), 3).await;
}

#[tokio::test]
async fn a_log_with_another_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    filled(&one, 3).await;
    copy(&one, &other);
    for (dir, tag) in [(&one, "x"), (&other, "y")] {
        let ledger = open(dir);
        pin(&ledger, tag).await.unwrap();
        ledger.close().await;
    }
    fs::copy(one.join("anchor"), other.join("anchor")).unwrap();
    assert_rolled_back(&other, "another record 5");
    let third = dir.path().join("third");
    filled(&third, 9).await;
    fs::copy(one.join("anchor"), third.join("anchor")).unwrap();
    assert_rolled_back(&third, "here is ledger");
    fs::write(third.join("anchor"), "x").unwrap();
    assert_rolled_back(&third, "cannot be read");
}

#[tokio::test]
async fn only_the_expected_ledger_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let expecting = |id: &str| OpenOptions { expected_id: Some(id.into()), ..options(dir) };
    let error = try_open(&expecting("00")).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Unexpected { .. }), "{error}");
    assert!(!dir.join("ledger").exists(), "nothing was made");
    let id = open(dir).status().id;
    try_open(&expecting(&id)).unwrap();
    assert!(matches!(try_open(&expecting("00")), Err(OpenError::Unexpected { .. })));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    let ledger = open(dir);
    let digest = Digest::sha256([1; 32]);
    let revoke = Draft { pinned: Some(digest), ..Draft::new(EventKind::Revoked, None) };
    ledger.append_global(revoke).await.unwrap();
    let conflict = Draft {
        observed: Some(super::common::manifest("evil").content),
        ..Draft::new(EventKind::Conflict, Some(key("t0")))
    };
    ledger.append(conflict, 2, None).await.unwrap();
    let (before, state) = (ledger.status(), ledger.state(&key("t0")).await.unwrap());
    ledger.close().await;
    assert!(pin(&ledger, "late").await.is_err(), "a closed ledger takes nothing");
    let ledger = open(dir);
    let after = ledger.status();
    assert_eq!((before.sequence, before.pins, 1), (after.sequence, after.pins, after.conflicts));
    assert_eq!((before.id, before.head), (after.id, after.head));
    assert_eq!(before.created_ms, after.created_ms);
    assert!(ledger.is_revoked(&digest));
    assert_eq!(super::common::until_known(async || ledger.state(&key("t0")).await).await, state);
}

#[test]
fn a_child_holds_the_ledger() {
    let Some(dir) = std::env::var_os("IMMUTAG_TEST_HOLD") else { return };
    let _ledger = open(Path::new(&dir));
    println!("\nheld");
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn two_processes_cannot_have_one_data_directory_and_a_dead_one_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "start::a_child_holds_the_ledger"])
        .env("IMMUTAG_TEST_HOLD", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    let error = try_open(&options(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }) && !error.is_damage(), "{error}");
    let holder = format!("process {} on ", child.id());
    assert!(error.to_string().contains(&holder), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(dir.path());
}
