//! What a later version wrote: refused by name, or ignored where it may go; never rewritten.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use immutag::ledger::{LedgerStore, OpenError};
use immutag::oci::ComputedDigest;

use super::common::{assert_filled, filled, open, options, segments, try_open};

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ComputedDigest::of(bytes, None).digest().as_bytes().to_vec()
}

/// Every file and its bytes, but for the lock's.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("ledger.lock") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The last batch with one byte of its first record changed, and the right hash for that.
fn changed(log: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let start = log.windows(4).rposition(|window| window == b"\xffimB").unwrap();
    let (before, batch) = log.split_at(start);
    let mut batch = batch[..batch.len() - 32].to_vec();
    batch[84 + at] = byte;
    let hash = sha256(&[&batch[48..80], &batch[..48], &batch[80..]].concat());
    [before, &batch, &hash].concat()
}

#[tokio::test]
async fn a_record_of_a_later_version_or_kind_refuses_the_start_and_nothing_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 1).await;
    let path = segments(dir).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(changed(&whole, 0, 1), whole, "the layout is what docs/ledger.md says");
    for (at, byte) in [(0, 2), (1, 200)] {
        fs::write(&path, changed(&whole, at, byte)).unwrap();
        fs::remove_file(dir.join("anchor")).unwrap();
        let before = files(dir);
        let error = try_open(&options(dir)).map(drop).unwrap_err();
        let is_later = matches!(error, OpenError::UnknownVersion { .. });
        assert!(is_later && error.is_damage(), "{error}");
        assert_eq!(files(dir), before);
        fs::write(&path, &whole).unwrap();
        assert_filled(&open(dir), 1).await;
    }
}

#[tokio::test]
async fn a_snapshot_of_another_version_is_ignored_and_made_anew_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    let path = dir.join("ledger/snapshot");
    let snapshot = fs::read(&path).unwrap();
    assert!(snapshot.starts_with(b"imtgsnp3"));
    for version in [b'1', b'3'] {
        let mut other = snapshot[..snapshot.len() - 32].to_vec();
        other[7] = version;
        let hash = sha256(&other);
        fs::write(&path, [other, hash].concat()).unwrap();
        let ledger = open(dir);
        assert_eq!(ledger.status().pins, 100);
        assert_filled(&ledger, 100).await;
        ledger.close().await;
        assert!(fs::read(&path).unwrap().starts_with(b"imtgsnp3"), "the whole log was read");
    }
}

#[tokio::test]
async fn a_snapshot_that_the_log_did_not_grow_out_of_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    filled(&one, 100).await;
    filled(&other, 100).await;
    fs::copy(other.join("ledger/snapshot"), one.join("ledger/snapshot")).unwrap();
    let ledger = open(&one);
    assert_filled(&ledger, 100).await;
    ledger.close().await;
    // A tail that the snapshot covers, and that is gone, is a roll-back.
    let path = segments(&one).pop().unwrap();
    fs::remove_file(path).unwrap();
    assert!(matches!(try_open(&options(&one)).map(drop), Err(OpenError::RolledBack { .. })));
}
