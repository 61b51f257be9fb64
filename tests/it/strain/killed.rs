//! Kills while blobs are being fetched: what is found after them is right, or not there.

use std::time::{Duration, Instant};

use super::{Stage, is_long};
use crate::support::content::{Blob, sha256};
use crate::support::wait::within;

const ROUNDS: u64 = 8;
const ROUNDS_WHEN_LONG: u64 = 300;
const ROUNDS_OF_A_STAGE: u64 = 10;
const BLOBS: usize = 6;
const SIZE: usize = 3 << 20;
/// A kill comes at most so long after the first request.
const LATEST_MS: u64 = 60;

#[test]
fn whatever_a_kill_leaves_of_a_fetch_is_never_served_and_does_not_stay() {
    let mut stage = Stage::new();
    let seed = u64::from(std::process::id()) ^ u64::from(Instant::now().elapsed().subsec_nanos());
    let mut random = Random::new(seed);
    for round in 0..if is_long() { ROUNDS_WHEN_LONG } else { ROUNDS } {
        if round > 0 && round % ROUNDS_OF_A_STAGE == 0 {
            // All that is stored is looked at in each round.
            stage = Stage::new();
        }
        let blobs: Vec<_> =
            (0..BLOBS).map(|it| stage.blob(&format!("{seed} {round} {it}"), SIZE)).collect();
        let delay = Duration::from_millis(random.below(LATEST_MS));
        kill_while_pulled(&mut stage, &blobs, delay);
        stage.immutag.restart();
        assert_eq!(stage.staged(), Vec::<String>::new(), "seed {seed}, round {round}");
        assert_cache_is_right(&stage, seed);
        for blob in &blobs {
            stage.assert_pulls(blob);
        }
        stage.finish();
    }
}

/// Kills in the midst of pulls; a client that had its blob whole had the right one.
fn kill_while_pulled(stage: &mut Stage, blobs: &[Blob], delay: Duration) {
    let calls: Vec<_> = blobs.iter().map(|blob| stage.call(&blob.digest)).collect();
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            calls.into_iter().map(|call| scope.spawn(move || call.try_send())).collect();
        // The moment is chance, not a condition; what it hits differs from round to round.
        let begun = Instant::now();
        within(delay * 2, || begun.elapsed() >= delay);
        stage.immutag.kill9();
        for (client, blob) in clients.into_iter().zip(blobs) {
            if let Ok(answer) = client.join().expect("a client does not panic") {
                let is_right = answer.body == blob.bytes;
                assert!(!answer.whole || is_right, "a whole, wrong blob: {}", blob.digest);
            }
        }
    });
}

/// Each stored file has the bytes that its name says, unless nobody would be given it: after a
/// kill all files that were renamed are whole.
fn assert_cache_is_right(stage: &Stage, seed: u64) {
    for file in stage.cached() {
        let bytes = std::fs::read(&file).expect("our own file");
        assert!(file.ends_with(&sha256(&bytes)[7..]), "seed {seed}: {file} has other bytes");
    }
}

/// Numbers by chance that a seed gives again.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
