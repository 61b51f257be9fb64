//! Many events in one batch: all of them, or none.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Answer, Round, Writer};
use crate::event::Draft;
use crate::ledger::{LedgerError, batch, record};
use crate::pin::{PinKey, TagState};

/// Compare-and-set writes about different tags, which become durable together.
pub(crate) struct Bulk {
    pub(crate) items: Vec<Item>,
    pub(crate) reply: oneshot::Sender<Result<BulkOutcome, LedgerError>>,
}

/// One of them.
pub(crate) struct Item {
    pub(crate) key: PinKey,
    pub(crate) draft: Draft,
    pub(crate) expected: u64,
    /// The tag's state as the caller found it.
    pub(crate) known: Option<Arc<TagState>>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BulkOutcome {
    /// A state is out of date and memory has no newer one: ask again. Nothing was written.
    Again,
    /// Somebody else wrote first. Nothing was written.
    Raced,
    /// All are durable; this is the sequence number of the last one.
    Written(u64),
}

impl Writer {
    /// Takes all of `bulk` into the round, or nothing of it: a round is one batch, and a crash
    /// leaves a batch whole or not at all.
    pub(super) fn take_bulk(&mut self, bulk: Bulk, round: &mut Round) {
        let Bulk { items, reply } = bulk;
        let mut states = Vec::with_capacity(items.len());
        for item in &items {
            let outcome = match self.current(&item.key, item.known.clone(), round) {
                None => BulkOutcome::Again,
                Some(state) if state.sequence != item.expected => BulkOutcome::Raced,
                Some(state) => {
                    states.push(state);
                    continue;
                }
            };
            round.answers.push(Answer::Bulk(reply, outcome));
            return;
        }
        let mut events = Vec::with_capacity(items.len());
        for (number, item) in (0..).zip(items) {
            let mut event = self.place(item.draft, round);
            event.sequence += number;
            events.push((item.key, event));
        }
        let records: Vec<_> = events.iter().map(|(_, event)| record::encode(event)).collect();
        if let Err(error) = self.fit_all(&records, round) {
            let _ = reply.send(Err(error));
            return;
        }
        let mut last = round.next;
        for (((key, event), bytes), mut state) in events.into_iter().zip(records).zip(states) {
            round.builder.record(&bytes);
            Arc::make_mut(&mut state).apply(&event);
            round.states.insert(key, state);
            last = event.sequence;
            round.put(event);
        }
        round.answers.push(Answer::Bulk(reply, BulkOutcome::Written(last)));
    }

    fn fit_all(&mut self, records: &[Vec<u8>], round: &Round) -> Result<(), LedgerError> {
        if let Some(failure @ LedgerError::Failed(_)) = self.shared.failure() {
            return Err(failure);
        }
        let length: usize = records.iter().map(|record| 4 + record.len()).sum();
        let size = round.builder.size() + length;
        if size > batch::MAX_SIZE {
            return Err(LedgerError::Refused("that is more than one batch can hold"));
        }
        self.reserve(size as u64)
    }
}
