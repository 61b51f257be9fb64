//! Any interleaving of readers, ranges, failures and evictions gives each client the right bytes
//! or a broken connection.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::task::yield_now;

use super::*;
use crate::blob::BlobStore as _;
use crate::blob::fill::{Fill, FillError, HOLD_BACK, RunningFill};
use crate::blob::fs::{FsStore, Limits};
use crate::oci::{ComputedDigest, Digest};
use crate::units::{DiskSize, Percent};

/// Everything that happens to one blob.
#[derive(Clone, Debug)]
struct Story {
    size: usize,
    is_announced: bool,
    chunk: usize,
    /// The upstream's answers, the first one too.
    answers: Vec<Told>,
    /// A byte that the upstream gets wrong.
    wrong: Option<usize>,
    /// Where the disk is full.
    full_at: Option<usize>,
    finish_from: u8,
    readers: Vec<Reader>,
    is_evicted: bool,
}

/// One answer of the upstream.
#[derive(Clone, Debug)]
struct Told {
    /// Percent of what was asked for that comes.
    share: u8,
    ends: Ends,
    is_whole: bool,
    /// How often others run before each chunk.
    pauses: u8,
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    Cleanly,
    Cut,
    Refused,
    Stalled,
}

#[derive(Clone, Debug)]
struct Reader {
    first: usize,
    length: Option<usize>,
    comes_after: u8,
    leaves_after: Option<usize>,
    pauses: u8,
}

/// What a reader got.
struct Got {
    reader: Reader,
    bytes: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Broken,
    Came,
    Late,
    Left,
}

fn told() -> impl Strategy<Value = Told> {
    let ends = prop_oneof![
        4 => Just(Ends::Cut),
        3 => Just(Ends::Cleanly),
        2 => Just(Ends::Stalled),
        1 => Just(Ends::Refused),
    ];
    let share = prop_oneof![Just(0_u8), Just(99), Just(100), 0..=100_u8];
    (share, ends, any::<bool>(), 0..4_u8).prop_map(|(share, ends, is_whole, pauses)| Told {
        share,
        ends,
        is_whole,
        pauses,
    })
}

fn reader(size: usize) -> impl Strategy<Value = Reader> {
    let part = prop_oneof![Just((0, None)), (0..=size, prop::option::of(0..=size))];
    (part, 0..40_u8, prop::option::weighted(0.3, 0..=size), 0..4_u8).prop_map(
        move |((first, length), comes_after, leaves_after, pauses)| {
            let length = length.map(|length| length.min(size - first));
            Reader { first, length, comes_after, leaves_after, pauses }
        },
    )
}

fn story() -> impl Strategy<Value = Story> {
    let size = prop_oneof![1..2000_usize, 60_000..70_000_usize, 100_000..400_000_usize];
    size.prop_flat_map(|size| {
        let answers = prop::collection::vec(told(), 1..5);
        let faults = (
            prop::option::weighted(0.2, 0..size),
            prop::option::weighted(0.2, 0..size),
            prop_oneof![Just(0_u8), Just(25), Just(100)],
        );
        let others = (any::<bool>(), any::<bool>(), 1000..50_000_usize);
        (answers, faults, prop::collection::vec(reader(size), 0..5), others).prop_map(
            move |(answers, (wrong, full_at, finish_from), readers, others)| {
                let (is_announced, is_evicted, chunk) = others;
                Story {
                    size,
                    is_announced,
                    chunk,
                    answers,
                    wrong,
                    full_at,
                    finish_from,
                    readers,
                    is_evicted,
                }
            },
        )
    })
}

/// The upstream of a story. It sends the last answer's whole once it has no other.
#[derive(Clone)]
struct Upstream {
    bytes: Bytes,
    chunk: usize,
    answers: Vec<Told>,
    /// Bodies that are open.
    open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Upstream {
    fn answer(&mut self, at: usize) -> Option<(usize, Arriving)> {
        let honest = Told { share: 100, ends: Ends::Cleanly, is_whole: false, pauses: 0 };
        let told = if self.answers.is_empty() { honest } else { self.answers.remove(0) };
        if matches!(told.ends, Ends::Refused) {
            return None;
        }
        let begins = if told.is_whole { 0 } else { at };
        let length = (self.bytes.len() - begins) * usize::from(told.share) / 100;
        let mut chunks: Vec<Chunk> = self.bytes[begins..begins + length]
            .chunks(self.chunk)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        match told.ends {
            Ends::Cut => chunks.push(CUT),
            Ends::Stalled => chunks.push(Err(UpstreamError::Timeout)),
            Ends::Cleanly | Ends::Refused => {}
        }
        assert_eq!(self.open.fetch_add(1, Ordering::SeqCst), 0, "two fetches at once");
        let open = Open(Arc::clone(&self.open));
        let body = stream::iter(chunks).then(move |chunk| {
            let _open = &open;
            pause(told.pauses, chunk)
        });
        Some((begins, body.boxed()))
    }
}

async fn pause<T>(times: u8, value: T) -> T {
    for _ in 0..times {
        yield_now().await;
    }
    value
}

#[async_trait]
impl Rest for Upstream {
    async fn ask(&mut self, at: u64, _is_free: bool) -> Result<Part, UpstreamError> {
        let at = usize::try_from(at).unwrap();
        let refused = UpstreamError::Authentication { status: 403 };
        let (begins, body) = self.answer(at).ok_or(refused)?;
        Ok(Part { body, begins: begins as u64 })
    }
}

async fn follow(fill: Option<Fill>, reader: Reader) -> Got {
    let mut bytes = Vec::new();
    let Some(fill) = fill else { return Got { reader, bytes, end: End::Late } };
    let mut body = fill.read(reader.first as u64, reader.length.map(|length| length as u64));
    drop(fill);
    let end = loop {
        if reader.leaves_after.is_some_and(|after| bytes.len() >= after) {
            break End::Left;
        }
        match pause(reader.pauses, body.next().await).await {
            None => break End::Came,
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk.to_bytes()),
            Some(Err(_)) => break End::Broken,
        }
    };
    Got { reader, bytes, end }
}

async fn come(running: RunningFill, reader: Reader) -> Got {
    let running = pause(reader.comes_after, running).await;
    let fill = running.join();
    drop(running);
    follow(fill, reader).await
}

struct Ended {
    got: Vec<Got>,
    /// `None`: it was stopped.
    outcome: Option<Result<(), FillError<UpstreamError>>>,
}

impl Story {
    fn wrong_bytes(&self, right: &[u8]) -> Bytes {
        let mut bytes = right.to_vec();
        if let Some(at) = self.wrong {
            bytes[at] ^= 1;
        }
        bytes.into()
    }

    async fn run(&self, place: &Place, right: &[u8], digest: &Digest) -> Option<Ended> {
        let bytes = self.wrong_bytes(right);
        let (chunk, answers) = (self.chunk, self.answers.clone());
        let mut upstream = Upstream { bytes, chunk, answers, open: Arc::default() };
        let open = Arc::clone(&upstream.open);
        let (_, first) = upstream.answer(0)?;
        let size_bytes = self.is_announced.then_some(self.size as u64);
        let body = resuming(first, size_bytes, upstream);
        let mut staged = place.store.stage(digest, size_bytes).unwrap();
        staged.breaks_at = self.full_at.map(|at| at as u64);
        let (fill, filler) = Fill::begin(staged, size_bytes).unwrap();
        let running = fill.running().clone();
        let readers: Vec<_> = self
            .readers
            .iter()
            .map(|reader| tokio::spawn(come(running.clone(), reader.clone())))
            .collect();
        drop(fill);
        let finish_from = Percent(self.finish_from);
        let outcome = tokio::select! {
            outcome = filler.run(body) => Some(outcome),
            () = running.deserted(|size_bytes| finish_from.of(size_bytes)) => None,
        };
        drop(running);
        if self.is_evicted {
            place.evict(digest);
        }
        let mut got = Vec::new();
        for reader in readers {
            got.push(reader.await.unwrap());
        }
        assert_eq!(open.load(Ordering::SeqCst), 0, "the upstream's body stays open");
        Some(Ended { got, outcome })
    }

    fn check(&self, ended: &Ended, right: &[u8]) {
        let is_good = matches!(ended.outcome, Some(Ok(())));
        assert!(!is_good || self.wrong.is_none(), "wrong bytes were stored");
        for Got { reader, bytes, end } in &ended.got {
            let last = reader.length.map_or(self.size, |length| reader.first + length);
            let expected = &right[reader.first..last];
            let is_inner = last as u64 + HOLD_BACK <= self.size as u64;
            if self.wrong.is_none() || (*end == End::Came && !is_inner) {
                assert!(expected.starts_with(bytes), "wrong bytes: {reader:?}");
            }
            match end {
                End::Came => assert_eq!(bytes.len(), expected.len(), "not all: {reader:?}"),
                End::Broken => assert!(!is_good, "broken without need: {reader:?}"),
                End::Late | End::Left => {}
            }
        }
    }
}

/// A store, and where it is.
struct Place {
    store: FsStore,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_size: DiskSize::Bytes(1 << 30), min_free: DiskSize::Bytes(0) };
        Self { store: FsStore::open(folder.path(), limits).unwrap(), folder }
    }

    fn evict(&self, digest: &Digest) {
        let hex = digest.hex();
        let path = format!("cache/blobs/sha256/{}/{hex}", &hex[..2]);
        let _ = std::fs::remove_file(self.folder.path().join(path));
    }

    fn stored(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let stored = self.store.open(digest).unwrap()?;
        std::io::Read::read_to_end(&mut &*stored.file, &mut bytes).unwrap();
        Some(bytes)
    }

    fn staged(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("cache/staged")).unwrap().count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_reader_gets_the_right_bytes_or_a_broken_connection(story in story()) {
        let place = Place::new();
        let right: Vec<u8> = (0..=250).cycle().take(story.size).collect();
        let digest = ComputedDigest::of(&right, None).digest();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let ended = runtime.block_on(story.run(&place, &right, &digest));
        // What was being written when a fill was stopped ends first.
        drop(runtime);
        if let Some(ended) = ended {
            story.check(&ended, &right);
            let is_stored = matches!(ended.outcome, Some(Ok(()))) && !story.is_evicted;
            prop_assert_eq!(place.stored(&digest), is_stored.then_some(right));
        }
        prop_assert_eq!(place.staged(), 0, "staged files stay");
    }
}
