//! Blobs that are wrong, cut, encoded or without an end.

use std::time::Duration;

use super::{REGISTRY, Stage};
use crate::support::content::{Blob, noise};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Call, raw};
use crate::support::server::{Ending, Framing, Reply};
use crate::support::wait::eventually;

/// Below what is held back until the digest agreed, and above it.
const SMALL: usize = 20_000;
const LARGE: usize = 300_000;

/// While these things go wrong the blob never completes and nothing of it is kept; after them it
/// comes whole.
#[track_caller]
fn broken_then_whole(stage: &Stage, blob: &Blob, faults: &[Fault]) {
    let request = format!("GET blobs/{}", blob.digest);
    for fault in faults {
        stage.registry.fault(&request, fault.clone());
    }
    stage.assert_broken(&blob.digest);
    let hex = blob.digest.split_once(':').expect("a digest has an algorithm").1;
    // The client may know that it broke before the staged file is gone.
    eventually("nothing of the blob", || {
        !stage.cached().iter().any(|name| name.ends_with(hex) || name.contains("/staged/"))
    });
    stage.registry.clear_faults();
    let answer = stage.pull(&blob.digest);
    assert!(answer.status == 200 && answer.whole && answer.body == blob.bytes);
    super::eventually_cached(stage, blob);
}

/// The whole blob whatever part was asked for: an upstream that does not know ranges.
pub(super) fn without_ranges(blob: &Blob) -> Fault {
    let whole = Reply::new(200).body("application/octet-stream", blob.bytes.clone());
    Fault::Replace(Box::new(whole))
}

#[test]
fn a_cut_blob_never_completes_is_not_cached_and_comes_whole_the_next_time() {
    let stage = Stage::new();
    for size in [SMALL, LARGE] {
        for ending in [Ending::Fin, Ending::Reset] {
            for at in [0, 1, size / 2, size - 1] {
                let blob = stage.blob(&format!("{size}{ending:?}{at}"), size);
                let faults = [without_ranges(&blob), Fault::Cut(at, ending)];
                broken_then_whole(&stage, &blob, &faults);
            }
        }
    }
    stage.finish();
}

#[test]
fn a_cut_blob_without_a_length_never_completes_either() {
    let stage = Stage::new();
    for size in [SMALL, LARGE] {
        for framing in [Framing::Close, Framing::Chunked] {
            for at in [1, size - 1] {
                let blob = stage.blob(&format!("{size}{framing:?}{at}"), size);
                let framing = Fault::Frame(framing.clone());
                let faults = [without_ranges(&blob), framing, Fault::Cut(at, Ending::Fin)];
                broken_then_whole(&stage, &blob, &faults);
            }
        }
    }
    stage.finish();
}

#[test]
fn a_blob_without_a_length_goes_to_no_client_that_could_not_see_it_cut() {
    let stage = Stage::new();
    let blob = stage.blob("1.0", LARGE);
    let request = format!("GET blobs/{}", blob.digest);
    stage.registry.fault(&request, Fault::Frame(Framing::Chunked));
    stage.registry.fault(&request, Fault::Body(noise("other", LARGE).into()));
    let mirror = stage.immutag.addresses().mirror;
    let target = format!("/v2/app/blobs/{}?ns={REGISTRY}", blob.digest);
    let ask = || {
        let head = format!("GET {target} HTTP/1.0\r\n\r\n");
        raw(mirror, head.as_bytes(), Duration::from_secs(30))
    };
    // For HTTP/1.0 the end of the connection is the end of what has no length.
    assert!(ask().starts_with(b"HTTP/1.0 503 "));
    eventually("nothing of the blob", || stage.cached().is_empty());
    stage.registry.clear_faults();
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    super::eventually_cached(&stage, &blob);
    assert!(ask().ends_with(&blob.bytes));
    stage.finish();
}

#[test]
fn a_blob_of_other_bytes_never_completes() {
    let stage = Stage::new();
    for size in [1, SMALL, LARGE] {
        for framing in [Framing::Length, Framing::Chunked] {
            for (case, change) in CHANGES {
                let blob = stage.blob(&format!("{size} {framing:?} {case}"), size);
                let wrong = Fault::Body(change(&blob.bytes).into());
                broken_then_whole(&stage, &blob, &[Fault::Frame(framing.clone()), wrong]);
            }
        }
    }
    stage.finish();
}

type Change = fn(&[u8]) -> Vec<u8>;

const CHANGES: [(&str, Change); 3] = [
    ("inverted", |bytes| bytes.iter().map(|byte| !byte).collect()),
    ("flipped", |bytes| {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        bytes
    }),
    ("longer", |bytes| [bytes, b"x"].concat()),
];

#[test]
fn no_bytes_are_no_blob_that_has_some() {
    let stage = Stage::new();
    let blob = stage.blob("some", SMALL);
    let url = stage.blob_url(&blob.digest);
    let empty = Fault::Body(Vec::new().into());
    stage.registry.fault("* blobs/", empty.clone());
    for range in ["bytes=0-", "none"] {
        let answer = Call::new("GET", &url).field("Range", range).send();
        stage.assert_refused(&answer, 502, "DIGEST_INVALID", "UPSTREAM_DIGEST_MISMATCH");
    }
    let head = Call::new("HEAD", &url).send();
    assert_eq!((head.status, head.field("content-length")), (200, None));
    stage.registry.clear_faults();
    broken_then_whole(&stage, &blob, &[empty, Fault::Frame(Framing::Chunked)]);
    stage.finish();
}

#[test]
fn the_empty_blob_is_a_blob() {
    let stage = Stage::new();
    let blob = stage.blob("", 0);
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        stage.registry.fault("GET blobs/", Fault::Frame(framing));
        let answer = stage.pull(&blob.digest);
        assert!((answer.status, answer.whole, answer.body.len()) == (200, true, 0), "{answer:?}");
    }
    stage.finish();
}

#[test]
fn a_lying_length_of_a_blob_breaks_it() {
    let stage = Stage::new();
    for (number, claim) in ["10", "1000000000000"].iter().enumerate() {
        let blob = stage.blob(&format!("claim {number}"), LARGE);
        let faults = [Fault::ClaimLength((*claim).to_owned()), Fault::Cut(LARGE, Ending::Fin)];
        broken_then_whole(&stage, &blob, &faults);
    }
    for claim in ["-1", "ten", "99999999999999999999999"] {
        let blob = stage.blob(claim, SMALL);
        stage.registry.fault("GET blobs/", Fault::ClaimLength(claim.to_owned()));
        let answer = stage.pull(&blob.digest);
        stage.assert_refused(&answer, 502, "MANIFEST_INVALID", "UPSTREAM_INVALID");
        stage.registry.clear_faults();
    }
    stage.finish();
}

#[test]
fn a_blob_without_an_end_stops_at_the_cache_s_size_and_memory_stays_flat() {
    let stage = Stage::with(|setup| setup.tables("[cache]\nmax-size = \"64MiB\"\n"));
    let blob = stage.blob("endless", 1);
    stage.registry.fault("GET blobs/", Fault::Body(noise("chunk", 256 << 10).into()));
    stage.registry.fault("GET blobs/", Fault::Endless);
    stage.assert_broken(&blob.digest);
    assert_eq!(stage.cached(), Vec::<String>::new());
    stage.finish();
}

#[test]
fn an_encoded_blob_is_refused_and_not_cached() {
    let stage = Stage::new();
    let blob = stage.blob("encoded", SMALL);
    stage.registry.fault("* blobs/", Fault::field("Content-Encoding", "gzip"));
    let answer = stage.pull(&blob.digest);
    stage.assert_invalid(&answer, "CONTENT_ENCODING");
    assert_eq!(stage.cached(), Vec::<String>::new());
    stage.registry.clear_faults();
    stage.registry.fault("* blobs/", Fault::field("Content-Encoding", "identity"));
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    stage.finish();
}

#[test]
fn statuses_that_nobody_asked_for_give_no_blob() {
    let stage = Stage::new();
    for status in [201, 204, 206, 300, 304, 418] {
        let blob = stage.blob(&status.to_string(), SMALL);
        stage.registry.fault("* blobs/", Fault::Status(status));
        let answer = stage.pull(&blob.digest);
        stage.assert_refused(&answer, 502, "MANIFEST_INVALID", "UPSTREAM_INVALID");
        let head = Call::new("HEAD", &stage.blob_url(&blob.digest)).send();
        assert_eq!(head.status, 502, "{status}");
        stage.registry.clear_faults();
    }
    assert_eq!(stage.cached(), Vec::<String>::new());
    stage.finish();
}

#[test]
fn a_client_that_leaves_in_the_middle_ends_no_fill() {
    let stage = Stage::new();
    let blob = stage.blob("left", LARGE);
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::HoldBody(LARGE / 2, gate.clone()));
    let client = std::net::TcpStream::connect(stage.immutag.addresses().mirror).unwrap();
    let path = stage.blob_url(&blob.digest).split_once("/v2/").unwrap().1.to_owned();
    let request = format!("GET /v2/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    std::io::Write::write_all(&mut &client, request.as_bytes()).unwrap();
    gate.wait_for(1);
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut &client, &mut first).unwrap();
    drop(client);
    eventually("the end of the client's connection", || {
        stage.immutag.metric("immutag_connections", "mirror").abs() < f64::EPSILON
    });
    gate.open();
    super::eventually_cached(&stage, &blob);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    stage.finish();
}

#[test]
fn many_clients_of_one_cold_blob_share_one_fetch() {
    let stage = Stage::new();
    for round in 0..5 {
        let blob = stage.blob(&format!("shared {round}"), SMALL);
        stage.registry.forget_requests();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(stage.pull(&blob.digest).body, blob.bytes));
            }
        });
        assert_eq!(stage.registry.count("GET blobs/"), 1, "round {round}");
    }
    stage.finish();
}
