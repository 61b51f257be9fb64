//! Quota and eviction.

use std::thread;

use super::*;

#[test]
fn what_was_used_least_recently_makes_room_and_its_readers_go_on() {
    let stage = Stage::new(10_000);
    let store = stage.open();
    let all: Vec<Digest> = (0..10).map(|n| stage.put(&store, &content(n, 1000))).collect();
    let first = store.open(&all[0]).unwrap().unwrap();
    let reader = store.open(&all[1]).unwrap().unwrap();
    stage.clock.advance(Duration::from_secs(1));
    for digest in &all[3..] {
        store.touch(digest);
    }
    stage.put(&store, &content(10, 1500));
    let is_here: Vec<bool> =
        all.iter().map(|digest| store.size_bytes(digest).unwrap().is_some()).collect();
    // 1,500 bytes and a twentieth of all are freed: the third, and two that were used before it.
    assert_eq!(is_here.iter().filter(|is_here| !**is_here).count(), 2, "{is_here:?}");
    assert!(!is_here[2], "{is_here:?}");
    assert!(is_here[3..].iter().all(|is_here| *is_here), "{is_here:?}");
    for (file, n) in [(first, 0), (reader, 1)] {
        let mut bytes = Vec::new();
        (&*file.file).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, content(n, 1000));
    }
    assert_eq!((stage.metrics.evictions.get(), stage.metrics.evicted_bytes.get()), (2, 2000));
}

#[test]
fn the_order_of_last_use_survives_a_restart() {
    let stage = Stage::new(10_000);
    let store = stage.open();
    let all: Vec<Digest> = (0..10).map(|n| stage.put(&store, &content(n, 1000))).collect();
    for n in [9, 4, 0, 1, 2, 3, 5, 6, 7, 8] {
        stage.read(&store, &all[n]);
    }
    store.close().unwrap();
    let store = stage.open();
    // One is used before all is counted: that counts.
    stage.read(&store, &all[4]);
    store.scan().unwrap();
    stage.put(&store, &content(10, 1400));
    let gone: Vec<usize> =
        (0..10).filter(|n| store.size_bytes(&all[*n]).unwrap().is_none()).collect();
    assert_eq!(gone, [0, 9]);
}

#[test]
fn what_can_never_fit_passes_at_once_and_evicts_nothing() {
    let stage = Stage::new(10_000);
    let store = stage.open();
    let held = stage.put(&store, &content(0, 6000));
    store.hold(&held).unwrap();
    let cached = stage.put(&store, &content(1, 2000));
    for size in [4001, 20_000, u64::MAX] {
        let refused = store.stage(&digest(b"large"), Some(size));
        assert!(matches!(refused, Err(BlobError::Full("cache.max-size is reached"))));
    }
    assert!(store.size_bytes(&cached).unwrap().is_some());
    assert_eq!(stage.metrics.full.get(), 0, "other content still fits");
    store.stage(&digest(b"fits"), Some(4000)).unwrap();
    assert!(store.size_bytes(&cached).unwrap().is_none());
}

#[test]
fn held_content_stays_and_beyond_the_quota_nothing_is_cached() {
    let stage = Stage::new(10_000);
    let store = stage.open();
    let all: Vec<Digest> = (0..10).map(|n| stage.put(&store, &content(n, 1000))).collect();
    for digest in &all {
        store.hold(digest).unwrap();
    }
    assert!(matches!(store.put(&digest(b"x"), b"x"), Err(BlobError::Full(_))));
    assert_eq!(stage.metrics.full.get(), 1);
    assert!(store.stats().unwrap().is_full);
    assert!(all.iter().all(|digest| store.size_bytes(digest).unwrap() == Some(1000)));
    store.unhold(&all[0]).unwrap();
    store.put(&digest(b"x"), b"x").unwrap();
    store.shared.keep_room().unwrap();
    assert_eq!(stage.metrics.full.get(), 0);
    assert_eq!(store.size_bytes(&all[0]).unwrap(), None);
}

#[test]
fn content_of_unknown_length_makes_room_as_it_comes() {
    let stage = Stage::new(3 << 20);
    let store = stage.open();
    let old = stage.put(&store, &content(0, 2 << 20));
    let bytes = content(1, 4 << 20);
    let mut staged = store.stage(&digest(&bytes), None).unwrap();
    assert!(store.size_bytes(&old).unwrap().is_some());
    let mut written = 0;
    let refused = bytes.chunks(64 << 10).find_map(|chunk| {
        let refused = staged.write(chunk).err();
        written += if refused.is_none() { chunk.len() } else { 0 };
        refused
    });
    assert!(matches!(refused, Some(BlobError::Full(_))));
    assert!(store.size_bytes(&old).unwrap().is_none(), "it made room");
    assert!(written > 1 << 20 && written <= 3 << 20, "{written}");
    assert!(matches!(store.stage(&digest(b"y"), Some(3 << 20)), Err(BlobError::Full(_))));
    drop(staged);
    store.stage(&digest(b"y"), Some(3 << 20)).unwrap();
    assert_eq!(stage.staged(), 0);
}

#[test]
fn too_much_at_the_start_goes_once_it_is_counted() {
    let mut stage = Stage::new(10_000);
    let store = stage.open();
    let all: Vec<Digest> = (0..10).map(|n| stage.put(&store, &content(n, 1000))).collect();
    for digest in &all {
        stage.read(&store, digest);
    }
    store.close().unwrap();
    stage.limits = limits(5000);
    let store = stage.open();
    store.scan().unwrap();
    store.shared.keep_room().unwrap();
    assert_eq!(store.stats().unwrap().bytes, 5000);
    assert!(all[5..].iter().all(|digest| store.size_bytes(digest).unwrap().is_some()));
}

#[test]
fn under_load_readers_get_right_bytes_the_quota_holds_and_the_table_is_right() {
    const KINDS: u32 = 40;
    let stage = Stage::new(200_000);
    let store = stage.open();
    let pinned = stage.put(&store, &content(KINDS, 9_000));
    store.hold(&pinned).unwrap();
    let work = |seed: u32| {
        let mut random = seed;
        for _ in 0..400 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (random >> 16) % KINDS;
            let bytes = content(n, 5_000 + n as usize * 100);
            let digest = digest(&bytes);
            if let Some(stored) = store.open(&digest).unwrap() {
                thread::yield_now();
                let mut read = Vec::new();
                std::os::unix::fs::FileExt::read_at(&*stored.file, &mut [0; 8], 0).unwrap();
                fs::File::open(format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&*stored.file)
                ))
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
                assert_eq!(read, bytes);
            } else {
                match store.put(&digest, &bytes) {
                    Ok(()) | Err(BlobError::Full(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            match n {
                0 => store.hold(&digest).or_else(ignore_missing).unwrap(),
                1 => store.unhold(&self::digest(&content(0, 5_000))).unwrap(),
                _ => {}
            }
            assert!(store.stats().unwrap().bytes <= 200_000);
        }
    };
    thread::scope(|scope| (1..=8).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    assert!(stage.metrics.evictions.get() > 50);
    assert_eq!(stage.read(&store, &pinned), Some(content(KINDS, 9_000)));
    assert_eq!(stage.staged(), 0);
    assert_table_is_right(&stage, &store);
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Another process that counts everything comes to the same.
fn assert_table_is_right(stage: &Stage, store: &FsStore) {
    let all = |store: &FsStore| {
        let (mut listed, _) = store.list(Filter { only_held: false, by_size: false, limit: 1000 });
        listed.sort_unstable();
        listed.into_iter().map(|one| (one.digest, one.size_bytes, one.is_held)).collect::<Vec<_>>()
    };
    let again = stage.open();
    again.scan().unwrap();
    assert_eq!(all(store), all(&again));
    assert_eq!(store.shared.usage.totals(), again.shared.usage.totals());
}
