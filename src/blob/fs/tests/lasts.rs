//! What is left after the machine went down.

use super::*;

#[test]
fn after_the_machine_went_down_content_is_hashed_before_it_is_served() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let [good, bad, cut] = [1, 2, 3].map(|n| stage.put(&store, &content(n, 1000)));
    let held = stage.put(&store, &content(4, 1000));
    store.hold(&held).unwrap();
    flip(store.shared.places.cached(&bad));
    fs::write(store.shared.places.cached(&cut), []).unwrap();
    drop(store);
    let store = stage.open_in("another boot");
    // Before all is counted, and after.
    assert_eq!(stage.read(&store, &bad), None);
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 2);
    assert_eq!(store.size_bytes(&cut).unwrap(), None);
    assert_eq!(store.stats().unwrap().suspect_blobs, 1);
    assert_eq!(stage.read(&store, &good), Some(content(1, 1000)));
    assert_eq!(stage.read(&store, &held), Some(content(4, 1000)));
    assert_eq!(store.stats().unwrap().suspect_blobs, 0);
    assert_eq!(stage.metrics.damaged.get(), 2);
    assert!(!store.shared.places.cached(&bad).exists());
}

#[test]
fn without_any_sync_held_content_is_suspect_too_and_garbage_is_not_held() {
    let mut stage = Stage::new(1 << 20);
    stage.durable = Durability::None;
    let store = stage.open();
    let [held, cached] = [1, 2].map(|n| stage.put(&store, &content(n, 1000)));
    store.hold(&held).unwrap();
    flip(store.shared.places.held(&held));
    flip(store.shared.places.cached(&cached));
    drop(store);
    let store = stage.open_in("another boot");
    store.scan().unwrap();
    assert_eq!(stage.read(&store, &held), None);
    assert_eq!(store.take_lost(), [held]);
    assert!(store.hold(&cached).is_err());
    assert_eq!(store.stats().unwrap().blobs, 0);
}

#[test]
fn after_a_stop_in_good_order_or_a_kill_nothing_is_suspect() {
    let stage = Stage::new(1 << 20);
    stage.put(&stage.open(), &content(1, 1000));
    let store = stage.open();
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 0, "it was killed");
    store.close().unwrap();
    let store = stage.open_in("another boot");
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 0, "it was stopped");
}

#[test]
fn what_is_stored_anew_is_not_suspect_and_all_else_stays_so_until_it_was_hashed() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let all = [1, 2, 3].map(|n| stage.put(&store, &content(n, 1000)));
    drop(store);
    let store = stage.open_in("another boot");
    stage.put(&store, &content(1, 1000));
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 2);
    drop(store);
    // Killed in between: what was not hashed is still to be.
    let store = stage.open_in("another boot");
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 3);
    flip(store.shared.places.cached(&all[2]));
    for _ in 0..10 {
        stage.clock.advance(Duration::from_secs(1));
        store.scrub().unwrap();
    }
    let stats = store.stats().unwrap();
    assert_eq!((stats.suspect_blobs, stats.blobs), (0, 2));
    drop(store);
    let store = stage.open_in("another boot");
    store.scan().unwrap();
    assert_eq!(store.stats().unwrap().suspect_blobs, 0, "all was hashed");
}

#[test]
fn clients_that_want_the_same_suspect_content_wait_for_one_look() {
    let stage = Stage::new(1 << 30);
    let store = stage.open();
    let digest = stage.put(&store, &content(1, 8 << 20));
    drop(store);
    let store = stage.open_in("another boot");
    flip(store.shared.places.cached(&digest));
    let opened = std::thread::scope(|scope| {
        let open = || store.open(&digest).unwrap().is_some();
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(opened, [false; 8]);
    assert_eq!(stage.metrics.damaged.get(), 1);
}

#[test]
fn a_file_of_another_length_than_before_is_dropped_when_it_is_opened() {
    let stage = Stage::new(1 << 20);
    let store = stage.open();
    let digest = stage.put(&store, &content(1, 1000));
    store.hold(&digest).unwrap();
    fs::write(store.shared.places.held(&digest), "short").unwrap();
    assert_eq!(stage.read(&store, &digest), None);
    assert!(!store.is_held(&digest));
    assert_eq!((store.take_lost(), stage.metrics.damaged.get()), (vec![digest], 1));
    // It comes anew, and can be held anew.
    stage.put(&store, &content(1, 1000));
    store.hold(&digest).unwrap();
    assert_eq!(stage.read(&store, &digest), Some(content(1, 1000)));
}
