//! The time by which waits end: a wall clock that was set ahead ends none of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Pull;
use crate::clock::Clock;

/// How far the wall clock may run ahead of the monotonic one before it is not believed.
const TOLERANCE_MS: u64 = 3_600_000;

/// Both clocks as they were at the start.
pub(super) struct Sure {
    wall_ms: u64,
    at: Duration,
    is_ahead: AtomicBool,
}

impl Sure {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), at: clock.monotonic(), is_ahead: AtomicBool::new(false) }
    }

    /// The wall clock's time, unless it has run ahead since the start by more than an hour; then
    /// the start's and what passed since. A clock that went back is followed: that ends no wait.
    pub(super) fn now_ms(&self, clock: &dyn Clock) -> u64 {
        let (wall_ms, at) = (clock.wall_ms(), clock.monotonic());
        let passed_ms = u64::try_from(at.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected_ms = self.wall_ms.saturating_add(passed_ms);
        let is_ahead = wall_ms > expected_ms.saturating_add(TOLERANCE_MS);
        if self.is_ahead.swap(is_ahead, Ordering::Relaxed) != is_ahead {
            let ahead_s = wall_ms.saturating_sub(expected_ms) / 1000;
            if is_ahead {
                tracing::error!(
                    ahead_s,
                    "the wall clock was set ahead since the start: accept-after, min-age and the 72 \
                     h of a young pin count without that time; restart immutag if the clock is \
                     right now"
                );
            } else {
                tracing::warn!("the wall clock is back where it should be");
            }
        }
        if is_ahead { expected_ms } else { wall_ms }
    }
}

impl Pull {
    /// The time by which `accept-after`, `min-age` and the youth of a pin end, in milliseconds
    /// since the Unix epoch.
    pub(super) fn sure_ms(&self) -> u64 {
        self.memory.sure.now_ms(&*self.edges.clock)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// Two clocks that are moved apart.
    #[derive(Default)]
    struct Clocks {
        wall_ms: AtomicU64,
        monotonic_ms: AtomicU64,
    }

    impl Clocks {
        fn set(&self, wall_ms: u64, monotonic_ms: u64) -> &Self {
            self.wall_ms.store(wall_ms, Ordering::SeqCst);
            self.monotonic_ms.store(monotonic_ms, Ordering::SeqCst);
            self
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
    fn a_clock_that_is_set_ahead_ends_no_wait_and_one_that_is_right_or_went_back_is_followed() {
        let clocks = Clocks::default();
        let year = 365 * 24 * HOUR_MS;
        let sure = Sure::new(clocks.set(50 * year, 7));
        assert_eq!(sure.now_ms(clocks.set(50 * year + HOUR_MS, 7)), 50 * year + HOUR_MS);
        assert_eq!(sure.now_ms(clocks.set(51 * year, 7)), 50 * year);
        assert_eq!(sure.now_ms(clocks.set(51 * year, 7 + year)), 51 * year);
        assert_eq!(sure.now_ms(clocks.set(53 * year, 7 + year + HOUR_MS)), 51 * year + HOUR_MS);
        assert_eq!(sure.now_ms(clocks.set(5, 7 + year)), 5);
    }
}
