//! Start-up: how long until `/readyz` says 200, and what is resident then; with an empty ledger,
//! with 100,000 stored blobs, which are counted after the start, and as the sidecar of a job, with
//! lock files of several lengths.
//!
//!     cargo bench --bench start

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

use std::path::Path;
use std::time::{Duration, Instant};

use immutag::blob::BlobStore as _;
use immutag::blob::fs::{FsStore, Limits};
use immutag::lockfile::{LockFile, Locked};
use immutag::oci::{ComputedDigest, Reference};
use immutag::units::DiskSize;
use stage::support::setup::Setup;

const RUNS: usize = 11;

const BLOBS: u32 = 100_000;

/// References of the lock files.
const LOCKED: [u32; 3] = [0, 10, 10_000];

fn main() {
    empty();
    sidecar();
    with_blobs();
}

fn empty() {
    let mut runs: Vec<(Duration, u64)> = (0..RUNS).map(|_| run()).collect();
    runs.sort_unstable();
    let (ready, _) = runs[RUNS / 2];
    let resident = runs.iter().map(|(_, resident)| *resident).max().unwrap_or_default();
    let (first, last) = (runs[0].0.as_millis(), runs[RUNS - 1].0.as_millis());
    println!("start with an empty ledger, {RUNS} runs");
    println!("ready after     {} ms (median; {first} to {last} ms)", ready.as_millis());
    println!("resident then   {resident} KiB (largest)");
}

fn run() -> (Duration, u64) {
    let setup = Setup::new();
    let begun = Instant::now();
    let immutag = setup.start();
    (begun.elapsed(), immutag.resident_kib())
}

/// `serve --detach --wait --ledger memory --lock images.lock --locked`: the whole command, as a step
/// of a job waits for it; and until `/readyz` says 200 without `--detach`.
fn sidecar() {
    println!();
    println!("start as a sidecar, {RUNS} runs each: ledger in memory, locked");
    for references in LOCKED {
        let text = lock_of(references);
        let begun = Instant::now();
        let read = LockFile::parse(text.as_bytes()).expect("it is one").images.len();
        let parsed = begun.elapsed();
        assert_eq!(read, references as usize);
        let mut steps: Vec<_> = (0..RUNS).map(|_| step(&text)).collect();
        let mut ready: Vec<_> = (0..RUNS).map(|_| ready(&text)).collect();
        steps.sort_unstable();
        ready.sort_unstable();
        println!(
            "{references:>6} references  the step {} ms, ready after {} ms (medians; {} to {} ms, {} \
             to {} ms); parsed in {} ms",
            steps[RUNS / 2].as_millis(),
            ready[RUNS / 2].as_millis(),
            steps[0].as_millis(),
            steps[RUNS - 1].as_millis(),
            ready[0].as_millis(),
            ready[RUNS - 1].as_millis(),
            parsed.as_millis(),
        );
    }
}

fn step(lock: &str) -> Duration {
    let setup = Setup::new();
    let lock = setup.file("images.lock", lock);
    let lock = lock.to_str().expect("a path in ASCII");
    let memory = ["serve", "--detach", "--wait", "--ledger", "memory", "--lock", lock, "--locked"];
    let begun = Instant::now();
    setup.run(&memory).ok();
    let took = begun.elapsed();
    setup.run(&["stop"]).ok();
    took
}

fn ready(lock: &str) -> Duration {
    let setup = Setup::new();
    let lock = setup.file("images.lock", lock);
    let lock = lock.to_str().expect("a path in ASCII");
    let arguments = ["--ledger", "memory", "--lock", lock, "--locked"];
    let setup = arguments.iter().fold(setup, |setup, argument| setup.argument(argument));
    let begun = Instant::now();
    let _immutag = setup.start();
    begun.elapsed()
}

/// A lock file of so many tags, each of a repository of its own.
fn lock_of(references: u32) -> String {
    let image = |number: u32| {
        let name = format!("registry.example/team/app-{number}:1.0.0");
        let digest = ComputedDigest::of(&number.to_le_bytes(), None).digest();
        (name.parse::<Reference>().expect("it is one"), Locked { digest, is_immutable: false })
    };
    LockFile { sources: Vec::new(), images: (0..references).map(image).collect() }.to_string()
}

fn with_blobs() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data_dir = folder.path().join("data");
    fill(&data_dir);
    let setup = Setup::new().data_dir(&data_dir);
    let begun = Instant::now();
    let immutag = setup.start();
    let ready = begun.elapsed();
    let resident = immutag.resident_kib();
    while immutag.metric("immutag_cache_blobs", "") < f64::from(BLOBS) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let all = begun.elapsed();
    println!();
    println!("start with {BLOBS} blobs, once");
    println!("ready after     {} ms", ready.as_millis());
    println!("counted after   {} ms", all.as_millis());
    println!("resident        {resident} KiB, then {} KiB", immutag.resident_kib());
}

fn fill(data_dir: &Path) {
    let limits = Limits { max_size: DiskSize::Bytes(1 << 40), min_free: DiskSize::Bytes(0) };
    let store = FsStore::open(data_dir, limits).expect("a data directory can be made");
    for number in 0..BLOBS {
        let bytes = number.to_le_bytes();
        let digest = ComputedDigest::of(&bytes, None).digest();
        store.put(&digest, &bytes).expect("there is room");
    }
    store.close().expect("the disk can sync");
}
