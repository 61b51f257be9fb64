//! Torn tails, damage, and what a start makes of them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use immutag::ledger::{FileLedger, LedgerStore, OpenError, OpenOptions};

use super::common::{assert_filled, filled, open, options, pin, segments, try_open, until_known};

/// The last segment without the space behind its batches, as a clean end leaves it.
fn tail(dir: &Path) -> Vec<u8> {
    fs::read(segments(dir).pop().unwrap()).unwrap()
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn one_segment(dir: &Path) -> OpenOptions {
    OpenOptions { segment_size_bytes: 64 << 20, ..options(dir) }
}

#[tokio::test]
async fn a_torn_tail_is_kept_aside_and_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ledger = try_open(&one_segment(dir)).unwrap();
    pin(&ledger, "t0").await.unwrap();
    ledger.close().await;
    let whole = tail(dir).len();
    let anchor = fs::read(dir.join("anchor")).unwrap();
    let ledger = try_open(&one_segment(dir)).unwrap();
    pin(&ledger, "t1").await.unwrap();
    ledger.close().await;
    let bytes = tail(dir);
    let path = segments(dir).pop().unwrap();
    // Whatever a crash leaves of the second batch, it was never acknowledged.
    let cuts = [1, 3, 4, 7, 40, 79, 80, 200, bytes.len() - whole - 1];
    for cut in cuts {
        fs::write(dir.join("anchor"), &anchor).unwrap();
        fs::write(&path, &bytes[..whole + cut]).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        let ledger = try_open(&one_segment(dir)).unwrap();
        assert_filled(&ledger, 1).await;
        assert_eq!(ledger.state(&super::common::key("t1")).await.unwrap(), None);
        ledger.close().await;
        let torn = fs::read_dir(dir.join("ledger/log")).unwrap().flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with("torn-3")
                && bytes[whole..whole + cut].starts_with(&fs::read(entry.path()).unwrap())
        });
        assert!(torn, "cut at {cut}");
        assert_eq!(tail(dir).len(), whole);
    }
    // Pages reach the disk in any order: the first of the batch may be the one that is missing.
    fs::write(dir.join("anchor"), &anchor).unwrap();
    fs::write(&path, &bytes).unwrap();
    write_at(&path, whole as u64, &[0; 100]);
    let ledger = try_open(&one_segment(dir)).unwrap();
    assert_filled(&ledger, 1).await;
    pin(&ledger, "t1").await.unwrap();
    assert_filled(&ledger, 2).await;
}

#[tokio::test]
async fn any_flipped_byte_before_the_last_batch_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ledger = try_open(&one_segment(dir)).unwrap();
    for n in 0..3 {
        pin(&ledger, &format!("t{n}")).await.unwrap();
    }
    ledger.close().await;
    let path = segments(dir).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> =
        (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"\xffimB")).collect();
    let last = *starts.last().unwrap();
    assert_eq!(starts.len(), 4);
    for at in (0..last).step_by(13).chain(starts[..3].to_vec()).chain([last - 1]) {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 0x40;
        fs::write(&path, &spoilt).unwrap();
        let error = try_open(&one_segment(dir)).map(drop).unwrap_err();
        let is_damage =
            matches!(error, OpenError::Damaged { .. } | OpenError::UnknownVersion { .. });
        assert!(is_damage && error.is_damage(), "byte {at}: {error}");
        assert_eq!(fs::read(&path).unwrap(), spoilt, "nothing was changed");
    }
    fs::write(&path, &bytes).unwrap();
    assert_filled(&try_open(&one_segment(dir)).unwrap(), 3).await;
}

#[tokio::test]
async fn a_last_batch_that_the_anchor_knows_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2).await;
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let end = bytes.len() as u64;
    // Another byte than the one there, whatever that is.
    write_at(&path, end - 1, &[!bytes[bytes.len() - 1]]);
    let error = try_open(&options(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().len(), end);
}

#[tokio::test]
async fn segments_follow_each_other_and_none_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    let paths = segments(dir);
    assert!(paths.len() > 2, "{paths:?}");
    assert!(dir.join("ledger/snapshot").exists());
    assert_filled(&open(dir), 100).await;
    for path in &paths[..paths.len() - 1] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let error = try_open(&options(dir)).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{path:?}: {error}");
        fs::write(path, &bytes).unwrap();
    }
    assert_filled(&open(dir), 100).await;
}

#[tokio::test]
async fn a_start_reads_what_the_snapshot_does_not_cover_and_goes_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    let snapshot = fs::read(dir.join("ledger/snapshot")).unwrap();
    let status = open(dir).status();
    assert_eq!((status.pins, status.sequence), (100, 101));
    for spoilt in [&snapshot[..snapshot.len() / 2], b"", &[&snapshot[..], b"x"].concat()] {
        fs::write(dir.join("ledger/snapshot"), spoilt).unwrap();
        let ledger = open(dir);
        assert_eq!(ledger.status().pins, 100);
        assert_filled(&ledger, 100).await;
    }
    fs::remove_file(dir.join("ledger/snapshot")).unwrap();
    assert_filled(&open(dir), 100).await;
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_found_behind_the_start_and_fails_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 100).await;
    let path = &segments(dir)[1];
    write_at(path, 5000, &[!fs::read(path).unwrap()[5000]]);
    let ledger = open(dir);
    let failed = async || ledger.status().failure.is_some();
    until(failed).await;
    assert!(pin(&ledger, "new").await.is_err());
    let state = until_known(async || ledger.state(&super::common::key("t99")).await).await;
    assert!(state.unwrap().pin.is_some(), "pinned tags go on");
    assert!(matches!(ledger.verify(), Err(OpenError::Damaged { .. })));
    drop(ledger);
    let all = OpenOptions { verify: true, ..options(dir) };
    assert!(matches!(try_open(&all).map(drop), Err(OpenError::Damaged { .. })));
}

async fn until(condition: impl AsyncFn() -> bool) {
    let started = std::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed().as_secs() < 20, "it never came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_crash_during_a_change_of_segments_leaves_is_lawful() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    filled(dir, 10).await;
    let log = dir.join("ledger/log");
    // A new segment without a batch, in front of and behind the place where it belongs.
    fs::write(log.join(format!("{:020}.seg", 12)), vec![0; 5000]).unwrap();
    assert_filled(&open(dir), 10).await;
    fs::write(log.join(format!("{:020}.seg", 11)), b"").unwrap();
    fs::write(log.join(format!("{:020}.seg", 77)), b"").unwrap();
    let ledger = open(dir);
    for n in 10..100 {
        pin(&ledger, &format!("t{n}")).await.unwrap();
    }
    ledger.close().await;
    // The segment before the last was not yet cut.
    let paths = segments(dir);
    let file = fs::OpenOptions::new().write(true).open(&paths[1]).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size + 9000).unwrap();
    assert_filled(&open(dir), 100).await;
    assert_eq!(fs::metadata(&paths[1]).unwrap().len(), size);
}

#[tokio::test]
async fn a_later_version_is_refused_and_not_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1).await;
    let path = segments(dir.path()).pop().unwrap();
    let end = fs::metadata(&path).unwrap().len();
    let mut next = fs::read(&path).unwrap()[..80].to_vec();
    next[7] = 2;
    write_at(&path, end, &next);
    let error = try_open(&options(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::UnknownVersion { .. }), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_rots_in_the_log_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ledger: FileLedger = open(dir);
    pin(&ledger, "a-text-to-be-found").await.unwrap();
    let path = segments(dir).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let text = b"a-text-to-be-found";
    let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
    write_at(&path, at as u64, b"A");
    let digest = super::common::manifest("a-text-to-be-found").content.digest;
    assert!(ledger.manifest(&digest).await.is_err());
    assert!(ledger.status().failure.is_some());
    assert!(pin(&ledger, "next").await.is_err());
}
