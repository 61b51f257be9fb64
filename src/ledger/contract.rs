//! What every [`LedgerStore`] must do. A store passes by running [`run`] on empty ledgers.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{BULK_LIMIT, LedgerError, LedgerStore, Outcome, StoredManifest};
use crate::event::{Draft, EventKind};
use crate::oci::{ComputedDigest, Digest, ManifestKind};
use crate::pin::{PinKey, Provenance, SEEN_LIMIT, TagState};

/// A store under test.
pub(crate) type Store = Arc<dyn LedgerStore>;

/// A tag in a made-up repository.
pub(crate) fn key(repository: &str, tag: &str) -> PinKey {
    PinKey {
        registry: "registry.example".parse().unwrap(),
        repository: repository.parse().unwrap(),
        tag: tag.parse().unwrap(),
    }
}

/// A manifest whose bytes are this text.
pub(crate) fn manifest(text: &str) -> StoredManifest {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let computed = ComputedDigest::of(&bytes, None);
    StoredManifest::new(&computed, ManifestKind::OciManifest.into(), bytes)
}

/// A draft about a tag that observed a manifest.
pub(crate) fn draft(kind: EventKind, key: &PinKey, observed: &StoredManifest) -> Draft {
    let observed = Some(observed.content.clone());
    Draft { observed, rule: "rule".into(), ..Draft::new(kind, Some(key.clone())) }
}

/// The state that was written; panics if another writer was first.
pub(crate) fn written(outcome: Outcome) -> Arc<TagState> {
    match outcome {
        Outcome::Written(state) => state,
        Outcome::Raced(state) => panic!("raced: {state:?}"),
    }
}

/// Runs all of the contract, each part on a store of its own.
pub(crate) async fn run<F: AsyncFn() -> Store>(empty: F) {
    a_pin_is_there_after_it_was_written(empty().await).await;
    the_first_of_many_first_sights_wins(empty().await).await;
    a_write_that_is_out_of_date_changes_nothing(empty().await).await;
    increments_are_never_lost(empty().await).await;
    states_are_the_fold_of_the_history(empty().await).await;
    tags_are_listed_in_the_order_of_their_bytes(empty().await).await;
    revocations_hold_at_once_and_can_be_taken_back(empty().await).await;
    a_version_does_not_outlive_what_it_was_read_before(empty().await).await;
    seen_digests_are_bounded(empty().await).await;
    manifests_are_kept_as_they_were(empty().await).await;
    events_are_numbered_without_gaps(empty().await).await;
    senseless_events_are_refused(empty().await).await;
    many_events_are_written_together_or_not_at_all(empty().await).await;
}

async fn a_pin_is_there_after_it_was_written(store: Store) {
    let (key, first) = (key("app", "1.0"), manifest("first"));
    assert_eq!(store.state(&key).await.unwrap(), None);
    let state = written(store.pin_if_absent(&key, first.clone(), "rule").await.unwrap());
    let pin = state.pin.as_ref().unwrap();
    assert_eq!((&pin.content, pin.provenance), (&first.content, Provenance::FirstSeen));
    assert_eq!(store.state(&key).await.unwrap(), Some(state.clone()));
    let again = store.pin_if_absent(&key, manifest("second"), "rule").await.unwrap();
    assert_eq!(again, Outcome::Raced(state));
    let status = store.status();
    assert_eq!((status.pins, status.conflicts, status.failure), (1, 0, None));
}

async fn the_first_of_many_first_sights_wins(store: Store) {
    let key = key("app", "race");
    let racers: Vec<_> = (0..64)
        .map(|n| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                store.pin_if_absent(&key, manifest(&n.to_string()), "rule").await.unwrap()
            })
        })
        .collect();
    let mut winners = 0;
    let mut digests = HashSet::new();
    for racer in racers {
        let outcome = racer.await.unwrap();
        winners += usize::from(matches!(outcome, Outcome::Written(_)));
        let (Outcome::Raced(state) | Outcome::Written(state)) = outcome;
        digests.insert(state.pin.as_ref().unwrap().content.digest);
    }
    assert_eq!((winners, digests.len()), (1, 1));
    assert_eq!(store.history(&key).await.unwrap().len(), 1);
}

async fn a_write_that_is_out_of_date_changes_nothing(store: Store) {
    let (key, other) = (key("app", "cas"), manifest("other"));
    let state = written(store.pin_if_absent(&key, manifest("one"), "rule").await.unwrap());
    let conflict = draft(EventKind::Conflict, &key, &other);
    for expected in [0, state.sequence - 1, state.sequence + 1] {
        let outcome = store.append(conflict.clone(), expected, None).await.unwrap();
        assert_eq!(outcome, Outcome::Raced(state.clone()));
    }
    let state = written(store.append(conflict, state.sequence, None).await.unwrap());
    assert_eq!(state.conflict.as_ref().unwrap().observed, other.content.digest);
    assert_eq!(store.status().conflicts, 1);
    let healed = draft(EventKind::Healed, &key, &manifest("one"));
    let mut state = written(store.append(healed, state.sequence, None).await.unwrap());
    assert_eq!(store.status().conflicts, 0);
    let third = manifest("third");
    for (kind, about, open) in [
        (EventKind::Conflict, &other, 1),
        (EventKind::Rejected, &third, 1),
        (EventKind::Repeated, &other, 1),
        (EventKind::Rejected, &other, 0),
        (EventKind::Conflict, &other, 1),
        (EventKind::Flapped, &third, 1),
        (EventKind::Approved, &other, 1),
        (EventKind::Approved, &third, 0),
    ] {
        let draft = draft(kind, &key, about);
        state = written(store.append(draft, state.sequence, None).await.unwrap());
        assert_eq!((store.status().conflicts, store.status().pins), (open, 1), "{kind}");
    }
}

async fn increments_are_never_lost(store: Store) {
    let key = key("app", "counter");
    let state = written(store.pin_if_absent(&key, manifest("a"), "rule").await.unwrap());
    let open = draft(EventKind::Conflict, &key, &manifest("b"));
    written(store.append(open, state.sequence, None).await.unwrap());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let mut state = store.state(&key).await.unwrap().unwrap();
                    loop {
                        let again = Draft::new(EventKind::Repeated, Some(key.clone()));
                        let again = Draft { count: 1, ..again };
                        match store.append(again, state.sequence, None).await.unwrap() {
                            Outcome::Written(_) => break,
                            Outcome::Raced(now) => state = now,
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let state = store.state(&key).await.unwrap().unwrap();
    assert_eq!(state.conflict.as_ref().unwrap().repeats, 80);
    assert_eq!(store.history(&key).await.unwrap().len(), 82);
}

async fn states_are_the_fold_of_the_history(store: Store) {
    let (key, first, second) = (key("app", "fold"), manifest("1"), manifest("2"));
    let mut sequence = 0;
    for (kind, observed) in [
        (EventKind::Pinned, &first),
        (EventKind::Conflict, &second),
        (EventKind::Approved, &second),
        (EventKind::Forgotten, &second),
        (EventKind::Observed, &first),
    ] {
        let draft = draft(kind, &key, observed);
        let state = written(store.append(draft, sequence, Some(observed.clone())).await.unwrap());
        assert!(state.sequence > sequence);
        sequence = state.sequence;
        let events = store.history(&key).await.unwrap();
        let mut folded = TagState::default();
        for event in &events {
            folded.apply(event);
        }
        assert_eq!(folded, *state);
        assert_eq!(store.state(&key).await.unwrap(), Some(state));
        assert!(events.is_sorted_by_key(|event| event.sequence));
        assert_eq!(events.last().map(|event| event.kind), Some(kind));
    }
    assert_eq!(store.status().pins, 0);
    assert_eq!(store.history(&super::contract::key("app", "none")).await.unwrap(), []);
}

async fn tags_are_listed_in_the_order_of_their_bytes(store: Store) {
    let mut keys = Vec::new();
    for (repository, tag) in [
        ("b", "1"),
        ("a", "1"),
        ("a", "1.0"),
        ("a", "10"),
        ("a", "1-x"),
        ("a/b", "1"),
        ("a-b", "z"),
    ] {
        let key = key(repository, tag);
        let pinned = store.pin_if_absent(&key, manifest("same"), "rule").await.unwrap();
        let conflict = draft(EventKind::Conflict, &key, &manifest(tag));
        let sequence = written(pinned).sequence;
        written(store.append(conflict, sequence, None).await.unwrap());
        keys.push(key);
    }
    keys.sort_by_key(PinKey::to_bytes);
    let all = store.list(None, 100).await.unwrap();
    assert_eq!(all.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|(key, _): &(PinKey, Arc<TagState>)| key.clone());
        let page = store.list(after.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    for (key, state) in all {
        assert_eq!(store.state(&key).await.unwrap(), Some(state));
    }
}

async fn revocations_hold_at_once_and_can_be_taken_back(store: Store) {
    let digests = [manifest("bad").content.digest, Digest::sha512([7; 64])];
    for digest in digests {
        assert!(!store.is_revoked(&digest));
        for (kind, revoked) in [(EventKind::Revoked, true), (EventKind::Unrevoked, false)] {
            let draft = Draft {
                pinned: Some(digest),
                who: "root".into(),
                why: "malware".into(),
                ..Draft::new(kind, None)
            };
            let event = store.append_global(draft).await.unwrap();
            assert_eq!((event.kind, event.pinned, &*event.who), (kind, Some(digest), "root"));
            assert_eq!((store.is_revoked(&digest), store.has_revoked()), (revoked, revoked));
        }
    }
}

async fn a_version_does_not_outlive_what_it_was_read_before(store: Store) {
    let Some(mut version) = store.version() else { return };
    let mut is_another = |what: &str| {
        let before = std::mem::replace(&mut version, store.version().unwrap());
        assert_ne!(version, before, "{what}");
        assert_eq!(store.version(), Some(version));
    };
    let key = key("app", "1.0");
    let state = written(store.pin_if_absent(&key, manifest("first"), "rule").await.unwrap());
    is_another("a pin");
    let conflict = draft(EventKind::Conflict, &key, &manifest("second"));
    written(store.append(conflict, state.sequence, None).await.unwrap());
    is_another("a conflict");
    let revoked = Draft {
        pinned: Some(manifest("first").content.digest),
        ..Draft::new(EventKind::Revoked, None)
    };
    store.append_global(revoked).await.unwrap();
    is_another("a revocation");
}

async fn seen_digests_are_bounded(store: Store) {
    let key = key("app", "noisy");
    let pinned = store.pin_if_absent(&key, manifest("pin"), "rule").await.unwrap();
    let mut state = written(pinned);
    for n in 0..SEEN_LIMIT + 3 {
        let conflict = draft(EventKind::Conflict, &key, &manifest(&n.to_string()));
        state = written(store.append(conflict, state.sequence, None).await.unwrap());
    }
    assert_eq!(state.seen.len(), SEEN_LIMIT);
}

async fn manifests_are_kept_as_they_were(store: Store) {
    let (small, large) = (manifest("{}"), manifest(&"x".repeat(3 << 20)));
    assert_eq!(store.manifest(&small.content.digest).await.unwrap(), None);
    for (tag, manifest) in [("s", &small), ("l", &large), ("again", &small)] {
        written(store.pin_if_absent(&key("app", tag), manifest.clone(), "rule").await.unwrap());
        let kept = store.manifest(&manifest.content.digest).await.unwrap();
        assert_eq!(kept.as_ref(), Some(manifest));
    }
    let unknown = Digest::sha256([1; 32]);
    assert_eq!(store.manifest(&unknown).await.unwrap(), None);
    assert_eq!(store.manifest(&Digest::sha512([1; 64])).await.unwrap(), None);
}

async fn events_are_numbered_without_gaps(store: Store) {
    for n in 0..20 {
        let key = key("app", &format!("t{n}"));
        written(store.pin_if_absent(&key, manifest("same"), "rule").await.unwrap());
    }
    let all = store.events(0, 100).await.unwrap();
    assert_eq!(all[0].kind, EventKind::Created);
    assert!(all.iter().map(|event| event.sequence).eq(1..=21));
    assert_eq!(store.events(5, 3).await.unwrap(), all[4..7]);
    assert_eq!(store.events(22, 3).await.unwrap(), []);
    assert_eq!(store.status().sequence, 21);
    assert_eq!(store.status().id, all[0].why);
}

async fn senseless_events_are_refused(store: Store) {
    assert!(store.append(Draft::new(EventKind::Invalid, None), 0, None).await.is_err());
    let keyed = Draft::new(EventKind::Revoked, Some(key("app", "x")));
    assert!(store.append_global(keyed).await.is_err());
    assert_eq!(store.status().sequence, 1);
}

mod tests {
    use super::super::{FileLedger, MemoryLedger, OpenOptions};
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_ledger_in_memory_keeps_the_contract() {
        run(async || {
            let store: Store = Arc::new(MemoryLedger::new(SystemClock::shared()));
            store
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_ledger_on_disk_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let next = std::sync::atomic::AtomicU32::new(0);
        run(async || {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let options = OpenOptions::new(&dir.path().join(n.to_string()));
            let ledger = FileLedger::open(&options, SystemClock::shared()).unwrap();
            let store: Store = Arc::new(ledger);
            store
        })
        .await;
    }
}

async fn many_events_are_written_together_or_not_at_all(store: Store) {
    let draft = |number: usize| {
        let pinned = Some(manifest(&number.to_string()).content.digest);
        let key = Some(key("bulk", &number.to_string()));
        (Draft { pinned, ..Draft::new(EventKind::Imported, key) }, 0)
    };
    let all = || (0..BULK_LIMIT).map(draft).collect::<Vec<_>>();
    let before = store.status().sequence;
    store.pin_if_absent(&key("bulk", "7"), manifest("a pin"), "rule").await.unwrap();
    assert_eq!(store.append_all(all()).await.unwrap(), None, "somebody was first at one of them");
    for senseless in [
        (0..=BULK_LIMIT).map(draft).collect(),
        vec![draft(1), draft(1)],
        vec![draft(1), (Draft::new(EventKind::Created, None), 0)],
    ] {
        assert!(matches!(store.append_all(senseless).await, Err(LedgerError::Refused(_))));
    }
    assert_eq!(store.status().sequence, before + 1, "nothing of them was written");
    let seven = key("bulk", "7");
    let mut rest = all();
    rest.retain(|(draft, _)| draft.key.as_ref() != Some(&seven));
    let last = before + rest.len() as u64 + 1;
    assert_eq!(store.append_all(rest).await.unwrap(), Some(last));
    assert_eq!(store.status().sequence, last);
    let state = store.state(&key("bulk", "8")).await.unwrap().unwrap();
    assert_eq!(state.claim.as_ref().unwrap().digest, manifest("8").content.digest);
    assert!(store.state(&key("bulk", "7")).await.unwrap().unwrap().claim.is_none());
    assert_eq!(store.history(&key("bulk", "9")).await.unwrap().len(), 1);
}
