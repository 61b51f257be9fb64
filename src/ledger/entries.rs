//! The log as it is exported: each event, with the manifests that became durable with it.

use super::batch::Batch;
use super::cursor::{self, Attached, ReadError};
use super::segment::Position;
use super::shared::Shared;
use super::{LedgerError, StoredManifest};
use crate::event::Event;
use crate::oci::Digest;

/// An event, and the manifests that the log has because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// Mostly none, or the one that the event observed.
    pub manifests: Vec<StoredManifest>,
}

/// A page is full when its manifests have so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// The entries from sequence `from` on: whole batches, until there are `limit` entries or 1 MiB of
/// manifests. Nothing is left out, so a page may be longer by what one batch holds.
pub(crate) fn entries(shared: &Shared, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerError> {
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
    let mut bytes = 0;
    while found.len() < limit && bytes < PAGE_BYTES {
        let Some((at, batch)) = cursor.read(&head).map_err(failed)? else { break };
        let entries = with_manifests(shared, at, batch)?;
        let entries = entries.into_iter().filter(|entry| entry.event.sequence >= from);
        for entry in entries {
            bytes += entry.manifests.iter().map(|manifest| manifest.bytes.len()).sum::<usize>();
            found.push(entry);
        }
    }
    Ok(found)
}

/// A manifest belongs to the first event of its batch that observed it, else to the last one.
fn with_manifests(shared: &Shared, at: Position, batch: Batch) -> Result<Vec<Entry>, LedgerError> {
    let with_none = |event| Entry { event, manifests: Vec::new() };
    let mut entries: Vec<_> = batch.events.into_iter().map(with_none).collect();
    for attachment in &batch.attachments {
        let at = Position { offset: at.offset + attachment.at as u64, ..at };
        let manifest = match cursor::manifest(&shared.log, &attachment.sha256, at) {
            Ok(Attached::Manifest(manifest)) => manifest,
            Ok(Attached::Damaged | Attached::Other) => {
                let what = "a manifest in its log does not hash to its digest";
                let failure = LedgerError::Failed(what.into());
                shared.fail(failure.clone());
                return Err(failure);
            }
            Err(error) => {
                return Err(LedgerError::Failed(format!("the log cannot be read: {error}")));
            }
        };
        let digest = Some(Digest::sha256(attachment.sha256));
        let first = entries.iter().position(|entry| entry.event.observed_digest() == digest);
        let owner = first.unwrap_or(entries.len().saturating_sub(1));
        if let Some(entry) = entries.get_mut(owner) {
            entry.manifests.push(manifest);
        }
    }
    Ok(entries)
}
