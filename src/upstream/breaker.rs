//! A circuit breaker: an upstream that failed again and again is left alone for a moment.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Opens after so many failures in a row.
const THRESHOLD: u32 = 10;

/// Stays open this long before one request may probe.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of one upstream's health.
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// Leave to ask. Say how it went; dropped without a word (the asker went away), a probe's turn goes
/// to the next asker.
pub(crate) struct Leave<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    /// A closed breaker: everything passes.
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to ask, or how long to wait.
    pub(crate) fn admit(&self, now: Instant) -> Result<Leave<'_>, Duration> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Ok(Leave { breaker: self, is_probe: false }),
            State::Open { until } if until <= now => {
                *state = State::Probing;
                Ok(Leave { breaker: self, is_probe: true })
            }
            State::Open { until } => Err(until - now),
            State::Probing => Err(PAUSE),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave<'_> {
    /// The upstream answered.
    pub(crate) fn succeeded(mut self) {
        *self.breaker.lock() = State::Closed { failures: 0 };
        self.is_probe = false;
    }

    /// The upstream did not answer, or with a 5xx.
    pub(crate) fn failed(mut self, now: Instant) {
        let mut state = self.breaker.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < THRESHOLD => {
                State::Closed { failures: failures + 1 }
            }
            State::Open { until } => State::Open { until },
            State::Probing if !self.is_probe => State::Probing,
            State::Closed { .. } | State::Probing => State::Open { until: now + PAUSE },
        };
        drop(state);
        self.is_probe = false;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            *self.breaker.lock() = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_until_open(breaker: &Breaker, now: Instant) {
        for _ in 0..THRESHOLD {
            breaker.admit(now).ok().unwrap().failed(now);
        }
    }

    #[test]
    fn it_opens_after_enough_failures_in_a_row_and_one_success_starts_anew() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        for _ in 1..THRESHOLD {
            breaker.admit(now).ok().unwrap().failed(now);
        }
        breaker.admit(now).ok().unwrap().succeeded();
        for _ in 1..THRESHOLD {
            breaker.admit(now).ok().unwrap().failed(now);
        }
        assert!(breaker.admit(now).is_ok());
        breaker.admit(now).ok().unwrap().failed(now);
        assert_eq!(breaker.admit(now).err(), Some(PAUSE));
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        fail_until_open(&breaker, now);
        let later = now + PAUSE;
        let probe = breaker.admit(later).ok().unwrap();
        assert!(breaker.admit(later).is_err(), "a second probe");
        probe.failed(later);
        assert_eq!(breaker.admit(later).err(), Some(PAUSE));
        breaker.admit(later + PAUSE).ok().unwrap().succeeded();
        assert!(breaker.admit(later + PAUSE).is_ok());
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_its_turn_to_the_next() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        fail_until_open(&breaker, now);
        drop(breaker.admit(now + PAUSE));
        assert!(breaker.admit(now + PAUSE).is_ok());
    }
}
