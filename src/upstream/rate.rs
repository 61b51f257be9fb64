//! How fast the bodies of one upstream are read, all together, and how much of them came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::time::Instant;

use crate::oci::Registry;

/// Gives the counter for the bytes of an upstream's bodies.
pub type Meter = Arc<dyn Fn(&Registry) -> IntCounter + Send + Sync>;

/// So far ahead of the rate bodies may run: timers are no finer than a millisecond.
const AHEAD: Duration = Duration::from_millis(50);

/// A body that begins waits only for more than this: a manifest shall not wait for layers.
const AHEAD_AT_FIRST: Duration = Duration::from_secs(1);

/// The flow of all bodies of one upstream.
pub(crate) struct Flow {
    /// 0: as fast as they come.
    bytes_per_second: u64,
    received: IntCounter,
    /// When all that came would have come at the rate.
    paid: Mutex<Instant>,
}

impl Flow {
    /// `bytes_per_second` 0: no limit.
    pub(crate) fn new(bytes_per_second: u64, received: IntCounter) -> Self {
        Self { bytes_per_second, received, paid: Mutex::new(Instant::now()) }
    }

    /// Counts bytes that came at `now`; the body that they came by is to be read on from the time
    /// that this gives, or at once.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Option<Instant> {
        self.received.inc_by(bytes as u64);
        if self.bytes_per_second == 0 {
            return None;
        }
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now) + cost;
        later(*paid, AHEAD, now)
    }

    /// When a body that begins at `now` is to be read, if not at once.
    pub(crate) fn begin(&self, now: Instant) -> Option<Instant> {
        let paid = *self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        later(paid, AHEAD_AT_FIRST, now)
    }
}

fn later(paid: Instant, ahead: Duration, now: Instant) -> Option<Instant> {
    paid.checked_sub(ahead).filter(|until| *until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(bytes_per_second: u64) -> (Flow, Instant) {
        let received = IntCounter::new("received", "received").unwrap();
        (Flow::new(bytes_per_second, received), Instant::now())
    }

    #[test]
    fn bodies_that_are_read_together_keep_to_the_rate() {
        let (flow, start) = flow(1 << 20);
        let mut turns = [start; 3];
        let (mut all, mut last) = (0_u32, start);
        // Whoever may go on soonest reads the next piece, as tasks with timers would.
        while all < 10 << 20 {
            let turn = turns.iter_mut().min().unwrap();
            *turn = flow.take(64 << 10, *turn).unwrap_or(*turn);
            all += 64 << 10;
            last = last.max(*turn);
        }
        let took = (last - start).as_secs_f64();
        assert!((9.9..=10.0).contains(&took), "{took} s for 10 MiB at 1 MiB/s");
        assert_eq!(flow.received.get(), u64::from(all));
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let (flow, start) = flow(1000);
        let later = start + Duration::from_secs(100);
        let until = flow.take(1000, later).unwrap();
        assert_eq!(until, later + Duration::from_secs(1) - AHEAD);
    }

    #[test]
    fn what_begins_waits_only_for_a_large_debt() {
        let (flow, start) = flow(1000);
        assert_eq!(flow.take(50, start), None, "little is never waited for");
        flow.take(900, start);
        assert_eq!(flow.begin(start), None);
        flow.take(9050, start);
        assert_eq!(flow.begin(start), Some(start + Duration::from_secs(9)));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let (flow, start) = flow(0);
        assert_eq!(flow.take(usize::MAX, start), None);
        assert_eq!(flow.begin(start), None);
    }
}
