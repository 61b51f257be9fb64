//! When to try again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use crate::notify::DeliveryFault;

/// The pause after the first failure; each later one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause of our own choice.
const LONGEST: Duration = Duration::from_mins(10);

/// How long to wait after so many failures in a row (from 1): by the receiver's word, if that is
/// longer, else between half and all of a time that doubles.
pub(super) fn pause(failures: u32, fault: DeliveryFault) -> Duration {
    let jitter = RandomState::new().hash_one(failures).to_le_bytes()[0];
    own_pause(failures, jitter).max(fault.retry_after().unwrap_or_default())
}

fn own_pause(failures: u32, jitter: u8) -> Duration {
    let full = (FIRST * 2_u32.pow(failures.saturating_sub(1).min(10))).min(LONGEST);
    full / 2 + full * u32::from(jitter) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_minutes_and_a_receivers_word_goes_before_a_shorter_one() {
        assert_eq!(own_pause(1, 0), Duration::from_millis(500));
        assert_eq!(own_pause(2, 0), Duration::from_secs(1));
        assert!(own_pause(u32::MAX, 255) < LONGEST);
        assert_eq!(own_pause(u32::MAX, 0), LONGEST / 2);
        let hour = Duration::from_hours(1);
        let busy = DeliveryFault::Refuses { status: 503, retry_after: Some(hour) };
        assert_eq!(pause(1, busy), hour);
        assert!(pause(1, DeliveryFault::Timeout) < FIRST);
    }
}
