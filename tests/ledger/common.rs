//! What these tests share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use immutag::clock::SystemClock;
use immutag::ledger::{
    FileLedger, LedgerError, LedgerStore, OpenError, OpenOptions, Outcome, StoredManifest,
};
use immutag::oci::{ComputedDigest, ManifestKind};
use immutag::pin::{PinKey, TagState};

/// A tag in a made-up repository.
pub(crate) fn key(tag: &str) -> PinKey {
    PinKey {
        registry: "registry.example".parse().unwrap(),
        repository: "team/app".parse().unwrap(),
        tag: tag.parse().unwrap(),
    }
}

/// A manifest whose bytes are this text.
pub(crate) fn manifest(text: &str) -> StoredManifest {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let computed = ComputedDigest::of(&bytes, None);
    StoredManifest::new(&computed, ManifestKind::OciManifest.into(), bytes)
}

/// Small segments, so that a few pins fill several; an index that is given up soon.
pub(crate) fn options(dir: &Path) -> OpenOptions {
    OpenOptions {
        segment_size_bytes: 16 << 10,
        snapshot_after_bytes: 12 << 10,
        index_patience: Duration::from_secs(2),
        ..OpenOptions::new(dir)
    }
}

pub(crate) fn open(dir: &Path) -> FileLedger {
    try_open(&options(dir)).unwrap()
}

pub(crate) fn try_open(options: &OpenOptions) -> Result<FileLedger, OpenError> {
    FileLedger::open(options, SystemClock::shared())
}

/// Pins `tag` to a manifest that is its name.
pub(crate) async fn pin(ledger: &FileLedger, tag: &str) -> Result<Arc<TagState>, LedgerError> {
    let outcome = ledger.pin_if_absent(&key(tag), manifest(tag), "rule").await?;
    let (Outcome::Written(state) | Outcome::Raced(state)) = outcome;
    Ok(state)
}

/// A ledger with `count` pins, `t0` and so on, closed in good order.
pub(crate) async fn filled(dir: &Path, count: usize) {
    let ledger = open(dir);
    for n in 0..count {
        pin(&ledger, &format!("t{n}")).await.unwrap();
    }
    ledger.close().await;
}

/// Checks that `t0` to `t<count - 1>` are pinned to what [`filled`] pinned them to, by memory and
/// by index, that their manifests are there, and that the log verifies.
pub(crate) async fn assert_filled(ledger: &FileLedger, count: usize) {
    ledger.verify().unwrap();
    for n in 0..count {
        let tag = format!("t{n}");
        let state = until_known(async || ledger.state(&key(&tag)).await).await.unwrap();
        assert_eq!(state.pin.as_ref().unwrap().content, manifest(&tag).content);
        let history = until_known(async || ledger.history(&key(&tag)).await).await;
        assert_eq!(history.len(), 1, "{tag}: {history:?}");
        assert_eq!(history[0].observed, Some(manifest(&tag).content));
        let kept =
            until_known(async || ledger.manifest(&manifest(&tag).content.digest).await).await;
        assert_eq!(kept, Some(manifest(&tag)));
    }
    let listed = until_known(async || ledger.list(None, usize::MAX).await).await;
    let known: BTreeMap<_, _> =
        listed.into_iter().map(|(key, state)| (key.to_bytes(), state)).collect();
    assert!((0..count).all(|n| known.contains_key(&key(&format!("t{n}")).to_bytes())));
}

/// Asks again for as long as the index is being rebuilt, within reason.
pub(crate) async fn until_known<T>(ask: impl AsyncFn() -> Result<T, LedgerError>) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(LedgerError::Rebuilding) if started.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error} after {:?}", started.elapsed()),
        }
    }
}

/// The log's segments, in order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("ledger/log")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Runs a command; `None`, and a word why, if it cannot be run or fails.
pub(crate) fn run(command: &[&str]) -> Option<()> {
    match Command::new(command[0]).args(&command[1..]).output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            println!("{}: {}", command.join(" "), words.trim());
            None
        }
        Err(error) => {
            println!("{}: {error}", command.join(" "));
            None
        }
    }
}

/// A mounted file system that goes when it is dropped.
pub(crate) struct Mount(pub(crate) PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Whether the long forms of the tests are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os("IMMUTAG_TEST_LONG").is_some()
}

/// A number that is hard to guess, below `end`.
pub(crate) fn random(end: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now()) % end
}
