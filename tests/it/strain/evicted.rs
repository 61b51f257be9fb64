//! A cache that is too small for what is pulled. D-12.

use std::io::Read as _;

use super::{REGISTRY, Stage, at_once, begin, request};
use crate::support::wait::eventually;

const SIZE: usize = 1 << 20;
const BLOBS: usize = 40;
/// A fifth of all blobs.
const CACHE_BYTES: u64 = 8 << 20;
const CLIENTS: usize = 8;
const PULLS: usize = 25;

#[test]
fn a_cache_that_is_too_small_evicts_under_load_and_every_read_is_whole() {
    let mut stage = Stage::with(|setup| setup.tables("[cache]\nmax-size = \"8MiB\"\n"));
    let image = stage.registry.push_image("app", "1.0.0", "pinned");
    let pinned = || stage.immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(pinned().digest(), image.digest());
    stage.assert_pulls(&image.layers[0]);
    let blobs: Vec<_> =
        (0..BLOBS).map(|number| stage.blob(&format!("evicted {number}"), SIZE)).collect();
    // These have begun to read, and finish when what they read was evicted long ago.
    let mut readers: Vec<_> = blobs[..4]
        .iter()
        .map(|blob| {
            let target = Stage::target(&blob.digest);
            let head = request(&target, "Connection: close\r\n");
            let mut stream = begin(stage.immutag.addresses().mirror, &head);
            stream.read_exact(&mut [0; 1]).expect("the answer begins");
            stream
        })
        .collect();
    at_once(CLIENTS, |client| {
        for pull in 0..PULLS {
            let number = (client * 17 + pull * (2 * client + 1)) % BLOBS;
            stage.assert_pulls(&blobs[number]);
        }
    });
    for (stream, blob) in readers.iter_mut().zip(&blobs) {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it comes to its end");
        assert!(rest.ends_with(&blob.bytes), "a read was cut by an eviction");
    }
    drop(readers);
    let used = || {
        let size = |name: &String| std::fs::metadata(name).map_or(0, |it| it.len());
        stage.cached().iter().map(size).sum::<u64>()
    };
    eventually("a cache within its size", || used() <= CACHE_BYTES);
    // What was used last is there: what is new found room.
    let last = stage.blob("last", SIZE);
    stage.assert_pulls(&last);
    eventually("the last blob in the cache", || {
        stage.cached().iter().any(|name| name.ends_with(&last.digest[7..]))
    });
    // A pin is no matter of room.
    stage.registry.stop();
    assert_eq!(pinned().digest(), image.digest());
    stage.assert_pulls(&image.layers[0]);
    stage.finish();
}
