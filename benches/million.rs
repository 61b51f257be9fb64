//! A ledger of 1,000,000 pins: how long from the start of the program until `/readyz` says 200,
//! after an orderly end and after a kill; what is resident then, and after 10,000 look-ups of tags
//! that nobody asked for before; and how long one such look-up takes.
//!
//!     cargo bench --bench million
//!
//! The ledger is made once, by the ledger's own writer, and stays under `target/tmp/million`.

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use immutag::clock::SystemClock;
use immutag::ledger::{FileLedger, LedgerStore, OpenOptions, StoredManifest};
use immutag::oci::{ComputedDigest, ManifestKind};
use immutag::pin::PinKey;
use stage::support::immutag::Immutag;
use stage::support::setup::Setup;
use tokio::runtime::Runtime;

const PINS: u64 = 1_000_000;
const WRITERS: u64 = 256;
const LOOK_UPS: u64 = 10_000;
const RUNS: usize = 5;
const REGISTRIES: [&str; 5] =
    ["docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "registry.example:5000"];

fn main() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("million");
    let data_dir = dir.join("data");
    if !dir.join("whole").exists() {
        build(&data_dir);
        std::fs::write(dir.join("whole"), "").expect("a file");
    }
    sizes(&data_dir);
    starts(&data_dir);
    look_ups(&data_dir);
}

fn build(data_dir: &Path) {
    let _ = std::fs::remove_dir_all(data_dir);
    let (runtime, ledger) = open(data_dir);
    let begun = Instant::now();
    runtime.block_on(fill(&ledger));
    let took = begun.elapsed();
    let rate = PINS * 1000 / u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    println!("made            {PINS} pins in {} s: {rate}/s, {WRITERS} writers", took.as_secs());
    runtime.block_on(ledger.index_caught_up()).expect("an index");
    println!("indexed after   {} s", begun.elapsed().as_secs());
    runtime.block_on(ledger.close());
}

async fn fill(ledger: &Arc<FileLedger>) {
    let next = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (ledger, next) = (Arc::clone(ledger), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PINS {
                        break;
                    }
                    let (key, manifest) = (key(number), manifest(number));
                    ledger.pin_if_absent(&key, manifest, "full-version").await.expect("a pin");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
}

fn sizes(data_dir: &Path) {
    let mib = |path: PathBuf| size(&path) >> 20;
    let ledger = data_dir.join("ledger");
    println!("log             {} MiB", mib(ledger.join("log")));
    println!("index           {} MiB", mib(ledger.join("index")));
    println!("snapshot        {} KiB", size(&ledger.join("snapshot")) >> 10);
}

fn size(path: &Path) -> u64 {
    let Ok(meta) = path.metadata() else { return 0 };
    if meta.is_file() {
        return meta.len();
    }
    let entries = std::fs::read_dir(path).expect("a directory").flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

/// The first start is behind an orderly end, all others behind a kill.
fn starts(data_dir: &Path) {
    // Once more in good order first, so that the index has a snapshot of its own: sled makes one
    // only when it opens.
    assert!(start(data_dir, "first").terminate().success());
    let mut immutag = start(data_dir, "after an end");
    for _ in 1..RUNS {
        immutag.kill9();
        immutag = start(data_dir, "after a kill");
    }
    let begun = Instant::now();
    for number in random().take(usize::try_from(LOOK_UPS).expect("few")) {
        let PinKey { registry, repository, tag } = key(number);
        let answer = immutag.direct_manifest(registry.as_str(), repository.as_str(), tag.as_str());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    println!("{LOOK_UPS} requests  {} ms", begun.elapsed().as_millis());
    println!("resident then   {} KiB, at most {}", immutag.resident_kib(), immutag.peak_kib());
    assert!(immutag.terminate().success());
}

fn start(data_dir: &Path, how: &str) -> Immutag {
    let setup = Setup::new().data_dir(data_dir).top("offline = true").every_tag("hold", "1m");
    let setup = setup.upstream("registry.example:5000", "http://127.0.0.1:9");
    let begun = Instant::now();
    let immutag = setup.start();
    let ready = begun.elapsed().as_millis();
    let resident = immutag.resident_kib();
    let first = Instant::now();
    let PinKey { registry, repository, tag } = key(1);
    // The index still opens behind the start; an answer must not wait for it.
    let answer =
        || immutag.direct_manifest(registry.as_str(), repository.as_str(), tag.as_str()).status;
    while answer() != 200 {}
    let first = first.elapsed().as_millis();
    println!("{how:<15} ready in {ready} ms, {resident} KiB; first answer {first} ms later");
    immutag
}

fn look_ups(data_dir: &Path) {
    let begun = Instant::now();
    let (runtime, ledger) = open(data_dir);
    println!("opened after    {} ms", begun.elapsed().as_millis());
    runtime.block_on(ledger.index_caught_up()).expect("an index");
    println!("index after     {} ms", begun.elapsed().as_millis());
    let mut took: Vec<Duration> = random()
        .take(10 * usize::try_from(LOOK_UPS).expect("few"))
        .map(|number| {
            let key = key(number);
            let begun = Instant::now();
            let state = runtime.block_on(ledger.state(&key));
            let took = begun.elapsed();
            assert!(state.expect("an answer").is_some());
            took
        })
        .collect();
    took.sort_unstable();
    let at = |permille: usize| took[took.len() * permille / 1000].as_micros();
    println!("look-up         p50 {} µs, p99 {} µs, p99.9 {} µs", at(500), at(990), at(999));
    println!("resident        {} KiB (ledger alone)", resident_kib());
    runtime.block_on(ledger.close());
}

fn open(dir: &Path) -> (Runtime, Arc<FileLedger>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ledger = FileLedger::open(&OpenOptions::new(dir), SystemClock::shared());
    (runtime.expect("a runtime"), Arc::new(ledger.expect("a ledger")))
}

fn key(number: u64) -> PinKey {
    let registry = REGISTRIES[usize::try_from(number % 5).expect("few")];
    let (team, app) = (number % 97, number % 2003);
    PinKey {
        registry: registry.parse().expect("a registry"),
        repository: format!("team{team}/app{app}").parse().expect("a repository"),
        tag: format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
            .parse()
            .expect("a tag"),
    }
}

/// An image of five layers, about 1 KiB, like no other.
fn manifest(number: u64) -> StoredManifest {
    let digest = |part: u64| ComputedDigest::of(&(number << 8 | part).to_le_bytes(), None).digest();
    let mut layers = String::new();
    for part in 1..6 {
        let comma = if part == 1 { "" } else { "," };
        let _ = write!(
            layers,
            "{comma}{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\
             \"size\":{},\"digest\":\"{}\"}}",
            number % 99_991 + part,
            digest(part)
        );
    }
    let text = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"size\":7023,\
         \"digest\":\"{}\"}},\"layers\":[{layers}]}}",
        digest(0)
    );
    let bytes = Bytes::from(text);
    let computed = ComputedDigest::of(&bytes, None);
    StoredManifest::new(&computed, ManifestKind::OciManifest.into(), bytes)
}

/// Numbers of pins, the same in each run.
fn random() -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state % PINS)
    })
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
