//! How the bytes of a stored file reach clients: as they are, whoever asks in whatever order, with
//! little memory; from a file that was cut short, not as a whole. `faults.md`, R-01.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{REGISTRY, Stage, eventually_cached};
use crate::support::content::Blob;
use crate::support::http::{Call, raw};
use crate::support::wait::eventually;

/// Some pieces of what the kernel sends at once, and a bit.
const SIZE: usize = 3_333_333;

/// Clients that are in the midst of a large blob at the same time.
const CLIENTS: usize = 256;

impl Stage {
    /// A stored blob of this size.
    fn stored(&self, seed: &str, size_bytes: usize) -> Blob {
        let blob = self.blob(seed, size_bytes);
        assert!(self.pull(&blob.digest).body == blob.bytes);
        eventually_cached(self, &blob);
        blob
    }
}

#[test]
fn parts_of_a_large_blob_that_begin_and_end_anywhere_are_exact() {
    let stage = Stage::new();
    let blob = stage.stored("large", SIZE);
    let piece = 1 << 20;
    for (first, last) in [
        (0, SIZE - 1),
        (1, SIZE - 2),
        (4095, 4096),
        (piece - 1, piece),
        (piece, 2 * piece - 1),
        (piece + 1, 3 * piece + 1),
        (SIZE - 1, SIZE - 1),
    ] {
        let range = format!("bytes={first}-{last}");
        let answer = Call::new("GET", &stage.blob_url(&blob.digest)).field("Range", &range).send();
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.whole && answer.body == blob.bytes[first..=last], "{range}");
    }
    stage.finish();
}

#[test]
fn requests_that_come_in_one_segment_are_answered_in_their_order_and_exactly() {
    let stage = Stage::new();
    let image = stage.pin("1.0.0");
    let (large, small) = (stage.stored("large", SIZE), stage.stored("small", 1000));
    let path = |what: &str| format!("/v2/app/{what}?ns={REGISTRY}");
    let blob = |blob: &Blob| path(&format!("blobs/{}", blob.digest));
    let paths =
        [blob(&large), path("manifests/1.0.0"), blob(&small), blob(&large), blob(&image.layers[0])];
    let ask = |path: &String| format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n");
    let requests: Vec<String> = paths.iter().map(ask).collect();
    let requests = format!("{}Connection: close\r\n\r\n", requests.join("\r\n"));
    let address = stage.immutag.addresses().mirror;
    let bytes = raw(address, requests.as_bytes(), Duration::from_secs(20));
    let mut rest = &bytes[..];
    for expected in [
        &large.bytes,
        &image.manifest.blob.bytes,
        &small.bytes,
        &large.bytes,
        &image.layers[0].bytes,
    ] {
        let head = rest.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n"));
        rest = &rest[head..];
        assert!(rest.starts_with(expected), "{} bytes", expected.len());
        rest = &rest[expected.len()..];
    }
    assert!(rest.is_empty());
    stage.finish();
}

#[test]
fn a_stored_file_that_was_cut_short_does_not_end_as_a_whole_blob() {
    let stage = Stage::new();
    let blob = stage.stored("cut", SIZE);
    // Known now, and open.
    assert!(stage.pull(&blob.digest).whole);
    let hex = blob.digest.split_once(':').expect("a digest has an algorithm").1;
    let path = stage.cached().into_iter().find(|name| name.ends_with(hex)).expect("it is stored");
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("our own file");
    file.set_len(2_000_000).expect("it can be cut");
    stage.assert_broken(&blob.digest);
    let url = stage.blob_url(&blob.digest);
    let beyond = Call::new("GET", &url).field("Range", "bytes=2000001-").try_send();
    assert!(beyond.is_ok_and(|answer| !answer.whole && answer.body.is_empty()));
    stage.finish();
}

/// A client that has begun to read, and waits.
fn begin(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    stream.read_exact(&mut [0]).expect("an answer begins");
    stream
}

#[test]
fn hundreds_of_pulls_of_large_blobs_at_once_take_little_memory() {
    let stage = Stage::new();
    let blob = stage.stored("large", 8 << 20);
    let path = format!("/v2/app/blobs/{}?ns={REGISTRY}", blob.digest);
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| begin(stage.immutag.addresses().mirror, &path)).collect();
    let resident = stage.immutag.resident_kib();
    assert!(resident <= 96 << 10, "{resident} KiB are resident");
    for mut client in clients {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("the rest comes");
        assert!(bytes.ends_with(&blob.bytes));
    }
    let peak = stage.immutag.peak_kib();
    assert!(peak <= 96 << 10, "{peak} KiB were resident");
    eventually("no connections", || stage.immutag.metric("immutag_connections", "") <= 1.0);
    stage.finish();
}
