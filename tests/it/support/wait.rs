//! Waiting for a condition, never for luck.

use std::time::{Duration, Instant};

/// How long [`eventually`] waits at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const BEAT: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; panics with `what` when it does not within 20 s.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(PATIENCE, condition), "not within {PATIENCE:?}: {what}");
}

/// Whether `condition` comes to hold within `patience`.
pub(crate) fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(BEAT);
    }
}
