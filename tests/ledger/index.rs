//! The index, damaged in each way that sled 0.34 does not survive by itself. The log has it all.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use immutag::ledger::{LedgerStore, OpenOptions, Outcome};

use super::common::{
    assert_filled, copy, filled, is_long, key, manifest, open, options, pin, random, run, try_open,
    until_known,
};

const PINS: usize = 60;

fn index(dir: &Path) -> PathBuf {
    dir.join("ledger/index")
}

fn damaged(dir: &Path) -> usize {
    let entries = fs::read_dir(dir.join("ledger")).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("index-damaged-"))
        .count()
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(index(dir)).unwrap().flatten().map(|entry| entry.path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect()
}

/// A closed ledger with an index that has seen a restart, so that sled made a snapshot.
async fn indexed(dir: &Path) {
    filled(dir, PINS).await;
    let ledger = open(dir);
    ledger.index_caught_up().await.unwrap();
    ledger.close().await;
}

#[tokio::test]
async fn whatever_happens_to_the_index_the_log_gives_it_back() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 9] = [
        ("deleted", |dir| fs::remove_dir_all(index(dir)).unwrap()),
        ("emptied", |dir| {
            fs::remove_dir_all(index(dir)).unwrap();
            fs::create_dir(index(dir)).unwrap();
        }),
        ("an empty half-made snapshot", |dir| {
            fs::write(index(dir).join("snap.0000000000000001.generating"), b"").unwrap();
        }),
        ("a partial half-made snapshot", |dir| {
            fs::write(index(dir).join("snap.0000000000000001.generating"), [1; 99]).unwrap();
        }),
        ("db is missing", |dir| fs::remove_file(index(dir).join("db")).unwrap()),
        ("conf is missing", |dir| fs::remove_file(index(dir).join("conf")).unwrap()),
        ("conf is of another version", |dir| {
            fs::write(index(dir).join("conf"), b"segment_size: 1\nversion: 1.0\n").unwrap();
        }),
        ("a truncated snapshot", |dir| {
            for path in snapshots(dir) {
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }),
        ("a truncated db", |dir| {
            let file = fs::OpenOptions::new().write(true).open(index(dir).join("db")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
    ];
    for (name, harm) in harms {
        println!("{name}");
        let dir = tempfile::tempdir().unwrap();
        indexed(dir.path()).await;
        harm(dir.path());
        let ledger = open(dir.path());
        pin(&ledger, &format!("t{PINS}")).await.unwrap();
        until_known(async || ledger.index_caught_up().await).await;
        assert_filled(&ledger, PINS + 1).await;
    }
}

#[tokio::test]
async fn a_flipped_byte_in_the_index_never_hangs_and_never_lies() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, spoilt) = (dir.path().join("whole"), dir.path().join("spoilt"));
    indexed(&whole).await;
    let rounds = if is_long() { 200 } else { 12 };
    for _ in 0..rounds {
        copy(&whole, &spoilt);
        let db = index(&spoilt).join("db");
        let bytes = fs::read(&db).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
        let (at, bit) = (random(used), random(8));
        println!("byte {at}, bit {bit}");
        let file = fs::OpenOptions::new().write(true).open(&db).unwrap();
        let flipped = bytes[usize::try_from(at).unwrap()] ^ (1 << bit);
        file.write_all_at(&[flipped], at).unwrap();
        let ledger = open(&spoilt);
        pin(&ledger, &format!("t{PINS}")).await.unwrap();
        assert_filled(&ledger, PINS + 1).await;
        ledger.close().await;
        fs::remove_dir_all(&spoilt).unwrap();
    }
}

#[tokio::test]
async fn pinned_manifests_are_read_while_there_is_no_index_that_could_answer() {
    let dir = tempfile::tempdir().unwrap();
    indexed(dir.path()).await;
    // sled opens `conf` for reading, which of a pipe without a writer never comes back.
    let conf = index(dir.path()).join("conf");
    fs::remove_file(&conf).unwrap();
    run(&["mkfifo", conf.to_str().unwrap()]).unwrap();
    let options = OpenOptions { index_patience: Duration::MAX, ..options(dir.path()) };
    let ledger = try_open(&options).unwrap();
    for n in 0..PINS {
        let tag = format!("t{n}");
        let state = ledger.state(&key(&tag)).await.unwrap().unwrap();
        assert_eq!(state.pin.as_ref().unwrap().content, manifest(&tag).content);
        let kept = ledger.manifest(&manifest(&tag).content.digest).await.unwrap();
        assert_eq!(kept, Some(manifest(&tag)), "{tag}");
    }
    assert!(ledger.status().rebuilding, "the index never opened");
    // With a writer the call comes back, and the thread can end.
    drop(fs::OpenOptions::new().write(true).open(&conf).unwrap());
    ledger.close().await;
}

/// Two texts whose SHA-256 begin with the same four bytes.
fn alike() -> [String; 2] {
    let mut known = std::collections::HashMap::new();
    for number in 0u64.. {
        let text = format!("manifest {number}");
        let digest = manifest(&text).content.digest;
        let first = *digest.as_bytes().first_chunk::<4>().unwrap();
        if let Some(other) = known.insert(first, number) {
            return [format!("manifest {other}"), text];
        }
    }
    unreachable!("there are fewer beginnings than numbers")
}

#[tokio::test]
async fn manifests_whose_digests_begin_alike_are_told_apart_after_each_kind_of_start() {
    let dir = tempfile::tempdir().unwrap();
    let texts = alike();
    let ledger = open(dir.path());
    for (n, text) in texts.iter().enumerate() {
        let outcome = ledger.pin_if_absent(&key(&format!("a{n}")), manifest(text), "rule").await;
        assert!(matches!(outcome, Ok(Outcome::Written(_))));
    }
    for n in 0..PINS {
        pin(&ledger, &format!("t{n}")).await.unwrap();
    }
    ledger.close().await;
    for is_rebuilt in [false, true] {
        if is_rebuilt {
            fs::remove_dir_all(index(dir.path())).unwrap();
            fs::remove_file(dir.path().join("ledger/snapshot")).unwrap();
        }
        let ledger = open(dir.path());
        until_known(async || ledger.index_caught_up().await).await;
        for text in &texts {
            let digest = manifest(text).content.digest;
            let kept = until_known(async || ledger.manifest(&digest).await).await;
            assert_eq!(kept, Some(manifest(text)), "rebuilt: {is_rebuilt}");
        }
        ledger.close().await;
    }
}

#[tokio::test]
async fn pins_go_on_while_the_index_is_rebuilt_and_nothing_known_is_taken_for_unknown() {
    let dir = tempfile::tempdir().unwrap();
    indexed(dir.path()).await;
    fs::remove_dir_all(index(dir.path())).unwrap();
    let ledger = open(dir.path());
    for n in 0..PINS {
        let (key, evil) = (key(&format!("t{n}")), super::common::manifest("evil"));
        if let Ok(outcome) = ledger.pin_if_absent(&key, evil, "rule").await {
            assert!(matches!(outcome, immutag::ledger::Outcome::Raced(_)), "{outcome:?}");
        }
        pin(&ledger, &format!("new{n}")).await.unwrap();
    }
    assert_filled(&ledger, PINS).await;
}

#[tokio::test]
async fn an_index_that_is_behind_catches_up_and_one_of_another_log_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    indexed(&one).await;
    copy(&index(&one), &dir.path().join("old"));
    filled(&one, PINS + 40).await;
    fs::remove_dir_all(index(&one)).unwrap();
    copy(&dir.path().join("old"), &index(&one));
    assert_filled(&open(&one), PINS + 40).await;
    assert_eq!(damaged(&one), 0, "what is only behind is no damage");
    // One with other hashes, and one that is ahead.
    for pins in [PINS, 10] {
        let _ = fs::remove_dir_all(&other);
        filled(&other, pins).await;
        fs::remove_dir_all(index(&other)).unwrap();
        copy(&index(&one), &index(&other));
        let ledger = open(&other);
        until_known(async || ledger.index_caught_up().await).await;
        assert_filled(&ledger, pins).await;
        assert_eq!(damaged(&other), 1);
        assert_eq!(ledger.list(None, 1000).await.unwrap().len(), pins);
    }
}

#[tokio::test]
async fn at_most_two_damaged_indexes_are_kept_and_a_rebuild_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    indexed(dir.path()).await;
    let ledger = open(dir.path());
    for _ in 0..4 {
        ledger.rebuild_index().await.unwrap();
        assert_filled(&ledger, PINS).await;
    }
    assert_eq!(damaged(dir.path()), 2);
}
