//! When a tag is asked for: a pure function of the tag, the time and what the ledger knows of it.
//!
//! Nothing is remembered. Time is cut into rounds; in each, a tag has a moment of its own, which a
//! keyed hash gives. The key is made anew at each start: so after a start every tag comes within one
//! interval, none of them in a rush, and nobody who moves a tag can tell when it is looked at.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::pin::{PinKey, TagState};
use crate::policy::Rule;
use crate::policy::judge::is_young;

/// What is young or open is asked for so many times as often.
const CLOSER: u32 = 24;

/// But not more often than this, unless the interval is shorter still.
const CLOSEST: Duration = Duration::from_mins(1);

/// What waits for `min-age` is asked for so many times before its end.
const LOOKS_AT_PENDING: u32 = 4;

/// From one moment of a tag to its next it is this part of the period, less or more.
const JITTER: u32 = 8;

/// The moments of all tags.
pub(super) struct Schedule {
    secret: RandomState,
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// By the monotonic one.
    pub(super) monotonic: Duration,
    /// In milliseconds since the Unix epoch.
    pub(super) wall_ms: u64,
}

/// When a tag is due, and how often it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// By the monotonic clock.
    pub(super) at: Duration,
    /// 0 for a moment that only this ask is good for.
    pub(super) period: Duration,
}

impl Schedule {
    /// A schedule that no other process has.
    pub(super) fn new() -> Self {
        Self { secret: RandomState::new() }
    }

    /// When the tag is asked for next, at `from` or after it, by the monotonic clock: within one
    /// period, and at the end of what it waits for, if that is earlier.
    pub(super) fn due(
        &self,
        (key, state): (&PinKey, &TagState),
        rule: Option<&Rule>,
        period: Duration,
        from: Duration,
        now: Now,
    ) -> Moment {
        let next = self.next(key, period, from);
        match end(state, rule, now).filter(|end| (from..next).contains(end)) {
            // Whatever was asked before cannot say that it stood until then.
            Some(end) => Moment { at: end, period: Duration::ZERO },
            None => Moment { at: next, period },
        }
    }

    /// Whether a tag that is due `now`, and was asked for at `asked`, comes within a period of that
    /// again if it is left out.
    pub(super) fn is_soon_enough(
        &self,
        key: &PinKey,
        period: Duration,
        asked: Duration,
        now: Duration,
    ) -> bool {
        self.next(key, period, now + Duration::from_millis(1)) <= asked + period
    }

    /// The tag's first moment at `from` or after it. From one to the next it is three quarters of a
    /// period at least, and one at most.
    pub(super) fn next(&self, key: &PinKey, period: Duration, from: Duration) -> Duration {
        let period = millis(period).max(1);
        let jitter = period / u64::from(JITTER);
        let each = (period - jitter).max(1);
        let phase = self.secret.hash_one(key) % each;
        let moment =
            |round: u64| round * each + phase + self.secret.hash_one((key, round)) % jitter.max(1);
        // One period later, so that there is a round before the first.
        let from = millis(from) + period;
        let round = from.saturating_sub(phase).div_ceil(each);
        let earlier = round.checked_sub(1).map(moment).filter(|at| *at >= from);
        Duration::from_millis(earlier.unwrap_or_else(|| moment(round)) - period)
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a tag is asked for though nobody pulls it: it has a pin, or something is open.
pub(super) const fn is_watched(state: &TagState) -> bool {
    state.pin.is_some()
        || state.conflict.is_some()
        || state.deleted_ms.is_some()
        || state.pending.is_some()
        || state.claim.is_some()
}

/// How often a tag is asked for, of an interval that is not 0.
pub(super) fn period(
    interval: Duration,
    state: &TagState,
    rule: Option<&Rule>,
    now: Now,
) -> Duration {
    let close = closer(interval);
    let is_young = state.pin.as_ref().is_some_and(|pin| is_young(pin, now.wall_ms));
    if state.pending.is_some() {
        let min_age = rule.map_or(Duration::ZERO, |rule| rule.min_age);
        return close.min(looks_within(min_age));
    }
    if is_young || state.conflict.is_some() || state.claim.is_some() { close } else { interval }
}

/// How long one look through the ledger may reach ahead: what becomes young or open meanwhile is
/// found by the next one.
pub(super) fn reach<'a>(interval: Duration, rules: impl Iterator<Item = &'a Rule>) -> Duration {
    let spans = rules.flat_map(|rule| [Some(rule.min_age), rule.accept_after]);
    let spans = spans.flatten().filter(|span| !span.is_zero());
    let shortest = spans.fold(closer(interval), Duration::min);
    (shortest / 4).clamp(Duration::from_secs(1), Duration::from_mins(15))
}

fn closer(interval: Duration) -> Duration {
    (interval / CLOSER).max(CLOSEST).min(interval)
}

fn looks_within(min_age: Duration) -> Duration {
    (min_age / LOOKS_AT_PENDING).max(Duration::from_secs(1))
}

/// When what the tag waits for is over, by the monotonic clock.
fn end(state: &TagState, rule: Option<&Rule>, now: Now) -> Option<Duration> {
    let rule = rule?;
    let (since_ms, wait) = match (&state.pending, &state.conflict) {
        (Some(pending), _) => (pending.since_ms, rule.min_age),
        (None, Some(open)) => (open.since_ms, rule.accept_after?),
        (None, None) => return None,
    };
    let end_ms = since_ms.saturating_add(millis(wait));
    let ahead = Duration::from_millis(end_ms.saturating_sub(now.wall_ms));
    let behind = Duration::from_millis(now.wall_ms.saturating_sub(end_ms));
    now.monotonic.checked_add(ahead)?.checked_sub(behind)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX >> 1).min(u64::MAX >> 1)
}

#[cfg(test)]
mod tests;
