//! What the journal of pulls costs: a note on the way of an answer, and a search in a million lines.

use std::hint::black_box;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use immutag::clock::SystemClock;
use immutag::journal::{Filter, Journal, Options, Outcome, Subject, newest, walk};
use immutag::metrics::JournalMetrics;
use immutag::oci::Digest;
use immutag::units::DiskSize;

const LINES: u32 = 1_000_000;

fn digest(number: u32) -> Digest {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Digest::sha256(hash)
}

fn notes(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        folder: folder.path().join("journal"),
        keep: Duration::from_hours(24),
        max_bytes: 1 << 30,
        file_bytes: 64 << 20,
        min_free: DiskSize::Bytes(0),
    };
    let journal = Journal::start(options, SystemClock::shared(), JournalMetrics::default());
    let subject = |number: u32| {
        let reference =
            format!("docker.io/library/app{number}:1.0.0").parse().expect("a reference");
        Subject::given(&"mirror".into(), reference, Some(digest(number)), Outcome::Pinned)
    };
    let subjects: Vec<Arc<Subject>> = (0..200).map(subject).collect();
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    c.bench_function("note/one again and again", |b| {
        b.iter(|| journal.note(black_box(&subjects[0]), client, false));
    });
    c.bench_function("note/200 in turn", |b| {
        let mut next = 0;
        b.iter(|| {
            next = (next + 1) % subjects.len();
            journal.note(black_box(&subjects[next]), client, false);
        });
    });
}

fn search(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("2026-04-22-0000.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("our own directory"));
    for number in 0..LINES {
        let (client, tag, digest) = (number % 250, number % 100, digest(number % 1000));
        writeln!(
            file,
            "{{\"v\":1,\"first-ms\":1776849180000,\"last-ms\":1776849180500,\"count\":2,\
             \"client\":\"10.0.0.{client}\",\"listener\":\"mirror\",\"method\":\"GET\",\
             \"reference\":\"docker.io/library/app:{tag}\",\"digest\":\"{digest}\",\
             \"outcome\":\"pinned\"}}"
        )
        .expect("room on the disk");
    }
    drop(file);
    let wanted = Filter { digests: vec![digest(7)], ..Filter::default() };
    let count = |filter: &Filter| {
        let mut count = 0;
        let walked = walk(folder.path(), filter, |_| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        });
        walked.expect("our own file");
        count
    };
    assert_eq!(count(&wanted), LINES / 1000);
    let mut group = c.benchmark_group("a million lines");
    group.sample_size(10);
    group.bench_function("by digest", |b| b.iter(|| count(black_box(&wanted))));
    group.bench_function("all of them", |b| b.iter(|| count(&Filter::default())));
    group.bench_function("the newest 100 of a digest", |b| {
        b.iter(|| newest(folder.path(), black_box(&wanted), 100).expect("our own file"));
    });
}

criterion_group!(benches, notes, search);
criterion_main!(benches);
