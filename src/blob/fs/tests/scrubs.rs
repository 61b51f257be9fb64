//! Reading everything again.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

impl Stage {
    fn that_scrubs_within(within: Duration) -> Self {
        Self { scrub: within, ..Self::new(1 << 30) }
    }

    /// Lets time pass as the keeper does.
    fn scrub_for(&self, store: &FsStore, time: Duration) {
        for _ in 0..time.as_secs() {
            self.clock.advance(Duration::from_secs(1));
            store.scrub().unwrap();
        }
    }
}

#[test]
fn a_flipped_bit_is_found_within_the_time_and_what_is_held_is_told_to_be_lost() {
    let stage = Stage::that_scrubs_within(HOUR);
    let store = stage.open();
    let all: Vec<Digest> = (0..20).map(|n| stage.put(&store, &content(n, 400_000))).collect();
    store.hold(&all[3]).unwrap();
    flip(store.shared.places.held(&all[3]));
    flip(store.shared.places.cached(&all[7]));
    stage.scrub_for(&store, HOUR + HOUR / 10);
    assert_eq!(stage.metrics.damaged.get(), 2);
    for (n, digest) in all.iter().enumerate() {
        assert_eq!(store.size_bytes(digest).unwrap().is_some(), ![3, 7].contains(&n), "{n}");
    }
    assert_eq!(store.take_lost(), [all[3]]);
    assert!(!store.is_held(&all[3]));
    assert!(store.stats().unwrap().scrub.ended_ms.is_some());
}

#[test]
fn it_reads_no_faster_than_it_has_to() {
    let stage = Stage::that_scrubs_within(HOUR);
    let store = stage.open();
    for n in 0..9 {
        stage.put(&store, &content(n, 4 << 20));
    }
    stage.scrub_for(&store, HOUR / 10);
    let read = stage.metrics.scrubbed_bytes.get();
    assert!((3 << 20..4 << 20).contains(&read), "{read}");
    // A long pause is not caught up.
    stage.clock.advance(HOUR);
    store.scrub().unwrap();
    assert!(stage.metrics.scrubbed_bytes.get() - read <= 1 << 20);
}

#[test]
fn it_goes_on_where_it_was_after_a_restart() {
    let stage = Stage::that_scrubs_within(HOUR);
    let store = stage.open();
    for n in 0..20 {
        stage.put(&store, &content(n, 400_000));
    }
    stage.scrub_for(&store, HOUR / 2);
    let cursor = store.stats().unwrap().scrub.cursor.unwrap();
    store.close().unwrap();
    let read = stage.metrics.scrubbed_bytes.get();
    let store = stage.open();
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().scrub.cursor, Some(cursor));
    stage.scrub_for(&store, HOUR * 6 / 10);
    assert!(store.stats().unwrap().scrub.ended_ms.is_some());
    assert!(stage.metrics.scrubbed_bytes.get() - read < 6_000_000);
}

#[test]
fn zero_is_never() {
    let stage = Stage::that_scrubs_within(Duration::ZERO);
    let store = stage.open();
    stage.put(&store, &content(1, 1000));
    stage.scrub_for(&store, HOUR);
    assert_eq!(stage.metrics.scrubbed_bytes.get(), 0);
}

#[test]
fn what_was_evicted_or_replaced_while_it_was_read_is_no_damage() {
    let stage = Stage::that_scrubs_within(HOUR);
    let store = stage.open();
    let digest = stage.put(&store, &content(1, 3 << 20));
    flip(store.shared.places.cached(&digest));
    while stage.metrics.scrubbed_bytes.get() == 0 {
        stage.scrub_for(&store, Duration::from_secs(1));
    }
    store.put(&digest, &content(1, 3 << 20)).unwrap();
    stage.scrub_for(&store, HOUR * 2);
    assert_eq!(stage.read(&store, &digest), Some(content(1, 3 << 20)));
    assert_eq!(stage.metrics.damaged.get(), 0);
}

#[test]
fn damaged_content_that_a_pin_holds_goes_when_a_person_names_it() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let [sound, damaged] = [1, 2].map(|n| stage.put(&store, &content(n, 1000)));
    for digest in [&sound, &damaged] {
        store.hold(digest).unwrap();
    }
    flip(store.shared.places.held(&damaged));
    let prune = |digest, is_dry| store.prune(&Prune::Digest(digest), is_dry).blobs;
    assert_eq!((prune(sound, false), prune(damaged, true)), (0, 0));
    assert_eq!(prune(damaged, false), 1);
    assert_eq!(stage.read(&store, &sound), Some(content(1, 1000)));
    assert_eq!(stage.read(&store, &damaged), None);
    assert_eq!(store.take_lost(), [damaged], "what needs it fetches it anew");
}

#[test]
fn a_list_is_sorted_and_bounded_and_prune_spares_what_is_held() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let all: Vec<Digest> =
        (0..5).map(|n| stage.put(&store, &content(n, 1000 * n as usize + 1))).collect();
    store.hold(&all[0]).unwrap();
    let digests = |filter| {
        let (listed, fitting) = store.list(filter);
        (listed.into_iter().map(|one| one.digest).collect::<Vec<_>>(), fitting)
    };
    let by_use = Filter { only_held: false, by_size: false, limit: 2 };
    assert_eq!(digests(by_use), (vec![all[4], all[3]], 5));
    stage.read(&store, &all[1]);
    assert_eq!(digests(by_use), (vec![all[1], all[4]], 5));
    assert_eq!(digests(Filter { by_size: true, ..by_use }), (vec![all[4], all[3]], 5));
    assert_eq!(digests(Filter { only_held: true, ..by_use }), (vec![all[0]], 1));

    let freed = |blobs, bytes| Freed { blobs, bytes };
    assert_eq!(store.prune(&Prune::Digest(all[0]), false), freed(0, 0), "it is held");
    let since = Prune::UnusedSince(NOW_MS + 3000);
    assert_eq!(store.prune(&since, true), freed(1, 2001));
    assert_eq!(store.prune(&since, false), freed(1, 2001));
    assert_eq!(store.prune(&Prune::ToBytes(5500), false), freed(1, 3001));
    assert_eq!(store.prune(&Prune::Digest(all[1]), false), freed(1, 1001));
    assert_eq!(store.prune(&Prune::All, false), freed(1, 4001));
    assert_eq!(digests(by_use), (vec![all[0]], 1));
    assert!(store.shared.places.held(&all[0]).exists());
}
