//! From a note to an answer, by a clock that the test moves.

use std::fs;
use std::path::Path;

use super::*;
use crate::clock::ManualClock;
use crate::oci::{Digest, Reference};

/// 2026-04-22T00:00:00Z
const START_MS: u64 = 1_776_816_000_000;

/// A journal without its thread: what is written when is the test's to say.
struct Stage {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    metrics: JournalMetrics,
    journal: Journal,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, metrics) = (ManualClock::at(START_MS), JournalMetrics::default());
        let open = Open::new(options(folder.path()), Arc::clone(&clock) as _, metrics.clone());
        let journal = Journal { open: Some(Arc::new(open)), thread: Mutex::new(None) };
        Self { folder, clock, metrics, journal }
    }

    fn note(&self, reference: &str, digest: u8, client: &str) {
        let subject = given(reference, digest);
        self.journal.note(&subject, client.parse().unwrap(), false);
    }

    /// The clients and counts of what is there, the newest first.
    fn who(&self, filter: &Filter) -> Vec<(String, u64)> {
        let found = self.journal.who(filter, 100).unwrap().into_iter();
        found.map(|pulled| (pulled.client.to_string(), pulled.count)).collect()
    }
}

fn options(data_dir: &Path) -> Options {
    Options {
        folder: folder_of(data_dir),
        keep: Duration::from_hours(24),
        max_bytes: 1 << 20,
        file_bytes: 64 << 10,
        min_free: DiskSize::Bytes(0),
    }
}

fn given(reference: &str, digest: u8) -> Arc<Subject> {
    let (listener, digest) = ("mirror".into(), Some(Digest::sha256([digest; 32])));
    Subject::given(&listener, reference.parse().unwrap(), digest, Outcome::Pinned)
}

fn digest(byte: u8) -> Digest {
    Digest::sha256([byte; 32])
}

fn by_digest(byte: u8) -> Filter {
    Filter { digests: vec![digest(byte)], ..Filter::default() }
}

fn expect(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(client, count)| ((*client).to_owned(), *count)).collect()
}

#[test]
fn who_pulled_a_digest_is_known_at_once_the_newest_first() {
    let stage = Stage::new();
    for (client, byte) in
        [("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.2", 2), ("::ffff:10.0.0.3", 1)]
    {
        stage.note("r.example/app:1", byte, client);
        stage.clock.advance(Duration::from_secs(1));
    }
    stage.note(&format!("r.example/app@{}", digest(1)), 1, "10.0.0.4");
    let expected = [("10.0.0.4", 1), ("10.0.0.3", 1), ("10.0.0.2", 1), ("10.0.0.1", 1)];
    assert_eq!(stage.who(&by_digest(1)), expect(&expected));
    let newest = stage.journal.who(&by_digest(1), 2).unwrap();
    assert_eq!(newest.len(), 2);
    assert_eq!(newest[0].client.to_string(), "10.0.0.4");
    assert_eq!(stage.who(&by_digest(3)), []);
}

#[test]
fn the_newest_are_found_over_several_files_and_days() {
    let stage = Stage::new();
    let clients: Vec<_> =
        (0..600).map(|number| format!("10.1.{}.{}", number / 200, number % 200)).collect();
    for (at, client) in clients.iter().enumerate() {
        stage.note("r.example/app:1", 1, client);
        if at % 20 == 0 {
            stage.journal.flush();
            stage.clock.advance(Duration::from_mins(3));
        }
    }
    let found = stage.journal.who(&by_digest(1), 450).unwrap();
    assert_eq!(found.len(), 450);
    let hurried = Filter { until: Some(std::time::Instant::now()), ..by_digest(1) };
    let few = stage.journal.who(&hurried, 450).unwrap();
    assert!((1..450).contains(&few.len()), "{}: of the newest file", few.len());
    let expected: std::collections::HashSet<_> = clients[150..].iter().cloned().collect();
    let found: std::collections::HashSet<_> =
        found.iter().map(|it| it.client.to_string()).collect();
    assert!(expected.difference(&found).count() <= 20, "those of one flush come in one second");
    assert!(fs::read_dir(stage.folder.path().join("journal")).unwrap().count() > 2);
}

#[test]
fn filters_are_all_to_be_met() {
    let stage = Stage::new();
    stage.note("r.example/app:1", 1, "10.0.0.1");
    stage.note("r.example/app:2", 1, "10.0.0.2");
    stage.clock.advance(Duration::from_secs(100));
    stage.note("r.example/app:1", 1, "10.0.0.3");
    let reference = |text: &str| Some(text.parse::<Reference>().unwrap());
    let all = by_digest(1);
    let tag = Filter { reference: reference("r.example/app:1"), ..all.clone() };
    assert_eq!(stage.who(&tag), expect(&[("10.0.0.3", 1), ("10.0.0.1", 1)]));
    let late = Filter { since_ms: Some(START_MS + 100_000), ..tag.clone() };
    assert_eq!(stage.who(&late), expect(&[("10.0.0.3", 1)]));
    let client = Filter { client: Some("::ffff:10.0.0.1".parse().unwrap()), ..tag };
    assert_eq!(stage.who(&client), expect(&[("10.0.0.1", 1)]));
    let other = Filter { reference: reference("r.example/other:1"), ..all };
    assert_eq!(stage.who(&other), []);
}

#[test]
fn those_who_were_refused_are_found_by_what_was_kept_from_them() {
    let stage = Stage::new();
    let reference: Reference = "r.example/app:1".parse().unwrap();
    let refused = Subject::refused(&"mirror".into(), reference, "DIGEST_CHANGED", Some(digest(2)));
    stage.journal.note(&refused, "10.0.0.1".parse().unwrap(), true);
    assert_eq!(stage.who(&by_digest(2)), expect(&[("10.0.0.1", 1)]));
    let given = Filter { only_given: true, ..by_digest(2) };
    assert_eq!(stage.who(&given), []);
}

#[test]
fn torn_and_foreign_lines_are_left_out_and_the_rest_is_read() {
    let stage = Stage::new();
    stage.note("r.example/app:1", 1, "10.0.0.1");
    stage.journal.flush();
    let path = stage.folder.path().join("journal/2026-04-22-0000.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let torn = &good[..good.len() / 2];
    let long = "x".repeat(10_000);
    let hex = "01".repeat(32);
    fs::write(&path, format!("{good}{torn}\n{hex}{long}\n\0\0{hex}\n{good}{torn}")).unwrap();
    let mut count = 0;
    let folder = path.parent().unwrap();
    let walked = walk(folder, &by_digest(1), |_| {
        count += 1;
        Ok(std::ops::ControlFlow::Continue(()))
    });
    assert_eq!((count, walked.unwrap()), (2, Walked { files: 1, skipped: torn_lines(torn) }));
}

/// The long one, the zeros, and both torn ones, unless their digest was cut off.
fn torn_lines(torn: &str) -> u64 {
    2 + 2 * u64::from(torn.contains(&"01".repeat(32)))
}

#[test]
fn what_is_old_goes() {
    let stage = Stage::new();
    stage.note("r.example/app:1", 1, "10.0.0.1");
    stage.journal.flush();
    stage.clock.advance(Duration::from_hours(47));
    stage.journal.flush();
    assert_eq!(stage.who(&by_digest(1)).len(), 1);
    stage.clock.advance(Duration::from_hours(1));
    stage.journal.flush();
    assert_eq!(stage.who(&by_digest(1)).len(), 0);
    assert_eq!(stage.metrics.bytes.get(), 0);
}

/// A wall clock that somebody sets, over one that nobody can.
struct Set(ManualClock, std::sync::atomic::AtomicU64);

impl Clock for Set {
    fn wall_ms(&self) -> u64 {
        self.0.wall_ms() + self.1.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[test]
fn a_clock_that_jumps_years_ahead_for_a_while_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Set(ManualClock::default(), START_MS.into()));
    let metrics = JournalMetrics::default();
    let open = Open::new(options(folder.path()), Arc::clone(&clock) as _, metrics);
    let journal = Journal { open: Some(Arc::new(open)), thread: Mutex::new(None) };
    let note = |client: &str| {
        journal.note(&given("r.example/app:1", 1), client.parse().unwrap(), false);
        journal.flush();
    };
    note("10.0.0.1");
    clock.1.fetch_add(365 * 86_400_000, std::sync::atomic::Ordering::SeqCst);
    note("10.0.0.2");
    clock.1.store(START_MS, std::sync::atomic::Ordering::SeqCst);
    note("10.0.0.3");
    let found = journal.who(&by_digest(1), 10).unwrap();
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn a_folder_that_cannot_be_written_costs_entries_that_are_counted_and_nothing_else() {
    let stage = Stage::new();
    let folder = stage.folder.path().join("journal");
    fs::write(&folder, "no folder").unwrap();
    for _ in 0..3 {
        stage.note("r.example/app:1", 1, "10.0.0.1");
    }
    stage.journal.flush();
    assert_eq!((stage.metrics.dropped.get(), stage.metrics.entries.get()), (3, 0));
    fs::remove_file(&folder).unwrap();
    stage.note("r.example/app:1", 1, "10.0.0.2");
    stage.journal.flush();
    assert_eq!((stage.metrics.dropped.get(), stage.metrics.entries.get()), (3, 1));
    assert!(stage.metrics.bytes.get() > 100);
}

#[test]
fn a_closed_journal_has_written_counts_too_and_its_thread_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START_MS);
    let metrics = JournalMetrics::default();
    let journal = Journal::start(options(folder.path()), clock, metrics.clone());
    let subject = given("r.example/app:1", 1);
    for _ in 0..1000 {
        journal.note(&subject, "10.0.0.1".parse().unwrap(), false);
    }
    journal.close();
    let found = newest(&folder_of(folder.path()), &Filter::default(), 10).unwrap();
    assert_eq!(found.iter().map(|it| it.count).sum::<u64>(), 1000);
    assert!(journal.thread.lock().unwrap().is_none());
    assert_eq!(Arc::strong_count(journal.open.as_ref().unwrap()), 1);
}

#[test]
fn a_journal_that_is_off_writes_nothing() {
    let mut config = Config::with_data_dir("/nowhere".into());
    assert!(
        Options::of(&config).is_some_and(|it| it.max_bytes == 1 << 30 && it.file_bytes == 64 << 20)
    );
    config.journal.max_size_bytes = 0;
    assert!(Options::of(&config).is_some_and(|it| it.max_bytes == 1 << 20));
    config.journal.keep = Duration::ZERO;
    assert!(Options::of(&config).is_none());
    let journal = Journal::off();
    journal.note(&given("r.example/app:1", 1), "10.0.0.1".parse().unwrap(), false);
    assert_eq!(journal.who(&Filter::default(), 10).unwrap(), []);
    journal.close();
}
