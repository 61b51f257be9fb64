//! A recorded tag whose upstream answers something new each time must not fill the ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pin::PinKey;

/// How many new digests of one recorded tag are written down one by one in an hour.
const LIMIT: u32 = 12;

const HOUR: Duration = Duration::from_hours(1);

/// What was written down of each tag within the hour. Lost with the process: so is a count that
/// no event carries yet.
pub(super) struct Merging(moka::sync::Cache<PinKey, Arc<Mutex<Hour>>>);

#[derive(Clone, Copy, Default)]
struct Hour {
    began_ms: u64,
    written: u32,
    merged: u64,
}

impl Default for Merging {
    fn default() -> Self {
        Self(moka::sync::Cache::new(10_000))
    }
}

impl Merging {
    /// How many new digests were not written down before this one; `None` if this one is not
    /// either, for there were enough within the hour.
    pub(super) fn before(&self, key: &PinKey, now_ms: u64) -> Option<u64> {
        self.with(key, |hour| {
            if hour.written > 0 && now_ms.saturating_sub(hour.began_ms) >= millis(HOUR) {
                hour.written = 0;
            }
            if hour.written < LIMIT {
                return Some(hour.merged);
            }
            hour.merged += 1;
            None
        })
    }

    /// One was written down, with a count of those before it.
    pub(super) fn wrote(&self, key: &PinKey, merged: u64, now_ms: u64) {
        self.with(key, |hour| {
            if hour.written == 0 {
                hour.began_ms = now_ms;
            }
            hour.written += 1;
            hour.merged = hour.merged.saturating_sub(merged);
        });
    }

    fn with<T>(&self, key: &PinKey, change: impl FnOnce(&mut Hour) -> T) -> T {
        let hour = self.0.entry_by_ref(key).or_default().into_value();
        change(&mut hour.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_twelve_in_an_hour_they_are_counted_and_the_next_hours_first_carries_the_count() {
        let merging = Merging::default();
        let key: PinKey = PinKey {
            registry: "r.example".parse().unwrap(),
            repository: "app".parse().unwrap(),
            tag: "latest".parse().unwrap(),
        };
        let see = |now_ms| {
            let merged = merging.before(&key, now_ms)?;
            merging.wrote(&key, merged, now_ms);
            Some(merged)
        };
        assert_eq!((0..12).filter_map(see).sum::<u64>(), 0);
        let hour = millis(HOUR);
        assert_eq!((12..30).chain([hour - 1]).filter_map(see).count(), 0);
        assert_eq!([see(hour), see(hour), see(2 * hour - 1)], [Some(19), Some(0), Some(0)]);
    }
}
