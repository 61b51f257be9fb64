//! Backups made while the ledger goes on, and what may take the place of what.

use std::fs;
use std::path::{Path, PathBuf};

use immutag::clock::SystemClock;
use immutag::event::EventKind;
use immutag::ledger::{
    BackupError, LedgerStore, OpenError, OpenOptions, Point, RestoreError, Restored, restore,
};

use super::common::{assert_filled, copy, filled, open, options, pin, segments, try_open};

fn accepting(dir: &Path) -> OpenOptions {
    OpenOptions { accept_rollback: true, ..options(dir) }
}

fn put_back(options: &OpenOptions, from: &Path) -> Result<Restored, RestoreError> {
    restore(options, from, ("alice", "it was lost"), &*SystemClock::shared())
}

fn backups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.display().to_string().contains("before-restore");
    entries.filter(is_one).collect()
}

/// A ledger with `count` pins and a backup of it, beside each other.
async fn backed_up(root: &Path, count: usize) -> (PathBuf, PathBuf, Point) {
    let (data, to) = (root.join("data"), root.join("backup"));
    filled(&data, count).await;
    let ledger = open(&data);
    let head = ledger.backup(&to).unwrap().head;
    ledger.close().await;
    (data, to, head)
}

#[tokio::test]
async fn a_backup_made_during_writes_is_restored_whole_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let (data, to) = (root.path().join("data"), root.path().join("backup"));
    filled(&data, 100).await;
    let ledger = std::sync::Arc::new(open(&data));
    let writing = {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for n in 100..200 {
                pin(&ledger, &format!("t{n}")).await.unwrap();
            }
        })
    };
    let made = {
        let (ledger, to) = (ledger.clone(), to.clone());
        tokio::task::spawn_blocking(move || ledger.backup(&to).unwrap()).await.unwrap()
    };
    writing.await.unwrap();
    assert!(made.head.sequence >= 101 && made.files.len() > 2, "{made:?}");
    assert_eq!(ledger.against(made.head).unwrap(), None);
    let again = ledger.backup(&to).unwrap_err();
    assert!(matches!(again, BackupError::Exists(_)), "{again}");
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "nothing half-made stays: {left:?}");

    let other = root.path().join("other");
    let restored = put_back(&options(&other), &to).unwrap();
    assert_eq!((restored.from, restored.aside), (made.head, None));
    let ledger = open(&other);
    let pins = usize::try_from(made.head.sequence).unwrap() - 1;
    assert_filled(&ledger, pins).await;
    let last = ledger.events(made.head.sequence + 1, 9).await.unwrap();
    assert_eq!((last.len(), last[0].kind), (1, EventKind::Restored));
    assert_eq!(last[0].who, "alice");
    assert!(last[0].why.starts_with("it was lost; from a backup at "), "{}", last[0].why);
    assert!(last[0].why.contains(&made.head.to_string()), "{}", last[0].why);
    assert_eq!(ledger.against(made.head).unwrap(), None);
}

#[tokio::test]
async fn a_lost_tail_is_restored_without_a_word_and_an_equal_ledger_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let (data, old) = (root.path().join("data"), root.path().join("old"));
    filled(&data, 5).await;
    copy(&data, &old);
    let ledger = open(&data);
    for n in 5..60 {
        pin(&ledger, &format!("t{n}")).await.unwrap();
    }
    let to = root.path().join("backup");
    let head = ledger.backup(&to).unwrap().head;
    ledger.close().await;
    let same = put_back(&options(&data), &to).unwrap();
    assert_eq!(same, Restored { from: head, now: None, aside: None });
    assert!(backups(&data).is_empty());
    let restored = put_back(&options(&old), &to).unwrap();
    assert_eq!(restored.now.unwrap().sequence, head.sequence + 1);
    assert_eq!(restored.aside, Some(old.join("ledger.before-restore-6")));
    assert_filled(&open(&old), 60).await;
    assert!(!old.join("restoring").exists());
}

#[tokio::test]
async fn a_restore_that_rolls_back_is_refused_until_accepted_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (data, to, head) = backed_up(root.path(), 3).await;
    let ledger = open(&data);
    pin(&ledger, "t3").await.unwrap();
    ledger.close().await;
    let before = fs::read(segments(&data).pop().unwrap()).unwrap();
    let refused = put_back(&options(&data), &to).unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, RestoreError::RollsBack(_)), "{words}");
    assert!(words.contains("roll the ledger back") && words.contains("--accept-rollback"));
    assert_filled(&open(&data), 4).await;
    let restored = put_back(&accepting(&data), &to).unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(aside, data.join("ledger.before-restore-5"));
    let kept = fs::read_dir(aside.join("log")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(kept).unwrap(), before, "the old ledger is kept as it was");
    let ledger = open(&data);
    assert_filled(&ledger, 3).await;
    let last = ledger.events(head.sequence + 1, 9).await.unwrap();
    assert_eq!((last.len(), last[0].kind), (1, EventKind::Restored));
    assert!(last[0].why.contains("rolled back"), "{}", last[0].why);
}

#[tokio::test]
async fn another_ledger_a_fork_and_an_anchor_that_knows_more_are_roll_backs_too() {
    let root = tempfile::tempdir().unwrap();
    let (data, to, _) = backed_up(root.path(), 3).await;
    let other = root.path().join("other");
    filled(&other, 3).await;
    let words = put_back(&options(&other), &to).unwrap_err().to_string();
    assert!(words.contains("another ledger"), "{words}");
    // A ledger that is gone is no reason to forget what its anchor knows.
    let ledger = open(&data);
    pin(&ledger, "x").await.unwrap();
    ledger.close().await;
    fs::rename(data.join("ledger"), root.path().join("lost")).unwrap();
    let words = put_back(&options(&data), &to).unwrap_err().to_string();
    assert!(words.contains("the anchor knows 5:"), "{words}");
    put_back(&accepting(&data), &to).unwrap();
    // Its history is another one from here on, though it is as long.
    let fork = root.path().join("fork");
    assert_filled(&open(&data), 3).await;
    fs::create_dir(&fork).unwrap();
    copy(&root.path().join("lost"), &fork.join("ledger"));
    let ledger = open(&data);
    let longer = root.path().join("longer");
    ledger.backup(&longer).unwrap();
    ledger.close().await;
    let words = put_back(&options(&fork), &longer).unwrap_err().to_string();
    assert!(words.contains("another history"), "{words}");
}

#[tokio::test]
async fn a_spoilt_backup_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (_, to, _) = backed_up(root.path(), 60).await;
    let data = root.path().join("new");
    let first = fs::read_dir(to.join("log")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&first).unwrap();
    let json = fs::read_to_string(to.join("backup.json")).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for spoilt in [&flipped, &bytes[..bytes.len() - 1].to_vec(), &[&bytes[..], b"x"].concat()] {
        fs::write(&first, spoilt).unwrap();
        let error = put_back(&options(&data), &to).unwrap_err();
        let is_damage = matches!(error, RestoreError::Backup(BackupError::Damaged { .. }));
        assert!(is_damage, "{error:?}");
        // Whoever spoils the file can spoil what backup.json says of it, but not the chain.
        let sha256 = |bytes: &[u8]| {
            immutag::oci::ComputedDigest::of(bytes, None).digest().to_string()[7..].to_owned()
        };
        let (size, now) = (format!(": {}", bytes.len()), format!(": {}", spoilt.len()));
        let told = json.replace(&sha256(&bytes), &sha256(spoilt)).replace(&size, &now);
        fs::write(to.join("backup.json"), told).unwrap();
        assert!(put_back(&options(&data), &to).is_err());
        fs::write(to.join("backup.json"), &json).unwrap();
    }
    fs::write(&first, &bytes).unwrap();
    let later = json.replace("\"format\": 1", "\"format\": 2");
    fs::write(to.join("backup.json"), later).unwrap();
    let error = put_back(&options(&data), &to).unwrap_err();
    let is_later = matches!(error, RestoreError::Backup(BackupError::UnknownFormat(2)));
    assert!(is_later, "{error:?}");
    fs::write(to.join("backup.json"), json.replace(".seg", "/../x.seg")).unwrap();
    assert!(put_back(&options(&data), &to).is_err());
    assert!(!data.join("ledger").exists() && !data.join("restoring").exists());
    fs::write(to.join("backup.json"), &json).unwrap();
    let elsewhere = OpenOptions { expected_id: Some("00".into()), ..options(&data) };
    let error = put_back(&elsewhere, &to).unwrap_err();
    assert!(matches!(error, RestoreError::Open(OpenError::Unexpected { .. })), "{error}");
    put_back(&options(&data), &to).unwrap();
    assert_filled(&open(&data), 60).await;
}

#[tokio::test]
async fn what_a_broken_off_restore_leaves_is_no_obstacle_and_never_a_new_ledger() {
    let root = tempfile::tempdir().unwrap();
    let (data, to, _) = backed_up(root.path(), 3).await;
    let ledger = open(&data);
    pin(&ledger, "t3").await.unwrap();
    ledger.close().await;
    // Broken off while it copied: the old ledger is whole.
    fs::create_dir_all(data.join("restoring/ledger/log")).unwrap();
    fs::write(data.join("restoring/ledger/log/x"), b"half").unwrap();
    assert_filled(&open(&data), 4).await;
    // Broken off between the exchange and the anchor: the start says so.
    let anchor = fs::read(data.join("anchor")).unwrap();
    put_back(&accepting(&data), &to).unwrap();
    fs::write(data.join("anchor"), anchor).unwrap();
    let error = try_open(&options(&data)).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");
    assert_filled(&try_open(&accepting(&data)).unwrap(), 3).await;
}

#[tokio::test]
async fn a_ledger_is_held_against_the_heads_that_it_went_through_and_no_others() {
    let root = tempfile::tempdir().unwrap();
    let (one, other) = (root.path().join("one"), root.path().join("other"));
    filled(&one, 3).await;
    copy(&one, &other);
    let mut points = Vec::new();
    for dir in [&one, &other] {
        let ledger = open(dir);
        for n in 0..40 {
            pin(&ledger, &format!("{}{n}", dir.file_name().unwrap().display())).await.unwrap();
            points.push((dir.clone(), ledger.status().point().parse::<Point>().unwrap()));
        }
        ledger.close().await;
    }
    for dir in [&one, &other] {
        let ledger = open(dir);
        for (of, point) in &points {
            let words = ledger.against(*point).unwrap();
            assert_eq!(words.is_none(), of == dir, "{point}: {words:?}");
            assert!(words.is_none_or(|words| words.contains("another history")));
        }
        let last = points.iter().rev().find(|(of, _)| of == dir).unwrap().1;
        let later = Point { sequence: last.sequence + 1, ..last };
        let words = ledger.against(later).unwrap().unwrap();
        assert!(words.contains("rolled back") && words.contains(&later.to_string()), "{words}");
    }
}
