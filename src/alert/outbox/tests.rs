//! Places across restarts, in a ledger in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::event::Draft;
use crate::ledger::MemoryLedger;
use crate::oci::Digest;

/// A ledger, and a folder for places.
struct Stage {
    folder: TempDir,
    clock: Arc<ManualClock>,
    ledger: Arc<MemoryLedger>,
    made: AtomicU64,
}

impl Stage {
    fn new() -> Self {
        let clock = ManualClock::at(1_800_000_000_000);
        let ledger = Arc::new(MemoryLedger::new(clock.clone()));
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock, ledger, made: AtomicU64::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify/chat")
    }

    /// An event that is told, about a digest of its own.
    async fn revoke(&self) -> u64 {
        let made = self.made.fetch_add(1, Ordering::SeqCst);
        self.revoke_digest(u8::try_from(made).unwrap()).await
    }

    async fn revoke_digest(&self, byte: u8) -> u64 {
        self.clock.advance(Duration::from_secs(1));
        let pinned = Some(Digest::sha256([byte; 32]));
        let draft = Draft { pinned, ..Draft::new(EventKind::Revoked, None) };
        self.ledger.append_global(draft).await.unwrap().sequence
    }

    /// An event that nobody wants to be told.
    async fn other(&self) -> u64 {
        let draft = Draft::new(EventKind::Unrevoked, None);
        self.ledger.append_global(draft).await.unwrap().sequence
    }

    async fn open(&self) -> Outbox {
        let head = self.ledger.status().sequence;
        let ledger = Arc::clone(&self.ledger) as Arc<dyn LedgerStore>;
        let kinds = vec![EventKind::Revoked, EventKind::RollbackAccepted];
        Outbox::open(ledger, self.path(), kinds, Limits::default(), head).await.unwrap()
    }

    async fn take(&self, outbox: &mut Outbox) -> Option<Next> {
        outbox.take(self.clock.wall_ms()).await.unwrap()
    }

    /// Takes and tells all that waits: the last event of each.
    async fn tell_all(&self, outbox: &mut Outbox) -> Vec<u64> {
        let mut told = Vec::new();
        while let Some(next) = self.take(outbox).await {
            told.push(next.last().sequence);
            outbox.told(&next).await;
        }
        told
    }
}

#[tokio::test]
async fn a_new_webhook_is_told_of_what_happens_from_then_on_also_after_a_crash() {
    let stage = Stage::new();
    stage.revoke().await;
    drop(stage.open().await);
    let second = stage.revoke().await;
    stage.other().await;
    let third = stage.revoke().await;
    let mut outbox = stage.open().await;
    assert_eq!(stage.tell_all(&mut outbox).await, [second, third]);
    assert!(stage.tell_all(&mut stage.open().await).await.is_empty());
}

#[tokio::test]
async fn what_was_taken_and_not_told_is_taken_again_by_the_next_start() {
    let stage = Stage::new();
    let mut outbox = stage.open().await;
    let (first, second) = (stage.revoke().await, stage.revoke().await);
    let next = stage.take(&mut outbox).await.unwrap();
    outbox.told(&next).await;
    let lost = stage.take(&mut outbox).await.unwrap();
    assert_eq!((next.last().sequence, lost.last().sequence), (first, second));
    drop(outbox);
    assert_eq!(stage.tell_all(&mut stage.open().await).await, [second]);
}

#[tokio::test]
async fn an_event_that_waits_for_a_later_one_is_counted_across_restarts() {
    let stage = Stage::new();
    let mut outbox = stage.open().await;
    let first = stage.revoke_digest(1).await;
    let second = stage.revoke_digest(2).await;
    stage.revoke_digest(1).await;
    let next = stage.take(&mut outbox).await.unwrap();
    assert_eq!(next.last().sequence, second);
    outbox.told(&next).await;
    drop(outbox);
    let mut outbox = stage.open().await;
    let Some(Next::Event(_, before)) = stage.take(&mut outbox).await else { panic!("an event") };
    assert_eq!(before.iter().map(|event| event.sequence).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn another_ledger_begins_at_its_head() {
    let other = Stage::new();
    let time_ms = 1_800_000_000_000;
    let place = Place { ledger: "ab".repeat(16), sequence: 1, time_ms, passed: Vec::new() };
    PlaceFile(other.path()).write(&place).unwrap();
    other.revoke().await;
    let mut outbox = other.open().await;
    assert!(other.tell_all(&mut outbox).await.is_empty());
    let next = other.revoke().await;
    assert_eq!(other.tell_all(&mut outbox).await, [next]);
}

#[tokio::test]
async fn after_a_roll_back_all_is_told_from_the_event_that_says_so() {
    let stage = Stage::new();
    stage.revoke().await;
    let draft = Draft::new(EventKind::RollbackAccepted, None);
    let rolled_back = stage.ledger.append_global(draft).await.unwrap().sequence;
    let after = stage.revoke().await;
    let ledger = stage.ledger.status().id;
    // Told of an event at this place, but at another time: that history is gone.
    let place = Place { ledger, sequence: after, time_ms: 1, passed: Vec::new() };
    PlaceFile(stage.path()).write(&place).unwrap();
    assert_eq!(stage.tell_all(&mut stage.open().await).await, [rolled_back, after]);
}

#[tokio::test]
async fn a_place_that_cannot_be_read_begins_at_the_head() {
    let stage = Stage::new();
    drop(stage.open().await);
    stage.revoke().await;
    std::fs::write(stage.path(), "nonsense").unwrap();
    let mut outbox = stage.open().await;
    assert!(stage.tell_all(&mut outbox).await.is_empty());
}

#[tokio::test]
async fn events_that_nobody_wants_are_not_read_again_after_an_orderly_end() {
    let stage = Stage::new();
    let mut outbox = stage.open().await;
    let last = stage.other().await;
    assert!(stage.take(&mut outbox).await.is_none());
    outbox.rest(true).await;
    let place = PlaceFile(stage.path()).read().unwrap().unwrap();
    assert_eq!(place.sequence, last);
}
