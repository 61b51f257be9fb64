//! Start-up: how long until `/readyz` says 200, and what is resident then; with an empty ledger,
//! and with 100,000 stored blobs, which are counted after the start.
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
use immutag::oci::ComputedDigest;
use immutag::units::DiskSize;
use stage::support::setup::Setup;

const RUNS: usize = 11;

const BLOBS: u32 = 100_000;

fn main() {
    empty();
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
