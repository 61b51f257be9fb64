//! The ledger as a durable outbox: what one webhook was told, and what it is to be told.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::place::{Place, PlaceFile};
use super::queue::{Next, Queue, Waiting};
use crate::event::{Event, EventKind};
use crate::ledger::{LedgerError, LedgerStore};

/// How many events are read at once.
const PAGE: usize = 512;

/// After so many events that nobody wants to know the place is written all the same, so that a
/// start need not read them again.
const STRIDE: u64 = 1000;

/// How far back it is looked for where a ledger was rolled back, in events.
const LOOK_BACK: u64 = 10_000;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// So many events; the oldest of more are told by one message that counts them.
    pub(super) most: usize,
    /// So long; what is older is counted, too, …
    pub(super) oldest: Duration,
    /// … but for so many, the newest.
    pub(super) always: usize,
}

/// What one webhook was told, and is to be told.
pub(super) struct Outbox {
    ledger: Arc<dyn LedgerStore>,
    file: PlaceFile,
    events: Vec<EventKind>,
    place: Place,
    /// The last event that was looked at.
    scanned: Waiting,
    queue: Queue,
    is_unwritten: bool,
}

impl Outbox {
    /// Goes on where `path` says, in this ledger; else from behind the event `head`.
    pub(super) async fn open(
        ledger: Arc<dyn LedgerStore>,
        path: PathBuf,
        events: Vec<EventKind>,
        limits: Limits,
        head: u64,
    ) -> Result<Self, LedgerError> {
        let file = PlaceFile(path);
        let place = first_place(&ledger, &file, head).await?;
        let mut queue = Queue::new(limits);
        for sequence in &place.passed {
            if let Some(event) = event_at(&ledger, *sequence).await? {
                queue.push_passed(queue.waiting(&event));
            }
        }
        let scanned = Waiting::at(place.sequence, place.time_ms);
        let mut outbox = Self { ledger, file, events, place, scanned, queue, is_unwritten: false };
        // Else a crash before the first message would begin at a later head.
        outbox.save().await;
        Ok(outbox)
    }

    /// How many events wait.
    pub(super) fn len(&self) -> u64 {
        self.queue.len()
    }

    /// Whether the ledger has events that were not looked at.
    pub(super) fn is_behind(&self) -> bool {
        self.ledger.status().sequence > self.scanned.sequence
    }

    /// Takes what is to be told next; whoever takes it tells it, and then calls [`Self::told`].
    pub(super) async fn take(&mut self, now_ms: u64) -> Result<Option<Next>, LedgerError> {
        self.scan().await?;
        self.queue.expire(now_ms);
        Ok(self.queue.take())
    }

    /// The event itself.
    pub(super) async fn event(&self, waiting: Waiting) -> Result<Option<Event>, LedgerError> {
        event_at(&self.ledger, waiting.sequence).await
    }

    /// Looks at what the ledger has new.
    pub(super) async fn scan(&mut self) -> Result<(), LedgerError> {
        while self.is_behind() {
            let page = self.ledger.events(self.scanned.sequence + 1, PAGE).await?;
            let Some(last) = page.last() else { break };
            self.scanned = Waiting::at(last.sequence, last.time_ms);
            for event in page.iter().filter(|event| self.events.contains(&event.kind)) {
                self.queue.push(self.queue.waiting(event));
            }
        }
        Ok(())
    }

    /// Writes down that this was told. A crash before it is the one case in which it is told
    /// twice, under the same id.
    pub(super) async fn told(&mut self, next: &Next) {
        let last = next.last();
        if last.sequence > self.place.sequence {
            self.place.sequence = last.sequence;
            self.place.time_ms = last.time_ms;
        }
        self.place.passed = self.queue.passed();
        self.save().await;
    }

    /// Nothing is under way: writes down how far it was looked, if nothing waits either and it is
    /// `now` or worth a write.
    pub(super) async fn rest(&mut self, now: bool) {
        let ahead = self.scanned.sequence.saturating_sub(self.place.sequence);
        if self.queue.len() == 0 && ahead >= if now { 1 } else { STRIDE } {
            self.place.sequence = self.scanned.sequence;
            self.place.time_ms = self.scanned.time_ms;
            self.save().await;
        }
    }

    async fn save(&mut self) {
        let (file, place) = (self.file.clone(), self.place.clone());
        let written = tokio::task::spawn_blocking(move || file.write(&place)).await;
        let error = written.map_err(io::Error::other).flatten().err();
        if let (Some(error), false) = (&error, self.is_unwritten) {
            let path = self.file.0.display();
            let words = "what a webhook was told cannot be written down: after a restart it is \
                         told again";
            tracing::error!(%path, %error, "{words}");
        }
        self.is_unwritten = error.is_some();
    }
}

async fn event_at(
    ledger: &Arc<dyn LedgerStore>,
    sequence: u64,
) -> Result<Option<Event>, LedgerError> {
    let event = ledger.events(sequence, 1).await?.pop();
    Ok(event.filter(|event| event.sequence == sequence))
}

/// Where a webhook's file says, if that is a place in this ledger's history.
async fn first_place(
    ledger: &Arc<dyn LedgerStore>,
    file: &PlaceFile,
    head: u64,
) -> Result<Place, LedgerError> {
    let status = ledger.status();
    let path = file.0.display();
    let at = match file.read() {
        Ok(Some(place)) if place.ledger == status.id => {
            let event = event_at(ledger, place.sequence).await?;
            if event.is_some_and(|event| event.time_ms == place.time_ms) {
                return Ok(place);
            }
            tracing::warn!(%path, "the ledger has another history than a webhook was told");
            before_rollback(ledger, status.sequence).await?.unwrap_or(head)
        }
        Ok(Some(_)) => {
            tracing::warn!(%path, "a webhook was told of another ledger: it begins anew");
            head
        }
        Ok(None) => head,
        Err(error) => {
            let words = "what a webhook was told cannot be read: it is told of what happens from \
                         now on";
            tracing::error!(%path, %error, "{words}");
            head
        }
    };
    let time_ms = event_at(ledger, at).await?.map_or(0, |event| event.time_ms);
    Ok(Place { ledger: status.id, sequence: at, time_ms, passed: Vec::new() })
}

/// In front of the last event that says that the ledger was rolled back or restored.
async fn before_rollback(
    ledger: &Arc<dyn LedgerStore>,
    head: u64,
) -> Result<Option<u64>, LedgerError> {
    let mut from = head.saturating_sub(LOOK_BACK).max(1);
    let mut found = None;
    while from <= head {
        let page = ledger.events(from, PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.sequence + 1;
        let is_it = |event: &&Event| {
            matches!(event.kind, EventKind::RollbackAccepted | EventKind::Restored)
        };
        found = page.iter().rev().find(is_it).map(|event| event.sequence - 1).or(found);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
