//! What is one entry, for how long, and what becomes of too many.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::journal::subject::Outcome;
use crate::oci::Digest;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

fn subject(tag: &str) -> Arc<Subject> {
    let reference = format!("registry.example/app:{tag}").parse().unwrap();
    let digest = Some(Digest::sha256([7; 32]));
    Subject::given(&"mirror".into(), reference, digest, Outcome::Pinned)
}

fn note(table: &Merging, clock: &ManualClock, tag: &str) {
    assert!(table.note(Key::new(subject(tag), CLIENT, false), clock));
}

/// The counts that a sweep gives, with first and last time.
fn swept(table: &Merging, clock: &ManualClock, sweep: Sweep) -> Vec<(u64, u64, u64)> {
    let lines = table.sweep(clock, sweep).into_iter();
    lines.map(|(_, it)| (it.first_ms, it.last_ms, it.count)).collect()
}

#[test]
fn the_first_is_written_at_once_and_repeats_when_their_minute_ends() {
    let (table, clock) = (Merging::default(), ManualClock::at(1_000));
    note(&table, &clock, "1");
    clock.advance(Duration::from_millis(5));
    note(&table, &clock, "1");
    assert_eq!(swept(&table, &clock, Sweep::Due), [(1_000, 1_005, 2)]);
    assert_eq!(swept(&table, &clock, Sweep::Due), []);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(10));
        note(&table, &clock, "1");
        assert_eq!(swept(&table, &clock, Sweep::Due), []);
    }
    clock.advance(Duration::from_secs(30));
    assert_eq!(swept(&table, &clock, Sweep::Due), [(11_005, 31_005, 3)]);
    note(&table, &clock, "1");
    assert_eq!(swept(&table, &clock, Sweep::Due), [(61_005, 61_005, 1)], "a new minute");
}

#[test]
fn nothing_is_left_when_all_is_swept() {
    let (table, clock) = (Merging::default(), ManualClock::at(1_000));
    note(&table, &clock, "1");
    assert_eq!(swept(&table, &clock, Sweep::Due).len(), 1);
    note(&table, &clock, "1");
    note(&table, &clock, "2");
    assert_eq!(swept(&table, &clock, Sweep::All).len(), 2);
    assert_eq!(swept(&table, &clock, Sweep::All), []);
}

#[test]
fn what_differs_in_anything_is_another_entry() {
    let (table, clock) = (Merging::default(), ManualClock::at(1_000));
    let (listener, direct) = ("mirror".into(), "direct".into());
    let reference: crate::oci::Reference = "registry.example/app:1".parse().unwrap();
    let digest = |byte| Some(Digest::sha256([byte; 32]));
    let given =
        |listener, digest, outcome| Subject::given(listener, reference.clone(), digest, outcome);
    let other = "127.0.0.2".parse().unwrap();
    for (subject, client, is_head) in [
        (given(&listener, digest(1), Outcome::Pinned), CLIENT, false),
        (given(&listener, digest(1), Outcome::Pinned), CLIENT, true),
        (given(&listener, digest(1), Outcome::Pinned), other, false),
        (given(&listener, digest(2), Outcome::Pinned), CLIENT, false),
        (given(&listener, digest(1), Outcome::Held), CLIENT, false),
        (given(&direct, digest(1), Outcome::Pinned), CLIENT, false),
        (Subject::refused(&listener, reference.clone(), "A", digest(1)), CLIENT, false),
        (Subject::refused(&listener, reference.clone(), "B", digest(1)), CLIENT, false),
        (Subject::refused(&listener, reference.clone(), "A", digest(2)), CLIENT, false),
    ] {
        for _ in 0..2 {
            assert!(table.note(Key::new(Arc::clone(&subject), client, is_head), &*clock));
        }
    }
    let same = given(&listener, digest(1), Outcome::Pinned);
    assert!(table.note(Key::new(same, CLIENT, false), &*clock));
    let counts: Vec<_> = swept(&table, &clock, Sweep::Due).iter().map(|it| it.2).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (9, 19));
}

#[test]
fn a_table_that_fills_up_is_emptied_early_and_what_finds_no_place_is_told() {
    let (table, clock) = (Merging::default(), ManualClock::at(1_000));
    let many = 20 * SHARDS * ROOM / 10;
    let taken = (0..many)
        .filter(|number| table.note(Key::new(subject(&number.to_string()), CLIENT, false), &*clock))
        .count();
    assert!(taken <= SHARDS * ROOM && taken > SHARDS * ROOM * 9 / 10, "{taken} of {many}");
    assert_eq!(swept(&table, &clock, Sweep::Due).len(), taken);
    assert!(table.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "room for others");
    note(&table, &clock, "1");
}

#[test]
fn a_clock_that_goes_back_ends_no_minute_and_loses_no_count() {
    struct Back(ManualClock);
    impl Clock for Back {
        fn wall_ms(&self) -> u64 {
            2_000 - self.0.wall_ms()
        }
        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }
    }
    let clock = Back(ManualClock::default());
    let table = Merging::default();
    let note = || assert!(table.note(Key::new(subject("1"), CLIENT, false), &clock));
    note();
    clock.0.advance(Duration::from_secs(1));
    note();
    let lines = table.sweep(&clock, Sweep::Due);
    assert_eq!(lines[0].1, Requests { first_ms: 2_000, last_ms: 1_000, count: 2 });
}
