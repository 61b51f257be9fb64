use proptest::prelude::*;

use super::*;
use crate::event::{Draft, EventKind};
use crate::oci::{Digest, ManifestKind};
use crate::pin::{Content, Provenance};
use crate::policy::Reaction;
use crate::policy::matcher::{Matcher, TagMatcher};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

fn key(number: u32) -> PinKey {
    PinKey {
        registry: "docker.io".parse().unwrap(),
        repository: "library/alpine".parse().unwrap(),
        tag: format!("3.19.{number}").parse().unwrap(),
    }
}

fn rule() -> Rule {
    Rule {
        name: "rule 1".into(),
        matcher: Matcher::everywhere(TagMatcher::Any),
        reaction: Reaction::Hold,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: Duration::ZERO,
        include_referrers: false,
        is_exact: false,
    }
}

/// The fold of these events, each one millisecond after the other from `begun_ms` on.
fn state(begun_ms: u64, kinds: &[EventKind]) -> TagState {
    let mut state = TagState::default();
    for (kind, step) in kinds.iter().zip(0..) {
        let content = Content {
            digest: Digest::sha256([u8::try_from(step).unwrap(); 32]),
            media_type: ManifestKind::OciManifest.into(),
            size_bytes: 7,
        };
        let observed = Some(content).filter(|_| *kind != EventKind::Deleted);
        let approved = *kind == EventKind::Approved;
        let provenance = Some(if approved { Provenance::Approved } else { Provenance::FirstSeen });
        let pinned = Some(Digest::sha256([9; 32]));
        let draft = Draft { pinned, observed, provenance, ..Draft::new(*kind, Some(key(1))) };
        state.apply(&draft.at(step + 1, begun_ms + step));
    }
    state
}

fn now(wall: Duration) -> Now {
    Now { monotonic: Duration::from_mins(7), wall_ms: millis(wall) }
}

proptest! {
    #[test]
    fn a_tag_comes_within_a_period_of_any_time_and_never_in_a_rush(
        number in 0..1000_u32,
        period_ms in 1_000..200_000_000_u64,
        from_ms in 0..1_000_000_000_u64,
    ) {
        let (schedule, period) = (Schedule::new(), Duration::from_millis(period_ms));
        let mut at = Duration::from_millis(from_ms);
        let first = schedule.next(&key(number), period, at);
        prop_assert!(first >= at && first <= at + period);
        at = first;
        for _ in 0..20 {
            let next = schedule.next(&key(number), period, at + Duration::from_millis(1));
            prop_assert!(next <= at + period, "{next:?} after {at:?}");
            prop_assert!(next + Duration::from_millis(2) >= at + period * 3 / 4);
            at = next;
        }
    }
}

#[test]
fn tags_are_spread_over_the_interval_and_another_start_spreads_them_otherwise() {
    let (schedule, other) = (Schedule::new(), Schedule::new());
    let mut per_hour = [0_u32; 25];
    let mut same = 0;
    for number in 0..2400 {
        let at = schedule.next(&key(number), DAY, Duration::ZERO);
        per_hour[usize::try_from(at.as_secs() / 3600).unwrap()] += 1;
        same += u32::from(at == other.next(&key(number), DAY, Duration::ZERO));
    }
    assert!(per_hour[..18].iter().all(|count| (60..180).contains(count)), "{per_hour:?}");
    assert!(same < 10, "{same} of 2400 tags at the same moment after a restart");
}

#[test]
fn moments_of_one_tag_cannot_be_told_from_those_before() {
    let schedule = Schedule::new();
    let mut at = Duration::ZERO;
    let mut steps = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let next = schedule.next(&key(1), DAY, at + Duration::from_millis(1));
        steps.insert(next.saturating_sub(at).as_secs() / 60);
        at = next;
    }
    assert!(steps.len() > 10, "{steps:?}");
}

#[test]
fn what_is_young_or_open_is_asked_for_more_often() {
    use EventKind::{Approved, Conflict, Deleted, Imported, Observed, Pending, Pinned};
    let (young, old) = (HOUR, 80 * HOUR);
    for (kinds, age, expected) in [
        (vec![Pinned], young, HOUR),
        (vec![Pinned], old, DAY),
        (vec![Approved], young, DAY),
        (vec![Pinned, Conflict], old, HOUR),
        (vec![Pinned, Deleted], old, DAY),
        (vec![Imported], old, HOUR),
        (vec![Pending], young, HOUR),
        (vec![Observed], young, DAY),
    ] {
        let rule = Rule { min_age: DAY, ..rule() };
        let period = period(DAY, &state(0, &kinds), Some(&rule), now(age));
        assert_eq!(period, expected, "{kinds:?} {age:?}");
    }
    let pending = state(0, &[Pending]);
    let rule = Rule { min_age: Duration::from_mins(8), ..rule() };
    assert_eq!(period(DAY, &pending, Some(&rule), now(HOUR)), Duration::from_mins(2));
}

#[test]
fn closer_is_a_minute_at_least_and_the_interval_at_most() {
    for (interval, expected) in [(DAY * 7, 7 * HOUR), (HOUR / 6, CLOSEST)] {
        assert_eq!(closer(interval), expected);
    }
    assert_eq!(closer(Duration::from_secs(5)), Duration::from_secs(5));
}

#[test]
fn the_end_of_what_a_tag_waits_for_is_a_moment_of_its_own() {
    use EventKind::{Conflict, Pending, Pinned};
    let schedule = Schedule::new();
    let rule = Rule { min_age: HOUR * 10, accept_after: Some(HOUR * 10), ..rule() };
    for kinds in [vec![Pending], vec![Pinned, Conflict]] {
        let state = state(1000, &kinds);
        let since = state
            .pending
            .as_ref()
            .map_or_else(|| state.conflict.as_ref().unwrap().since_ms, |pending| pending.since_ms);
        let moment = |wall_ms: u64, from: Duration| {
            let now = Now { monotonic: Duration::from_mins(7), wall_ms };
            schedule.due((&key(1), &state), Some(&rule), 100 * DAY, from, now)
        };
        let end = since + millis(rule.min_age);
        let begun = Duration::from_mins(7);
        let ahead = moment(end - 5000, begun);
        assert_eq!(ahead.at, begun + Duration::from_secs(5));
        assert!(ahead.period.is_zero(), "an ask before it does not count");
        let late = moment(end + 5000, begun.checked_sub(Duration::from_secs(6)).unwrap());
        assert_eq!(late.at, begun.checked_sub(Duration::from_secs(5)).unwrap(), "it was missed");
        assert_eq!(moment(end + 5000, begun).period, 100 * DAY, "it was asked for then");
    }
}

#[test]
fn only_what_has_a_pin_or_an_open_question_is_watched() {
    use EventKind::{Conflict, Forgotten, Imported, Invalid, Observed, Pending, Pinned};
    for (kinds, expected) in [
        (vec![], false),
        (vec![Invalid], false),
        (vec![Observed], false),
        (vec![Pinned], true),
        (vec![Pinned, Conflict], true),
        (vec![Pinned, Conflict, Observed], false),
        (vec![Pinned, Forgotten], false),
        (vec![Imported], true),
        (vec![Pending], true),
    ] {
        assert_eq!(is_watched(&state(0, &kinds)), expected, "{kinds:?}");
    }
}

#[test]
fn a_look_ahead_reaches_no_farther_than_what_may_end_meanwhile() {
    let reach = |interval, rule: &Rule| reach(interval, [rule].into_iter());
    assert_eq!(reach(DAY, &rule()), Duration::from_mins(15));
    assert_eq!(reach(HOUR / 6, &rule()), Duration::from_secs(15));
    let soon = Rule { min_age: Duration::from_mins(2), ..rule() };
    assert_eq!(reach(DAY, &soon), Duration::from_secs(30));
    let soon = Rule { accept_after: Some(Duration::from_mins(1)), ..rule() };
    assert_eq!(reach(DAY, &soon), Duration::from_secs(15));
}

#[test]
fn an_ask_just_now_is_soon_enough_and_one_a_period_ago_is_not() {
    let schedule = Schedule::new();
    for number in 0..1000 {
        let now = schedule.next(&key(number), DAY, 100 * HOUR);
        let is_enough = |asked| schedule.is_soon_enough(&key(number), DAY, asked, now);
        assert!(is_enough(now), "the next moment comes within a period");
        assert!(!is_enough(now.checked_sub(DAY).unwrap()));
        assert!(!is_enough(now.checked_sub(DAY / 4 + HOUR / 60).unwrap()));
    }
    let an_end = Duration::ZERO;
    assert!(!schedule.is_soon_enough(&key(1), an_end, 99 * HOUR, 100 * HOUR));
}
