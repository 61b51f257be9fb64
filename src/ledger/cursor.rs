//! Follows the log from batch to batch, up to where it is durable; and single manifests in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use super::StoredManifest;
use super::batch::{self, Batch, BatchError, Hash, LedgerId};
use super::scan::{Link, follows};
use super::segment::{self, Found, Position, SegmentReader};
use super::shared::Head;
use crate::oci::{ComputedDigest, Digest, MediaType};

/// Why the log could not be read where it had been written.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// What is there is not what was written.
    #[error("segment {segment}, byte {offset}: {what}", segment = .at.segment, offset = .at.offset)]
    Damaged {
        /// Where.
        at: Position,
        /// What does not fit.
        what: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A place between two batches.
pub(crate) struct Cursor {
    log: PathBuf,
    id: LedgerId,
    last: Link,
    next: Position,
    reader: Option<(u64, SegmentReader)>,
}

impl Cursor {
    /// In front of the ledger's first batch.
    pub(crate) fn start(log: &Path, id: LedgerId) -> Self {
        let last = Link { sequence: 0, hash: batch::genesis(&id) };
        Self::behind(log, id, last, Position { segment: 1, offset: 0 })
    }

    /// Behind the batch that ends with `last`, where `next` begins.
    pub(crate) fn behind(log: &Path, id: LedgerId, last: Link, next: Position) -> Self {
        Self { log: log.to_owned(), id, last, next, reader: None }
    }

    /// The end of what was read.
    pub(crate) const fn last(&self) -> Link {
        self.last
    }

    /// Where the next batch begins, or the segment ends.
    pub(crate) const fn next_position(&self) -> Position {
        self.next
    }

    /// Reads the next batch, with its place; `None` at the head.
    pub(crate) fn read(&mut self, head: &Head) -> Result<Option<(Position, Batch)>, ReadError> {
        if self.last.sequence >= head.last.sequence {
            return Ok(None);
        }
        let (at, found) = self.find(head)?;
        let damaged = |what: String| ReadError::Damaged { at, what };
        match found {
            Found::Batch(batch) => {
                follows(&batch, &self.id, &self.last).map_err(damaged)?;
                self.last = Link { sequence: batch.last(), hash: batch.hash };
                self.next = at;
                self.next.offset += batch.header.size as u64;
                Ok(Some((at, *batch)))
            }
            Found::Invalid(error) => Err(damaged(error.to_string())),
        }
    }

    /// What is at the next place, which may be the beginning of the next segment.
    fn find(&mut self, head: &Head) -> Result<(Position, Found), ReadError> {
        let mut reader = self.reader(self.next.segment, head)?;
        let mut found = reader.batch(self.next.offset)?;
        if matches!(found, Found::Invalid(BatchError::Invalid))
            && self.next.segment != head.end.segment
            && reader.is_blank_from(self.next.offset)?
        {
            self.next = Position { segment: self.last.sequence + 1, offset: 0 };
            reader = self.reader(self.next.segment, head)?;
            found = reader.batch(0)?;
        }
        self.reader = Some((self.next.segment, reader));
        Ok((self.next, found))
    }

    fn reader(&mut self, segment: u64, head: &Head) -> io::Result<SegmentReader> {
        let mut reader = match self.reader.take() {
            Some((open, reader)) if open == segment => reader,
            _ => SegmentReader::open(&segment::path(&self.log, segment))?,
        };
        // Behind the head a batch may be half written; a closed segment is read to its end.
        if segment == head.end.segment {
            reader.limit(head.end.offset);
        } else {
            reader.limit(reader.length()?);
        }
        Ok(reader)
    }
}

/// Goes to the batch that holds the record `sequence`, over headers alone.
pub(crate) fn seek(
    log: &Path,
    id: LedgerId,
    sequence: u64,
    head: &Head,
) -> Result<Cursor, ReadError> {
    let segments = segment::list(log)?;
    let first = segments.into_iter().rev().find(|first| *first <= sequence).unwrap_or(1);
    let mut reader = SegmentReader::open(&segment::path(log, first))?;
    if first == head.end.segment {
        reader.limit(head.end.offset);
    }
    let mut at = Position { segment: first, offset: 0 };
    loop {
        let damaged = |what: &str| ReadError::Damaged { at, what: what.into() };
        let bytes = reader.bytes(at.offset, batch::HEADER_SIZE)?;
        let bytes = bytes.ok_or_else(|| damaged("the segment ends too early"))?;
        let header = batch::header(bytes).map_err(|error| damaged(&error.to_string()))?;
        if header.first + u64::from(header.records) > sequence {
            let last = Link { sequence: header.first - 1, hash: header.previous };
            return Ok(Cursor::behind(log, id, last, at));
        }
        at.offset += header.size as u64;
    }
}

/// Whether a batch that ends with `last` lies in front of `next`.
pub(crate) fn is_on_chain(log: &Path, last: &Link, next: Position) -> bool {
    let Some(offset) = next.offset.checked_sub(32) else { return false };
    let mut hash = [0; 32];
    let read = File::open(segment::path(log, next.segment))
        .and_then(|file| file.read_exact_at(&mut hash, offset));
    read.is_ok() && hash == last.hash
}

/// What is at a place where a manifest should be.
pub(crate) enum Attached {
    /// The manifest; its bytes were hashed.
    Manifest(StoredManifest),
    /// This manifest, but its bytes are not what was written.
    Damaged,
    /// Something else: whoever named the place was wrong.
    Other,
}

/// Reads the manifest at a place, and hashes it.
pub(crate) fn manifest(log: &Path, sha256: &Hash, at: Position) -> io::Result<Attached> {
    let file = File::open(segment::path(log, at.segment))?;
    let mut head = vec![0; 8 << 10];
    let mut length = 0;
    while length < head.len() {
        match file.read_at(&mut head[length..], at.offset + length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    head.truncate(length);
    let Some((media_type, from, size)) = attachment_head(&head, sha256) else {
        return Ok(Attached::Other);
    };
    // No longer than the manifest: it may be kept for long, and is weighed by its length.
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(head.iter().skip(from).take(size));
    let have = bytes.len();
    bytes.resize(size, 0);
    file.read_exact_at(&mut bytes[have..], at.offset + (from + have) as u64)?;
    let computed = ComputedDigest::of(&bytes, None);
    if computed.digest() != Digest::sha256(*sha256) {
        return Ok(Attached::Damaged);
    }
    Ok(Attached::Manifest(StoredManifest::new(&computed, media_type, Bytes::from(bytes))))
}

/// Media type, offset and length of the manifest, if this is how its attachment begins.
fn attachment_head(head: &[u8], sha256: &Hash) -> Option<(MediaType, usize, usize)> {
    use super::take;
    let mut rest = head;
    if take::array::<32>(&mut rest)? != *sha256 {
        return None;
    }
    let length = usize::from(take::u16(&mut rest)?);
    let name = std::str::from_utf8(take::bytes(&mut rest, length)?).ok()?;
    let media_type = name.parse().ok()?;
    let size = usize::try_from(take::u32(&mut rest)?).ok().filter(|s| *s <= batch::MAX_SIZE)?;
    Some((media_type, head.len() - rest.len(), size))
}
