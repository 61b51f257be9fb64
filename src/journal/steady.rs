//! The time by which entries grow old: a clock that steps makes none of them old.

use std::time::Duration;

use crate::clock::Clock;

/// How far the wall clock may be from where it should be.
const TOLERANCE_MS: u64 = 3_600_000;

/// How long it must stay there to be believed.
const BELIEVED: Duration = Duration::from_hours(24);

/// The wall clock as it was, carried on by the monotonic one. A step of more than an hour counts
/// only when it has stood for a day: until then somebody may set it back.
pub(super) struct Steady {
    wall_ms: u64,
    at: Duration,
    stepped: Option<Duration>,
}

impl Steady {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), at: clock.monotonic(), stepped: None }
    }

    /// The time, in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&mut self, clock: &dyn Clock) -> u64 {
        let (wall_ms, at) = (clock.wall_ms(), clock.monotonic());
        let passed_ms = u64::try_from(at.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected_ms = self.wall_ms.saturating_add(passed_ms);
        let is_near = wall_ms.abs_diff(expected_ms) <= TOLERANCE_MS;
        let stepped = if is_near { None } else { Some(self.stepped.unwrap_or(at)) };
        let is_believed =
            is_near || stepped.is_some_and(|since| at.saturating_sub(since) >= BELIEVED);
        self.wall_ms = if is_believed { wall_ms } else { expected_ms };
        self.stepped = stepped.filter(|_| !is_believed);
        self.at = at;
        self.wall_ms
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

    /// Two clocks that are moved apart.
    #[derive(Default)]
    struct Clocks {
        wall_ms: AtomicU64,
        monotonic_ms: AtomicU64,
    }

    impl Clocks {
        fn pass(&self, ms: u64) {
            self.wall_ms.fetch_add(ms, Ordering::SeqCst);
            self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
        }

        fn step_to(&self, ms: u64) {
            self.wall_ms.store(ms, Ordering::SeqCst);
        }
    }

    impl Clock for Clocks {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::SeqCst)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_clock_that_steps_for_a_while_is_not_believed_and_one_that_stays_there_is() {
        let clocks = Clocks::default();
        clocks.step_to(50 * YEAR_MS);
        let mut steady = Steady::new(&clocks);
        clocks.step_to(51 * YEAR_MS);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS);
        clocks.pass(23 * HOUR_MS);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS + 23 * HOUR_MS);
        clocks.step_to(50 * YEAR_MS + 23 * HOUR_MS);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS + 23 * HOUR_MS);
        clocks.step_to(60 * YEAR_MS);
        steady.now_ms(&clocks);
        clocks.pass(23 * HOUR_MS);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS + 46 * HOUR_MS);
        clocks.pass(HOUR_MS);
        assert_eq!(steady.now_ms(&clocks), 60 * YEAR_MS + 24 * HOUR_MS);
        clocks.step_to(0);
        assert_eq!(steady.now_ms(&clocks), 60 * YEAR_MS + 24 * HOUR_MS);
    }

    #[test]
    fn a_clock_that_is_set_right_by_less_than_an_hour_is_followed() {
        let clocks = Clocks::default();
        clocks.step_to(50 * YEAR_MS);
        let mut steady = Steady::new(&clocks);
        clocks.step_to(50 * YEAR_MS - HOUR_MS);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS - HOUR_MS);
        clocks.pass(10);
        assert_eq!(steady.now_ms(&clocks), 50 * YEAR_MS - HOUR_MS + 10);
    }
}
