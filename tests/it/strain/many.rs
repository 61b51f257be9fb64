//! Many clients of one thing. P-25 and H-08.

use super::{REGISTRY, Stage, at_once, is_long};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::server::Ending;

/// At once on one image.
const CLIENTS: usize = 2000;

/// At once on one blob, each for its part.
const PARTS: usize = 20;

/// What these may cost at most, in KiB resident.
const PEAK_KIB: u64 = 128 << 10;

#[test]
fn twenty_ranges_of_a_large_cold_blob_are_one_fetch_and_exact() {
    let mut stage = Stage::new();
    let vast = stage.vast("parts", if is_long() { 1 << 30 } else { 256 << 20 });
    let size = vast.size_bytes;
    at_once(PARTS, |number| {
        let (number, parts) = (number as u64, PARTS as u64);
        let (from, to) = (size * number / parts, size * (number + 1) / parts);
        let mut at = from;
        let range = format!("bytes={from}-{}", to - 1);
        let answer = stage.call(&vast.digest).field("Range", &range).stream(|bytes| {
            assert!(vast.is_at(at, bytes), "other bytes at {at}");
            at += bytes.len() as u64;
        });
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.whole, at), (206, true, to), "part {number}");
        let place = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(answer.field("Content-Range"), Some(place.as_str()));
    });
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    let peak = stage.immutag.peak_kib();
    assert!(peak <= PEAK_KIB, "{peak} KiB were resident");
    stage.finish();
}

#[test]
fn thousands_of_pulls_of_a_cold_image_ask_once_for_each_thing() {
    crate::support::process::raise_file_limit();
    let mut stage = Stage::new();
    let image = stage.registry.push_image("app", "1.0.0", "crowd");
    let gate = Gate::closed();
    stage.registry.fault("GET manifests/1.0.0", Fault::Hold(gate.clone()));
    // Before the pin is made: its config is fetched at once then, whoever asks.
    let held = [&image.config, &image.layers[0]].map(|blob| {
        let (pattern, gate) = (format!("GET blobs/{}", blob.digest), Gate::closed());
        stage.registry.fault(&pattern, Fault::HoldBody(1, gate.clone()));
        (blob, pattern, gate)
    });
    let digests = all_wait_then(&stage, &gate, || {
        stage.immutag.manifest(REGISTRY, "app", "1.0.0").digest().to_owned()
    });
    assert!(digests.iter().all(|digest| digest == image.digest()));
    assert_eq!(stage.registry.count("* manifests/"), 1);
    for (blob, pattern, gate) in held {
        all_wait_then(&stage, &gate, || stage.assert_pulls(blob));
        assert_eq!(stage.registry.count(&pattern), 1);
    }
    let peak = stage.immutag.peak_kib();
    assert!(peak <= PEAK_KIB, "{peak} KiB were resident");
    stage.finish();
}

#[test]
fn thousands_whose_fetch_fails_are_no_herd_and_the_next_begin_anew() {
    const FAILURES: usize = 16;
    crate::support::process::raise_file_limit();
    let mut stage = Stage::new();
    let blob = stage.blob("herd", 300_000);
    let pattern = format!("GET blobs/{}", blob.digest);
    let gate = Gate::closed();
    stage.registry.fault(&pattern, Fault::HoldBody(1, gate.clone()));
    stage.registry.fault(&pattern, Fault::Cut(1000, Ending::Reset));
    let wholes = all_wait_then(&stage, &gate, || {
        stage.pull(&blob.digest).is_ok_and(|answer| answer.status == 200 && answer.whole)
    });
    assert!(wholes.iter().all(|is_whole| !is_whole), "a cut blob was complete");
    // Whoever came when it had broken begins the next, for all that come by then.
    let asked = stage.registry.count("* blobs/");
    assert!(asked <= FAILURES, "{asked} requests for one blob that fails");
    stage.registry.clear_faults();
    at_once(CLIENTS / 10, |_| stage.assert_pulls(&blob));
    let asked = stage.registry.count(&pattern) - asked.min(stage.registry.count(&pattern));
    assert!(asked <= 1, "{asked} requests for one blob");
    stage.finish();
}

/// Lets [`CLIENTS`] act; the gate is opened once they all are there.
fn all_wait_then<T: Send>(stage: &Stage, gate: &Gate, act: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| at_once(CLIENTS, |_| act()));
        stage.wait_for_clients(CLIENTS);
        gate.wait_for(1);
        gate.open();
        clients.join().expect("no client panics")
    })
}
