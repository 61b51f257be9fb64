use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::audience::GRACE;
use super::*;
use crate::blob::fs::{FsStore, Limits};
use crate::blob::{BlobError, BlobStore as _};
use crate::oci::{ComputedDigest, Digest};
use crate::units::DiskSize;

const SIZE: usize = 1 << 20;

type Chunk = Result<Bytes, &'static str>;
type Outcome = Result<(), FillError<&'static str>>;

struct Scene {
    store: FsStore,
    folder: TempDir,
    bytes: Bytes,
    digest: Digest,
}

impl Scene {
    fn new(size_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_size: DiskSize::Bytes(1 << 30), min_free: DiskSize::Bytes(0) };
        let bytes: Vec<u8> = (0..=250).cycle().take(size_bytes).collect();
        let digest = ComputedDigest::of(&bytes, None).digest();
        let store = FsStore::open(folder.path(), limits).unwrap();
        Self { store, folder, bytes: bytes.into(), digest }
    }

    fn staged(&self) -> Staged {
        self.store.stage(&self.digest, Some(self.bytes.len() as u64)).unwrap()
    }

    /// A fill whose body comes by a channel, and how it ends.
    fn begin(&self, staged: Staged) -> (Fill, mpsc::Sender<Chunk>, JoinHandle<Outcome>) {
        let (fill, filler) = Fill::begin(staged, Some(self.bytes.len() as u64)).unwrap();
        let (sender, receiver) = mpsc::channel::<Chunk>(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        });
        (fill, sender, tokio::spawn(filler.run(body.boxed())))
    }

    /// All that a full disk at `breaks_at` leaves to a reader of `first..`, and how the fill ends.
    async fn read_from_full_disk(&self, breaks_at: u64, first: u64) -> (Vec<u8>, bool, Outcome) {
        let mut staged = self.staged();
        staged.breaks_at = Some(breaks_at);
        let (fill, body, filling) = self.begin(staged);
        let reader = fill.read(first, Some(self.bytes.len() as u64 - first));
        let reading = tokio::spawn(read(reader));
        for chunk in self.bytes.chunks(10_000) {
            // The body is dropped with its last reader.
            let _ = body.send(Ok(Bytes::copy_from_slice(chunk))).await;
        }
        drop(body);
        let (bytes, is_whole) = reading.await.unwrap();
        (bytes, is_whole, filling.await.unwrap())
    }

    fn staged_files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("cache/staged")).unwrap().count()
    }
}

/// Everything that a reader gets, and whether it ends as if it were whole.
async fn read(mut reader: FillReader) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk.to_bytes()),
            Err(Broken) => return (all, false),
        }
    }
    (all, true)
}

#[tokio::test]
async fn a_fill_whose_writer_died_is_joined_by_nobody() {
    let scene = Scene::new(SIZE);
    let (fill, filler) = Fill::begin(scene.staged(), Some(SIZE as u64)).unwrap();
    assert!(fill.running().join().is_some());
    drop(filler);
    assert!(fill.running().join().is_none());
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_costs_its_reader_nothing() {
    let scene = Scene::new(SIZE);
    let size = SIZE as u64;
    for breaks_at in [0, 1, 15_000, size / 2, size - HOLD_BACK, size - 20_000, size - 1] {
        for first in [0, 5, size / 3, size - HOLD_BACK - 1, size - 3] {
            let (bytes, is_whole, outcome) = scene.read_from_full_disk(breaks_at, first).await;
            let first = usize::try_from(first).unwrap();
            assert!(is_whole && bytes == scene.bytes[first..], "{breaks_at} {first}");
            assert!(matches!(outcome, Err(FillError::Store(BlobError::Io(_)))), "{outcome:?}");
        }
    }
    assert!(scene.store.open(&scene.digest).unwrap().is_none());
    assert_eq!(scene.staged_files(), 0);
}

#[tokio::test]
async fn what_a_failed_store_leaves_to_a_reader_is_verified_all_the_same() {
    let mut scene = Scene::new(SIZE);
    scene.digest = Digest::sha256([7; 32]);
    let size = SIZE as u64;
    for breaks_at in [0, size / 2, size - 20_000, size - 1] {
        let (bytes, is_whole, _) = scene.read_from_full_disk(breaks_at, 0).await;
        assert!(!is_whole, "{breaks_at}");
        assert!(bytes.len() as u64 <= size - HOLD_BACK, "{breaks_at}: {}", bytes.len());
    }
}

#[tokio::test]
async fn of_two_readers_of_a_failed_store_one_goes_on_and_one_breaks() {
    let scene = Scene::new(SIZE);
    let mut staged = scene.staged();
    staged.breaks_at = Some(SIZE as u64 / 2);
    let (fill, body, _filling) = scene.begin(staged);
    let readers = [(); 2].map(|()| tokio::spawn(read(fill.read(0, None))));
    for chunk in scene.bytes.chunks(10_000) {
        let _ = body.send(Ok(Bytes::copy_from_slice(chunk))).await;
    }
    drop(body);
    let mut whole = 0;
    for reader in readers {
        let (bytes, is_whole) = reader.await.unwrap();
        assert_eq!(bytes, scene.bytes[..bytes.len()]);
        whole += usize::from(is_whole);
    }
    assert_eq!(whole, 1);
}

#[tokio::test]
async fn a_body_that_is_longer_than_announced_stops_where_it_should_have() {
    let scene = Scene::new(SIZE);
    let (fill, body, filling) = scene.begin(scene.staged());
    let reading = tokio::spawn(read(fill.read(0, None)));
    let chunk = Bytes::from(vec![0; 100_000]);
    let mut sent = 0;
    while body.send(Ok(chunk.clone())).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 3 * SIZE, "an endless body is read on");
    }
    assert!(matches!(filling.await.unwrap(), Err(FillError::Misses)));
    assert!(!reading.await.unwrap().1);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_nobody_reads_may_be_stopped_after_a_while() {
    let scene = Scene::new(SIZE);
    let (fill, _body, _filling) = scene.begin(scene.staged());
    let running = fill.running().clone();
    let deserted = running.deserted(|size_bytes| size_bytes / 4);
    tokio::pin!(deserted);
    let hour = Duration::from_hours(1);
    assert!(timeout(hour, &mut deserted).await.is_err(), "somebody reads");
    let reader = fill.read(5, Some(5));
    drop(fill);
    assert!(timeout(hour, &mut deserted).await.is_err(), "a reader of a part is one");
    drop(reader);
    // One who comes back in time finds it, and time begins anew when it leaves.
    assert!(timeout(GRACE * 2 / 3, &mut deserted).await.is_err());
    drop(running.join().unwrap());
    assert!(timeout(GRACE * 2 / 3, &mut deserted).await.is_err());
    let before = Instant::now();
    deserted.await;
    assert!(before.elapsed() <= GRACE * 2 / 3);
    assert!(running.join().is_none(), "what was stopped is joined no more");
}

#[tokio::test]
async fn a_fill_that_is_far_enough_is_not_stopped() {
    let scene = Scene::new(SIZE);
    let (fill, body, filling) = scene.begin(scene.staged());
    let mut reader = fill.read(0, Some(1));
    body.send(Ok(scene.bytes.slice(..SIZE / 4))).await.unwrap();
    reader.next().await.unwrap().unwrap();
    let running = fill.running().clone();
    drop((fill, reader));
    tokio::time::pause();
    let deserted = running.deserted(|size_bytes| size_bytes / 4);
    assert!(timeout(Duration::from_hours(1), deserted).await.is_err());
    tokio::time::resume();
    body.send(Ok(scene.bytes.slice(SIZE / 4..))).await.unwrap();
    drop(body);
    assert!(filling.await.unwrap().is_ok());
    assert!(scene.store.open(&scene.digest).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_fill_of_unknown_length_is_not_stopped() {
    let scene = Scene::new(SIZE);
    let (fill, _filler) = Fill::begin(scene.staged(), None).unwrap();
    let running = fill.running().clone();
    drop(fill);
    let deserted = running.deserted(|_| u64::MAX);
    assert!(timeout(Duration::from_hours(1), deserted).await.is_err());
}
