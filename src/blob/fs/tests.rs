//! What the store promises, with time and boot ids in the test's hand.

mod evicts;
mod lasts;
mod scrubs;

use std::io::Read as _;
use std::path::PathBuf;

use super::*;
use crate::clock::ManualClock;
use crate::oci::ComputedDigest;

/// A data directory, and how a store on it is opened.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    metrics: CacheMetrics,
    limits: Limits,
    durable: Durability,
    scrub: Duration,
}

/// Long after the files' own times.
const NOW_MS: u64 = 4_000_000_000_000;

impl Stage {
    fn new(max_bytes: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: ManualClock::at(NOW_MS),
            metrics: CacheMetrics::default(),
            limits: limits(max_bytes),
            durable: Durability::Held,
            scrub: Duration::ZERO,
        }
    }

    fn open(&self) -> FsStore {
        self.open_in("one boot")
    }

    fn open_in(&self, boot_id: &str) -> FsStore {
        let options = Options {
            limits: self.limits,
            durable: self.durable,
            scrub: self.scrub,
            clock: Arc::clone(&self.clock) as _,
            metrics: self.metrics.clone(),
            boot_id: Some(boot_id.to_owned()),
        };
        FsStore::open_as(self.folder.path(), options).unwrap()
    }

    /// Stores content and lets a second pass.
    fn put(&self, store: &FsStore, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        store.put(&digest, bytes).unwrap();
        self.clock.advance(Duration::from_secs(1));
        digest
    }

    /// Uses content and lets a second pass.
    fn read(&self, store: &FsStore, digest: &Digest) -> Option<Vec<u8>> {
        let stored = store.open(digest).unwrap()?;
        self.clock.advance(Duration::from_secs(1));
        let mut bytes = Vec::new();
        (&*stored.file).read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    /// Files that were staged and not committed.
    fn staged(&self) -> usize {
        fs::read_dir(self.folder.path().join("cache/staged")).unwrap().count()
    }
}

fn limits(max_bytes: u64) -> Limits {
    Limits { max_size: DiskSize::Bytes(max_bytes), min_free: DiskSize::Bytes(0) }
}

fn digest(bytes: &[u8]) -> Digest {
    ComputedDigest::of(bytes, None).digest()
}

/// Content that nothing else has, `size` bytes long.
fn content(number: u32, size: usize) -> Vec<u8> {
    number.to_le_bytes().iter().copied().cycle().take(size).collect()
}

/// Turns a bit of a stored file, behind the store's back.
fn flip(path: PathBuf) {
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn content_is_there_once_it_is_whole_and_right() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let bytes = content(1, 1000);
    let digest = digest(&bytes);
    assert!(store.open(&digest).unwrap().is_none());
    let mut staged = store.stage(&digest, Some(1000)).unwrap();
    staged.write(&bytes[..500]).unwrap();
    assert!(store.open(&digest).unwrap().is_none());
    assert!(matches!(staged.commit(), Err(BlobError::Mismatch { .. })));
    assert_eq!((store.size_bytes(&digest).unwrap(), stage.staged()), (None, 0));
    store.put(&digest, &bytes).unwrap();
    assert_eq!(stage.read(&store, &digest), Some(bytes));
    assert_eq!((store.size_bytes(&digest).unwrap(), stage.staged()), (Some(1000), 0));
    assert_eq!(store.stats().unwrap().bytes, 1000);
}

#[test]
fn held_content_outlives_the_cache_and_counts_once() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let digest = stage.put(&store, &content(1, 1000));
    assert!(!store.is_held(&digest));
    store.hold(&digest).unwrap();
    store.hold(&digest).unwrap();
    assert!(store.is_held(&digest));
    let stats = store.stats().unwrap();
    assert_eq!((stats.bytes, stats.held_bytes, stats.blobs, stats.held_blobs), (1000, 1000, 1, 1));
    // The same content once more is still one file.
    store.put(&digest, &content(1, 1000)).unwrap();
    let [cached, held] = store.shared.places.both(&digest);
    assert_eq!(cached.metadata().unwrap().ino(), held.metadata().unwrap().ino());
    let totals = store.shared.usage.totals();
    assert_eq!((totals.bytes, totals.held_bytes, totals.blobs), (1000, 1000, 1));
    drop(store);
    fs::remove_dir_all(stage.folder.path().join("cache")).unwrap();
    let store = stage.open();
    store.scan().unwrap();
    assert!(store.is_held(&digest));
    assert_eq!(stage.read(&store, &digest), Some(content(1, 1000)));
    store.unhold(&digest).unwrap();
    assert!(!store.is_held(&digest) && !held.exists());
    assert_eq!(stage.read(&store, &digest), Some(content(1, 1000)), "it is cached now");
    assert_eq!(store.stats().unwrap().held_bytes, 0);
}

#[test]
fn what_is_not_here_cannot_be_held() {
    let stage = Stage::new(1 << 20);
    let error = stage.open().hold(&digest(b"nothing")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn after_a_crash_between_two_steps_there_is_one_file_or_none() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let digest = stage.put(&store, &content(1, 1000));
    store.hold(&digest).unwrap();
    let [cached, held] = store.shared.places.both(&digest);
    drop(store);
    // It crashed after the new file came and before the held one was replaced.
    fs::remove_file(&cached).unwrap();
    fs::copy(&held, &cached).unwrap();
    fs::write(stage.folder.path().join("cache/staged/7"), "half").unwrap();
    let store = stage.open();
    assert_eq!(stage.staged(), 0);
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().bytes, 1000);
    assert!(held.exists() && !cached.exists());
    // Counted, and deleted by somebody: neither served nor counted any more, and told.
    fs::remove_file(&held).unwrap();
    assert_eq!(stage.read(&store, &digest), None);
    assert_eq!(store.stats().unwrap().blobs, 0);
    assert_eq!(store.take_lost(), [digest]);
    assert_eq!(store.take_lost(), []);
}

#[test]
fn what_somebody_put_beside_content_keeps_nothing_from_being_counted() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    for number in 0..3 {
        stage.put(&store, &content(number, 1000));
    }
    drop(store);
    fs::write(stage.folder.path().join("cache/blobs/sha256/core"), "x").unwrap();
    let store = stage.open();
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().blobs, 3);
}

#[test]
fn content_that_comes_but_cannot_be_held_is_counted_and_leaves_nothing_else() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let bytes = content(1, 1000);
    fs::create_dir_all(store.shared.places.held(&digest(&bytes))).unwrap();
    assert!(store.put(&digest(&bytes), &bytes).is_err());
    assert_eq!(store.stats().unwrap().bytes, 1000);
    assert_eq!(stage.staged(), 0);
    assert_eq!(stage.read(&store, &digest(&bytes)), Some(bytes));
}

#[test]
fn nothing_is_stored_once_the_store_is_closed() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let bytes = content(1, 1000);
    let mut staged = store.stage(&digest(&bytes), Some(1000)).unwrap();
    staged.write(&bytes).unwrap();
    store.close().unwrap();
    assert!(matches!(staged.commit(), Err(BlobError::Full(_))));
    assert_eq!(store.size_bytes(&digest(&bytes)).unwrap(), None);
}
