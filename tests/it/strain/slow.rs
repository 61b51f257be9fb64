//! Clients that do not take what they asked for. H-05.

use std::io::Read as _;

use super::{Stage, begin, request};
use crate::support::wait::eventually;

const SLOW: usize = 500;

/// What they may cost at most, in KiB resident.
const PEAK_KIB: u64 = 128 << 10;

#[test]
fn hundreds_that_do_not_read_hold_neither_the_fetch_nor_others_nor_memory() {
    crate::support::process::raise_file_limit();
    let mut stage = Stage::new();
    let vast = stage.vast("slow", 64 << 20);
    let other = stage.blob("other", 300_000);
    let mirror = stage.immutag.addresses().mirror;
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut stream = begin(mirror, &request(&Stage::target(&vast.digest), ""));
            stream.read_exact(&mut [0; 1]).expect("the answer begins");
            stream
        })
        .collect();
    // The fetch goes on to its end though nobody takes the bytes, and lets go of the upstream.
    eventually("the blob in the cache", || {
        stage.cached().iter().any(|name| name.ends_with(&vast.digest[7..]))
    });
    stage.assert_pulls(&other);
    let mut at = 0;
    let answer = stage.call(&vast.digest).stream(|bytes| {
        assert!(vast.is_at(at, bytes), "other bytes at {at}");
        at += bytes.len() as u64;
    });
    assert!(answer.expect("an answer").whole && at == vast.size_bytes);
    stage.wait_for_clients(SLOW);
    assert_eq!(stage.registry.count(&format!("GET blobs/{}", vast.digest)), 1);
    let peak = stage.immutag.peak_kib();
    assert!(peak <= PEAK_KIB, "{peak} KiB were resident");
    drop(slow);
    stage.finish();
}
