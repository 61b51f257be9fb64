//! Start-up with an empty ledger: how long until `/readyz` says 200, and what is resident then.
//!
//!     cargo bench --bench start

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

use std::time::{Duration, Instant};

use stage::support::setup::Setup;

const RUNS: usize = 11;

fn main() {
    let mut runs: Vec<(Duration, u64)> = (0..RUNS).map(|_| run()).collect();
    runs.sort_unstable();
    let (ready, _) = runs[RUNS / 2];
    let resident = runs.iter().map(|(_, resident)| *resident).max().unwrap_or_default();
    let (first, last) = (runs[0].0.as_millis(), runs[RUNS - 1].0.as_millis());
    println!("start with an empty ledger, {RUNS} runs");
    println!("ready after     {} ms (median; {first} to {last} ms)", ready.as_millis());
    println!("resident then   {resident} KiB (largest)");
}

fn run() -> (Duration, u64) {
    let setup = Setup::new();
    let begun = Instant::now();
    let immutag = setup.start();
    (begun.elapsed(), immutag.resident_kib())
}
