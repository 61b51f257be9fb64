//! Parts of blobs, stored and on their way, and HEADs of everything.

use super::{REGISTRY, Stage};
use crate::support::content::Blob;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Answer, Call, head};
use crate::support::immutag::accepting;
use crate::support::server::Framing;

const SIZE: usize = 300_000;

/// Range, first byte, last byte.
const PARTS: [(&str, usize, usize); 6] = [
    ("bytes=0-0", 0, 0),
    ("bytes=1000-1999", 1000, 1999),
    ("bytes=299000-", 299_000, SIZE - 1),
    ("bytes=150000-999999999", 150_000, SIZE - 1),
    ("bytes=-7", SIZE - 7, SIZE - 1),
    ("bytes=-99999999", 0, SIZE - 1),
];

/// What is answered with the whole.
const WHOLES: [&str; 6] =
    ["bytes=0-1,5-9", "bytes=5-4", "bytes=x-y", "items=0-1", "bytes=", "bytes=--1"];

fn part(stage: &Stage, blob: &Blob, range: &str) -> Answer {
    Call::new("GET", &stage.blob_url(&blob.digest)).field("Range", range).send()
}

fn assert_parts(stage: &Stage, blob: &Blob) {
    for (range, first, last) in PARTS {
        let answer = part(stage, blob, range);
        assert_eq!(answer.status, 206, "{range}");
        let expected = format!("bytes {first}-{last}/{SIZE}");
        assert_eq!(answer.field("content-range"), Some(&*expected), "{range}");
        assert!(answer.whole && answer.body == blob.bytes[first..=last], "{range}");
    }
    for range in ["bytes=300000-", "bytes=999999999-", "bytes=-0"] {
        let answer = part(stage, blob, range);
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.field("content-range"), Some("bytes */300000"));
        assert!(answer.whole && answer.body.is_empty());
    }
    for range in WHOLES {
        let answer = part(stage, blob, range);
        assert!(answer.status == 200 && answer.body == blob.bytes, "{range}");
    }
}

#[test]
fn parts_of_a_stored_blob_are_exact() {
    let stage = Stage::new();
    let blob = stage.blob("stored", SIZE);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    super::eventually_cached(&stage, &blob);
    assert_parts(&stage, &blob);
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    stage.finish();
}

#[test]
fn parts_of_a_blob_on_its_way_wait_for_their_bytes_and_are_exact() {
    let stage = Stage::new();
    let blob = stage.blob("way", SIZE);
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::HoldBody(100_000, gate.clone()));
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| stage.pull(&blob.digest));
        gate.wait_for(1);
        // What has come may leave already; the rest waits.
        assert_eq!(part(&stage, &blob, "bytes=5-9").body, blob.bytes[5..=9]);
        let rest = scope.spawn(|| part(&stage, &blob, "bytes=90000-"));
        let all = scope.spawn(|| assert_parts(&stage, &blob));
        gate.open();
        assert_eq!(rest.join().unwrap().body, blob.bytes[90_000..]);
        assert_eq!(whole.join().unwrap().body, blob.bytes);
        all.join().unwrap();
    });
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    stage.finish();
}

#[test]
fn a_part_begins_a_fill_that_keeps_the_whole() {
    let stage = Stage::new();
    let blob = stage.blob("begun", SIZE);
    assert_eq!(part(&stage, &blob, "bytes=299990-").body, blob.bytes[299_990..]);
    super::eventually_cached(&stage, &blob);
    assert_eq!(stage.registry.requests()[0].fields.get("Range"), None);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    stage.finish();
}

#[test]
fn while_the_length_is_unknown_a_part_is_answered_with_the_whole() {
    let stage = Stage::new();
    for framing in [Framing::Chunked, Framing::Close] {
        let blob = stage.blob(&format!("{framing:?}"), SIZE);
        stage.registry.fault("GET blobs/", Fault::Frame(framing));
        let gate = Gate::closed();
        stage.registry.fault("GET blobs/", Fault::HoldBody(100_000, gate.clone()));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| part(&stage, &blob, "bytes=5-"));
            gate.wait_for(1);
            let second = scope.spawn(|| part(&stage, &blob, "bytes=-5"));
            gate.open();
            for answer in [first.join().unwrap(), second.join().unwrap()] {
                let tail = &blob.bytes[SIZE - answer.body.len()..];
                assert!(answer.whole && answer.body == tail);
                assert_eq!(answer.status, if answer.body.len() == SIZE { 200 } else { 206 });
            }
        });
        super::eventually_cached(&stage, &blob);
        assert_parts(&stage, &blob);
        stage.registry.clear_faults();
    }
    stage.finish();
}

#[test]
fn every_head_is_the_head_of_its_get_without_a_body() {
    let stage = Stage::new();
    let image = stage.pin("held");
    stage.registry.push_image("app", "rec-1", "recorded");
    let [cold, warm] = ["cold", "warm"].map(|seed| stage.blob(seed, SIZE));
    stage.pull(&warm.digest);
    super::eventually_cached(&stage, &warm);
    let paths = [
        "v2/".to_owned(),
        "v2/app/manifests/held".to_owned(),
        "v2/app/manifests/rec-1".to_owned(),
        format!("v2/app/manifests/{}", image.digest()),
        format!("v2/app/manifests/{}", image.config.digest),
        format!("v2/app/blobs/{}", cold.digest),
        format!("v2/app/blobs/{}", warm.digest),
        format!("v2/app/blobs/{}", image.digest()),
        format!("v2/app/referrers/{}", image.digest()),
        "v2/app/tags/list".to_owned(),
        "v2/app/manifests/none".to_owned(),
        "v2/app/manifests/rec-none".to_owned(),
        "v2/App/manifests/1".to_owned(),
        "nothing".to_owned(),
    ];
    let mirror = stage.immutag.addresses().mirror;
    for path in paths {
        let url = format!("http://{mirror}/{path}?ns={REGISTRY}");
        // `Connection: close` and a read to the end: a body would be seen.
        let raw = raw_head(&stage, &format!("/{path}?ns={REGISTRY}"));
        assert!(raw.ends_with("\r\n\r\n") && raw.matches("\r\n\r\n").count() == 1, "{raw}");
        let head = accepting(Call::new("HEAD", &url)).send();
        let get = accepting(Call::new("GET", &url)).send();
        assert_eq!(head.status, get.status, "{path}");
        let length = get.body.len().to_string();
        assert_eq!(head.field("content-length"), Some(&*length), "{path}");
        assert_eq!(head.field("content-type"), get.field("content-type"), "{path}");
        assert_eq!(head.digest(), get.digest(), "{path}");
        assert_eq!(head.field("transfer-encoding"), None, "{path}");
    }
    assert_eq!(head(&stage.immutag.admin("/livez")).status, 200);
    stage.finish();
}

fn raw_head(stage: &Stage, target: &str) -> String {
    let request =
        format!("HEAD {target} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    let bytes =
        crate::support::immutag::Immutag::raw(stage.immutag.addresses().mirror, request.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_range_on_a_head_is_ignored() {
    let stage = Stage::new();
    let blob = stage.blob("head", SIZE);
    for _ in 0..2 {
        let url = stage.blob_url(&blob.digest);
        let answer = Call::new("HEAD", &url).field("Range", "bytes=5-9").send();
        assert_eq!((answer.status, answer.field("content-length")), (200, Some("300000")));
        stage.pull(&blob.digest);
    }
    stage.finish();
}
