//! What an upstream says of how much it may be asked, and how long it wants to be left alone.
//!
//! Sources: RFC 6585, section 4 (429); Docker Hub's `ratelimit-limit: 100;w=21600` and
//! `ratelimit-remaining: 76;w=21600`; draft-ietf-httpapi-ratelimit-headers, of which registries
//! have old and new forms: `RateLimit-Limit`, `-Remaining` and `-Reset` (to draft 06),
//! `RateLimit: limit=100, remaining=50, reset=5` (draft 07), `RateLimit: "day";r=50;t=30` with
//! `RateLimit-Policy: "day";q=100;w=86400` (from draft 08 on).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::time::Instant;

use super::answer::text;
use crate::oci::Registry;

/// Told what an upstream says: its limit and what remains of it.
pub type LimitObserver = std::sync::Arc<dyn Fn(&Registry, u64, u64) + Send + Sync>;

/// Of its limit so much is left to clients: one part in this many.
const RESERVE: u64 = 4;

/// Numbers above this are no limits of requests.
const MOST: u64 = 1_000_000_000_000;

/// How many entries of a list are looked at.
const ENTRIES: usize = 16;

/// What an answer says of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Requests in a window.
    pub(crate) limit: u64,
    /// How many of them are left.
    pub(crate) remaining: u64,
    /// How long a window is, where that is said.
    pub(crate) window: Option<Duration>,
    /// When more are to be had, where that is said.
    pub(crate) reset: Option<Duration>,
}

/// What one upstream said last.
#[derive(Default)]
pub(crate) struct Limits(Mutex<Said>);

#[derive(Clone, Copy, Default)]
struct Said {
    /// It said 429, and to come back then.
    closed_until: Option<Instant>,
    /// The last reading, and when it was made.
    reading: Option<(Reading, Instant)>,
}

impl Limits {
    pub(crate) fn note(&self, reading: Reading, now: Instant) {
        self.lock().reading = Some((reading, now));
    }

    pub(crate) fn close(&self, wait: Duration, now: Instant) {
        self.lock().closed_until = Some(now + wait);
    }

    /// How long it wants to be left alone, after a 429.
    pub(crate) fn closed_for(&self, now: Instant) -> Option<Duration> {
        let until = self.lock().closed_until?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// How long whoever has no client waiting leaves it alone: after a 429, and while less than the
    /// reserve remains.
    ///
    /// Nothing is heard of an upstream that nobody asks. So what it said counts until it said that
    /// more is to be had, or else for a 24th of its window; one request then says how it is.
    pub(crate) fn reserved_for(&self, now: Instant) -> Option<Duration> {
        let closed = self.closed_for(now);
        let said = self.lock().reading;
        let spent = said.filter(|(reading, _)| reading.remaining < reading.limit.div_ceil(RESERVE));
        let reserved = spent.and_then(|(reading, at)| {
            (at + reading.counts_for()).checked_duration_since(now).filter(|wait| !wait.is_zero())
        });
        closed.max(reserved)
    }

    /// Whether more than half of what it lets us ask is left, as far as it says.
    pub(crate) fn is_ample(&self) -> bool {
        self.lock().reading.is_none_or(|(reading, _)| reading.remaining > reading.limit / 2)
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// How long less than the reserve is believed.
    fn counts_for(&self) -> Duration {
        const AT_LEAST: Duration = Duration::from_secs(1);
        const DEFAULT: Duration = Duration::from_mins(1);
        const MOST: Duration = Duration::from_mins(15);
        let guess = || self.window.map_or(DEFAULT, |window| (window / 24).clamp(DEFAULT, MOST));
        self.reset.map_or_else(guess, |reset| reset.clamp(AT_LEAST, Duration::from_hours(1)))
    }

    /// Reads it from an answer's header, in whichever form it is there; `None` if it is in none.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let field = |name| text(headers, name);
        if let Some(limits) = field("ratelimit") {
            return of_one_field(&limits, &field("ratelimit-policy").unwrap_or_default());
        }
        let limits = field("ratelimit-limit")?;
        let remaining = field("ratelimit-remaining")?;
        let (limit, parameters) = item(limits.split(',').next()?)?;
        let (remaining, _) = item(remaining.split(',').next()?)?;
        let reset = field("ratelimit-reset").and_then(|reset| number(&reset));
        // The first draft's list: "100, 100;w=60, 1000;w=3600" names the window of its first number.
        let listed = || limits.split(',').take(ENTRIES).skip(1).filter_map(item);
        let window = parameter(parameters, "w").or_else(|| {
            listed().find(|(other, _)| *other == limit).and_then(|(_, it)| parameter(it, "w"))
        });
        Some(Self {
            limit,
            remaining,
            window: window.map(Duration::from_secs),
            reset: reset.map(Duration::from_secs),
        })
    }
}

/// `limit=100, remaining=50, reset=5`, or `"day";r=50;t=30, "burst";r=5` with its policies: of
/// several the one of which the least remains.
fn of_one_field(limits: &str, policies: &str) -> Option<Reading> {
    let entries = || limits.split(',').take(ENTRIES).map(str::trim);
    let value = |name: &str| {
        let named = entries().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        number(named?)
    };
    if let (Some(limit), Some(remaining)) = (value("limit"), value("remaining")) {
        let reset = value("reset").map(Duration::from_secs);
        return Some(Reading { limit, remaining, window: None, reset });
    }
    let policy = |name: &str| {
        let mut policies = policies.split(',').take(ENTRIES).map(str::trim);
        policies.find_map(|it| it.split_once(';').filter(|(other, _)| *other == name))
    };
    let read = |entry: &str| {
        let (name, parameters) = entry.split_once(';')?;
        let (_, of_policy) = policy(name)?;
        Some(Reading {
            limit: parameter(of_policy, "q")?,
            remaining: parameter(parameters, "r")?,
            window: parameter(of_policy, "w").map(Duration::from_secs),
            reset: parameter(parameters, "t").map(Duration::from_secs),
        })
    };
    entries().filter_map(read).min_by_key(|reading| reading.remaining)
}

/// `100;w=21600`: the number, and what follows it.
fn item(text: &str) -> Option<(u64, &str)> {
    let (value, parameters) = text.split_once(';').unwrap_or((text, ""));
    Some((number(value)?, parameters))
}

fn parameter(parameters: &str, name: &str) -> Option<u64> {
    let mut pairs = parameters.split(';').take(ENTRIES);
    number(pairs.find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))?)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number <= MOST)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Option<Reading> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Reading::read(&headers)
    }

    fn reading(limit: u64, remaining: u64, window: Option<u64>, reset: Option<u64>) -> Reading {
        let seconds = |it: Option<u64>| it.map(Duration::from_secs);
        Reading { limit, remaining, window: seconds(window), reset: seconds(reset) }
    }

    #[test]
    fn the_forms_that_registries_have_are_read() {
        let hub = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")];
        assert_eq!(read(&hub), Some(reading(100, 76, Some(21600), None)));
        let old = [
            ("ratelimit-limit", "100, 10;w=1, 100;w=60"),
            ("ratelimit-remaining", "9"),
            ("ratelimit-reset", "50"),
        ];
        assert_eq!(read(&old), Some(reading(100, 9, Some(60), Some(50))));
        let draft_7 = [("ratelimit", "limit=100, remaining=50, reset=5")];
        assert_eq!(read(&draft_7), Some(reading(100, 50, None, Some(5))));
        let new = [
            ("ratelimit", r#""day";r=900;t=30000, "burst";r=5;t=1"#),
            ("ratelimit-policy", r#""burst";q=10;w=1, "day";q=1000;w=86400"#),
        ];
        assert_eq!(read(&new), Some(reading(10, 5, Some(1), Some(1))));
    }

    #[test]
    fn what_is_no_limit_is_none() {
        for (limit, remaining) in [
            ("", "1"),
            ("-1", "1"),
            ("1e3", "1"),
            ("99999999999999999999999", "1"),
            ("100", "many"),
            ("w=1", ";;;"),
        ] {
            let fields = [("ratelimit-limit", limit), ("ratelimit-remaining", remaining)];
            assert_eq!(read(&fields), None, "{limit:?} {remaining:?}");
        }
        assert_eq!(read(&[("ratelimit-limit", "5")]), None);
        assert_eq!(read(&[("ratelimit", r#""day";r=900"#)]), None, "of an unknown policy");
        assert_eq!(read(&[("ratelimit", &"a,".repeat(10_000))]), None);
    }

    #[test]
    fn a_429_closes_and_the_reserve_is_left_to_clients() {
        let (limits, now) = (Limits::default(), Instant::now());
        assert_eq!(limits.reserved_for(now), None);
        limits.note(reading(100, 25, Some(21600), None), now);
        assert_eq!(limits.reserved_for(now), None);
        assert!(!limits.is_ample());
        limits.note(reading(100, 24, Some(21600), None), now);
        assert_eq!(limits.reserved_for(now), Some(Duration::from_mins(15)));
        assert_eq!(limits.reserved_for(now + Duration::from_mins(15)), None, "one may look again");
        limits.note(reading(100, 0, Some(21600), Some(30)), now);
        assert_eq!(limits.reserved_for(now), Some(Duration::from_secs(30)));
        limits.close(Duration::from_mins(2), now);
        assert_eq!(limits.reserved_for(now), Some(Duration::from_mins(2)));
        assert_eq!(limits.closed_for(now), Some(Duration::from_mins(2)));
        limits.note(reading(100, 99, None, None), now);
        assert_eq!(limits.reserved_for(now), Some(Duration::from_mins(2)), "it said so");
        assert_eq!(limits.closed_for(now + Duration::from_mins(2)), None);
    }
}
