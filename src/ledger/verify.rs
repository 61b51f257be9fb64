//! Reads the log back: events, a full verification, and the one that runs behind every start.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};

use super::LedgerError;
use super::cursor::{self, Attached, Cursor, ReadError};
use super::files;
use super::open::OpenError;
use super::segment::{self, Position};
use super::shared::{Head, Shared};
use crate::event::Event;

/// What a full verification read, and found sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    /// The ledger's id, 32 hex digits.
    pub id: String,
    /// The sequence number of the last event.
    pub sequence: u64,
    /// The hash of the last batch, hex.
    pub head: String,
    /// How many tags have a pin.
    pub pins: u64,
    /// How many different tags have events.
    pub tags: usize,
    /// How many manifests were read and hashed.
    pub manifests: u64,
    /// How many batches there are.
    pub batches: u64,
}

/// Reads everything up to the head.
pub(crate) fn verify(shared: &Shared) -> Result<Verified, OpenError> {
    let head = shared.head();
    let mut cursor = Cursor::start(&shared.log, shared.id);
    let (mut manifests, mut batches) = (0, 0);
    // By fingerprint: the names of a million tags would take a great deal of memory.
    let mut tags = HashSet::new();
    while let Some((at, batch)) = cursor.read(&head).map_err(|error| fault(shared, error))? {
        batches += 1;
        let keys = batch.events.iter().filter_map(|event| event.key.as_ref());
        tags.extend(keys.map(|key| shared.memory().facts.fingerprint(key)));
        for attachment in &batch.attachments {
            manifests += 1;
            let at = Position { offset: at.offset + attachment.at as u64, ..at };
            let path = segment::path(&shared.log, at.segment);
            match cursor::manifest(&shared.log, &attachment.sha256, at) {
                Ok(Attached::Manifest(_)) => {}
                Ok(_) => {
                    let what = "a manifest does not hash to its digest".into();
                    return Err(OpenError::damaged(&path, at.offset, what));
                }
                Err(error) => return Err(OpenError::io(&path, error)),
            }
        }
    }
    Ok(Verified {
        id: shared.id_text(),
        sequence: head.last.sequence,
        head: files::hex(&head.last.hash),
        pins: shared.memory().facts.pins,
        tags: tags.len(),
        manifests,
        batches,
    })
}

/// Up to `limit` events from sequence `from` on.
pub(crate) fn events(shared: &Shared, from: u64, limit: usize) -> Result<Vec<Event>, LedgerError> {
    let (head, from) = (shared.head(), from.max(1));
    let mut found = Vec::new();
    if from > head.last.sequence {
        return Ok(found);
    }
    let failed = |error: ReadError| {
        let failure = LedgerError::Failed(format!("its log cannot be read back: {error}"));
        shared.fail(failure.clone());
        failure
    };
    let mut cursor = cursor::seek(&shared.log, shared.id, from, &head).map_err(failed)?;
    while found.len() < limit {
        let Some((_, batch)) = cursor.read(&head).map_err(failed)? else { break };
        found.extend(batch.events.into_iter().filter(|event| event.sequence >= from));
    }
    found.truncate(limit);
    Ok(found)
}

/// Reads what the start did not, since the snapshot covers it. Damage there fails the ledger.
pub(crate) fn in_background(
    shared: Arc<Shared>,
    unread: Option<Head>,
    stopping: Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    let named = thread::Builder::new().name("ledger-verify".into());
    named.spawn(move || {
        let Some(head) = unread else { return };
        let mut cursor = Cursor::start(&shared.log, shared.id);
        while !stopping.load(Ordering::Relaxed) {
            match cursor.read(&head) {
                Ok(Some(_)) => {}
                Ok(None) if cursor.last() == head.last => return,
                Ok(None) => {
                    let what = "its log has another hash where the snapshot ends";
                    return shared.fail(LedgerError::Failed(what.into()));
                }
                Err(error) => {
                    let what = format!("its log is damaged: {error}");
                    return shared.fail(LedgerError::Failed(what));
                }
            }
        }
    })
}

pub(crate) fn fault(shared: &Shared, error: ReadError) -> OpenError {
    match error {
        ReadError::Damaged { at, what } => {
            OpenError::damaged(&segment::path(&shared.log, at.segment), at.offset, what)
        }
        ReadError::Io(error) => OpenError::io(&shared.log, error),
    }
}
