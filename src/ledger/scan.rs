//! Reads the log at start: what is there, and whether it may be trusted.
//!
//! A batch begins only after the last is synced. So an invalid batch with no valid one after it
//! was never acknowledged: a torn tail, which may be cut off. Everything else that does not fit
//! is damage, and nothing is changed on disk before all of it was seen.

use std::path::Path;

use super::batch::{self, Batch, BatchError, Hash, LedgerId, MAGIC};
use super::open::OpenError;
use super::segment::{self, Found, Position, SegmentReader};
use super::shared::Head;

/// The end of a chain of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The sequence number of the last record.
    pub(crate) sequence: u64,
    /// The hash of the last batch.
    pub(crate) hash: Hash,
}

/// A segment that is not written to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The sequence number of its first record.
    pub(crate) first: u64,
    /// How many bytes its batches take.
    pub(crate) size: u64,
    /// Its end.
    pub(crate) last: Link,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The ledger's id; `None` without a single batch.
    pub(crate) id: Option<LedgerId>,
    /// The end of the chain.
    pub(crate) last: Link,
    /// Where the next batch goes; `None` if there is no segment.
    pub(crate) end: Option<Position>,
    /// Whether something that was never acknowledged lies behind `end`.
    pub(crate) torn: bool,
    /// The segments before the last.
    pub(crate) sealed: Vec<Sealed>,
    /// Segments without a single byte that is not zero: made, and never written to.
    pub(crate) blank: Vec<u64>,
}

/// What a scan may take for granted.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) id: Option<LedgerId>,
    pub(crate) sealed: Vec<Sealed>,
    /// The end of what is known, in the segment behind those.
    pub(crate) head: Option<Head>,
}

/// Reads all segments behind `known`, and gives every batch to `each`.
///
/// # Errors
/// Damage, a later version, and what the file system says. Nothing was changed.
pub(crate) fn scan(
    log: &Path,
    known: Known,
    each: &mut dyn FnMut(&Batch, Position),
) -> Result<Scanned, OpenError> {
    let genesis = known.id.map(|id| batch::genesis(&id));
    let start = Link { sequence: 0, hash: genesis.unwrap_or_default() };
    let last = known.head.map_or(start, |head| head.last);
    let mut from = known.head.map(|head| head.end);
    let (id, sealed) = (known.id, known.sealed);
    let mut scanned = Scanned { id, last, end: None, torn: false, sealed, blank: Vec::new() };
    let firsts = segment::list(log).map_err(|error| OpenError::io(log, error))?;
    let mut behind = Vec::new();
    for first in firsts.into_iter().skip(scanned.sealed.len()) {
        let path = segment::path(log, first);
        let blank = SegmentReader::open(&path).and_then(|mut reader| reader.is_blank_from(0));
        let blank = blank.map_err(|error| OpenError::io(&path, error))?;
        if blank { &mut scanned.blank } else { &mut behind }.push(first);
    }
    for (at, &first) in behind.iter().enumerate() {
        let from = from.take_if(|from| from.segment == first);
        if from.is_none() && first != scanned.last.sequence + 1 {
            let missing = scanned.last.sequence + 1;
            return Err(OpenError::damaged(
                &segment::path(log, missing),
                0,
                format!("records {missing} to {} are missing", first.saturating_sub(1)),
            ));
        }
        let is_last = at + 1 == behind.len();
        let at = from.unwrap_or(Position { segment: first, offset: 0 });
        let size = scan_segment(log, at, &mut scanned, (is_last, each))?;
        if is_last {
            scanned.end = Some(Position { segment: first, offset: size });
        } else {
            scanned.sealed.push(Sealed { first, size, last: scanned.last });
        }
    }
    Ok(scanned)
}

type Visit<'a> = (bool, &'a mut dyn FnMut(&Batch, Position));

/// Reads one segment from some batch on; returns where its batches end.
fn scan_segment(
    log: &Path,
    Position { segment: first, mut offset }: Position,
    scanned: &mut Scanned,
    (is_last, each): Visit<'_>,
) -> Result<u64, OpenError> {
    let path = segment::path(log, first);
    let io = |error| OpenError::io(&path, error);
    let mut reader = SegmentReader::open(&path).map_err(io)?;
    loop {
        let damaged = |what: String| OpenError::damaged(&path, offset, what);
        match reader.batch(offset).map_err(io)? {
            Found::Batch(batch) => {
                let id = *scanned.id.get_or_insert(batch.header.id);
                if scanned.last.sequence == 0 {
                    scanned.last.hash = batch::genesis(&id);
                }
                follows(&batch, &id, &scanned.last).map_err(damaged)?;
                each(&batch, Position { segment: first, offset });
                scanned.last = Link { sequence: batch.last(), hash: batch.hash };
                offset += batch.header.size as u64;
            }
            Found::Invalid(BatchError::Invalid) if reader.is_blank_from(offset).map_err(io)? => {
                return Ok(offset);
            }
            Found::Invalid(BatchError::Invalid) if is_last => {
                let rest = reader.rest(offset).map_err(io)?;
                if holds_a_batch(&rest, scanned.id) {
                    return Err(damaged("an invalid batch with a valid one behind it".into()));
                }
                scanned.torn = true;
                return Ok(offset);
            }
            Found::Invalid(BatchError::Invalid) => {
                return Err(damaged("an invalid batch in a segment that was closed".into()));
            }
            Found::Invalid(error) => {
                return Err(OpenError::UnknownVersion { path, offset, what: error.to_string() });
            }
        }
    }
}

/// Whether a valid batch is the one that must come after `last`.
pub(crate) fn follows(batch: &Batch, id: &LedgerId, last: &Link) -> Result<(), String> {
    if batch.header.id != *id {
        return Err("the batch belongs to another ledger".into());
    }
    if batch.header.first != last.sequence + 1 {
        let expected = last.sequence + 1;
        return Err(format!("record {} stands where {expected} must", batch.header.first));
    }
    if batch.header.previous != last.hash {
        return Err("the batch does not follow from the one before it".into());
    }
    Ok(())
}

/// Whether a valid batch lies anywhere in `bytes`.
fn holds_a_batch(bytes: &[u8], id: Option<LedgerId>) -> bool {
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], MAGIC) {
        at += found;
        let candidate = &bytes[at..];
        let sealed = batch::header(candidate).is_ok_and(|header| {
            id.is_none_or(|id| id == header.id)
                && candidate.get(..header.size).is_some_and(batch::is_sealed)
        });
        if sealed {
            return true;
        }
        at += 1;
    }
    false
}

fn find(bytes: &[u8], magic: [u8; 4]) -> Option<usize> {
    bytes.windows(magic.len()).position(|window| window == magic)
}
