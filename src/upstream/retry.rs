//! When to ask again: pure but for the budget's count.
//!
//! Source: RFC 9110, section 10.2.3 (`Retry-After`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Tries after the first one, at most.
pub(crate) const MAX_RETRIES: u32 = 2;

/// A `Retry-After` up to this long is waited for here; a longer one is the client's affair.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What is told to clients when the upstream says nothing usable.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Reads a `Retry-After`: seconds or a date, clamped to 1 s..1 h; `None` if it is neither.
pub(crate) fn read_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
        let now = Timestamp::try_from(now).ok()?;
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(wait.clamp(Duration::from_secs(1), Duration::from_hours(1)))
}

/// How long a client that met a 429 should wait.
pub(crate) fn rate_limit_wait(header: Option<&str>, now: SystemTime) -> Duration {
    header.and_then(|text| read_retry_after(text, now)).unwrap_or(DEFAULT_RETRY_AFTER)
}

/// How long to wait before the retry with this number (from 0): 100 ms, 200 ms, …, each between
/// half and all of it as `jitter` (0..=255) says.
pub(crate) fn backoff(retry: u32, jitter: u8) -> Duration {
    let full = Duration::from_millis(100) * 2_u32.pow(retry.min(6));
    full / 2 + full * u32::from(jitter) / 512
}

/// Bounds the retries of one upstream to a tenth of its requests, plus a small reserve.
///
/// When everything fails, retries would multiply the load on an upstream that is down already.
pub(crate) struct RetryBudget {
    /// In tenths of a retry.
    tenths: AtomicU32,
}

impl RetryBudget {
    /// The reserve, in tenths of a retry.
    const FULL: u32 = 100;

    /// A full budget: ten retries.
    pub(crate) const fn new() -> Self {
        Self { tenths: AtomicU32::new(Self::FULL) }
    }

    /// A first try was made: a tenth of a retry is earned.
    pub(crate) fn earn(&self) {
        self.change(|tenths| Some((tenths + 1).min(Self::FULL)));
    }

    /// Takes one retry, if there is one.
    pub(crate) fn spend(&self) -> bool {
        self.change(|tenths| tenths.checked_sub(10))
    }

    fn change(&self, step: impl Fn(u32) -> Option<u32>) -> bool {
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_and_clamped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("0", Some(1)),
            ("1", Some(1)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86400", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("Sun, 06 Nov 2094 08:00:00 GMT", Some(3600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(read_retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(rate_limit_wait(None, now), DEFAULT_RETRY_AFTER);
    }

    #[test]
    fn backoff_doubles_and_stays_between_half_and_all() {
        assert_eq!(backoff(0, 0), Duration::from_millis(50));
        assert!(backoff(0, 255) < Duration::from_millis(100));
        assert_eq!(backoff(1, 0), Duration::from_millis(100));
        assert!(backoff(u32::MAX, 255) < Duration::from_secs(7));
    }

    #[test]
    fn a_storm_of_failures_is_amplified_by_a_tenth_at_most() {
        let budget = RetryBudget::new();
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += (0..MAX_RETRIES).filter(|_| budget.spend()).count();
        }
        assert!((100..=110).contains(&retries), "{retries}");
    }
}
