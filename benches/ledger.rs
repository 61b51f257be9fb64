//! How long a first sight takes to become a durable pin, beside what the disk needs for one
//! fdatasync in the same run; and how many pins a second 256 writers get through group commit:
//! in a burst of 16,384 (the index follows later), and without an end (the index sets the pace).

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use immutag::clock::SystemClock;
use immutag::ledger::{FileLedger, LedgerStore, OpenOptions, Outcome, StoredManifest};
use immutag::oci::{ComputedDigest, ManifestKind};
use immutag::pin::PinKey;
use tokio::runtime::Runtime;

const WRITERS: u64 = 256;
const BURST: u64 = 64;
const MANIFEST_BYTES: usize = 500;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(30)
        .measurement_time(Duration::from_secs(5));
    // Beside the build, on a real disk: what /tmp is differs from machine to machine.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    one_writer(&mut criterion, dir.path());
    many_writers(&mut criterion, dir.path());
    criterion.final_summary();
}

fn one_writer(criterion: &mut Criterion, dir: &Path) {
    let mut group = criterion.benchmark_group("ledger/one-writer");
    let file = File::create(dir.join("plain")).expect("a file");
    let mut offset = 0;
    group.bench_function("append-4KiB-fdatasync", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&[7; 4096], offset).expect("a write");
            file.sync_data().expect("a sync");
            offset += 4096;
        });
    });
    let (runtime, ledger) = open(&dir.join("one"));
    let next = AtomicU64::new(0);
    group.bench_function("first-sight-to-durable-pin", |bencher| {
        bencher.iter(|| runtime.block_on(pin(&ledger, next.fetch_add(1, Ordering::Relaxed))));
    });
    group.finish();
}

fn many_writers(criterion: &mut Criterion, dir: &Path) {
    let (runtime, ledger) = open(&dir.join("many"));
    let next = Arc::new(AtomicU64::new(0));
    let mut group = criterion.benchmark_group("ledger/256-writers");
    group.throughput(Throughput::Elements(WRITERS * BURST));
    group.bench_function("burst", |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| {
                    let took = runtime.block_on(race(&ledger, &next, BURST));
                    runtime.block_on(ledger.index_caught_up()).expect("an index");
                    took
                })
                .sum()
        });
    });
    group.throughput(Throughput::Elements(WRITERS));
    group.bench_function("without-end", |bencher| {
        bencher.iter_custom(|rounds| runtime.block_on(race(&ledger, &next, rounds)));
    });
    group.finish();
}

/// Each writer makes `pins` pins, one after the other, as fast as it is answered.
async fn race(ledger: &Arc<FileLedger>, next: &Arc<AtomicU64>, pins: u64) -> Duration {
    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (ledger, next) = (ledger.clone(), next.clone());
            tokio::spawn(async move {
                for _ in 0..pins {
                    pin(&ledger, next.fetch_add(1, Ordering::Relaxed)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    started.elapsed()
}

fn open(dir: &Path) -> (Runtime, Arc<FileLedger>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ledger = FileLedger::open(&OpenOptions::new(dir), SystemClock::shared());
    (runtime.expect("a runtime"), Arc::new(ledger.expect("a ledger")))
}

async fn pin(ledger: &FileLedger, number: u64) {
    let key = PinKey {
        registry: "registry.example".parse().expect("a registry"),
        repository: format!("team{}/app", number % 200).parse().expect("a repository"),
        tag: format!("1.0.{number}").parse().expect("a tag"),
    };
    let bytes = Bytes::from(format!("{number:0MANIFEST_BYTES$}"));
    let computed = ComputedDigest::of(&bytes, None);
    let manifest = StoredManifest::new(&computed, ManifestKind::OciManifest.into(), bytes);
    let outcome = ledger.pin_if_absent(&key, manifest, "rule").await.expect("a pin");
    assert!(matches!(black_box(outcome), Outcome::Written(_)));
}
