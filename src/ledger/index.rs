//! The index: sled, and the only module that names it.
//!
//! It holds places, in an order that the log has not: where the events of a tag lie, and where
//! those few manifests do that memory takes for others. A tag's state is the fold of its events,
//! which are read from the log, so there is nothing here that could disagree.
//! Every call may hang or panic if the files are damaged: only `indexer` calls, on a thread of
//! its own.

use std::io;
use std::path::Path;

use thiserror::Error;

use super::batch::{Batch, Hash};
use super::place::Place;
use super::scan::Link;
use super::segment::Position;
use super::take;
use crate::pin::PinKey;

/// Why the index did not answer.
#[derive(Debug, Error)]
pub(crate) enum IndexError {
    /// The log cannot be read where the index says that something lies.
    #[error("the log cannot be read there: {0}")]
    Log(String),
    /// sled's lock is still held: by a process that was just killed, or a handle just dropped.
    #[error("the index is still locked")]
    Locked,
    /// What sled says.
    #[error("{0}")]
    Sled(String),
    /// What stands in it is not what this version writes.
    #[error("the index holds what was never written to it: {0}")]
    Spoilt(&'static str),
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error.to_string())
    }
}

/// How far the index has come: behind which batch, and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) last: Link,
    pub(crate) next: Position,
}

/// The sequence number of an event, and where its record lies in the segment that has it.
pub(crate) type Listed = (u64, Place);

/// An open index.
pub(crate) struct Index {
    db: sled::Db,
}

/// The marker's key; its number is the version of all keys and values.
const MARKER: &[u8] = b"!3";
/// sled's default is 1 GiB. It counts what lies on disk; in memory that takes several times more.
const CACHE_BYTES: u64 = 8 << 20;

impl Index {
    /// Opens the index, or makes one.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        check_files(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        match config.open() {
            Ok(db) => Ok(Self { db }),
            Err(sled::Error::Io(error)) if is_locked(&error) => Err(IndexError::Locked),
            Err(error) => Err(error.into()),
        }
    }

    /// How far it has come; `None` if it is empty.
    pub(crate) fn marker(&self) -> Result<Option<Marker>, IndexError> {
        match self.db.get(MARKER)? {
            Some(bytes) => decode_marker(&bytes).map(Some).ok_or(IndexError::Spoilt("marker")),
            None if self.db.is_empty() => Ok(None),
            None => Err(IndexError::Spoilt("no marker")),
        }
    }

    /// Puts batches in, and the marker behind them, all or nothing; of manifests only those that
    /// memory will not find at that place.
    pub(crate) fn apply(
        &self,
        batches: &[(Position, Batch)],
        marker: &Marker,
        finds: impl Fn(&Hash, Position) -> bool,
    ) -> Result<(), IndexError> {
        let mut changes = sled::Batch::default();
        for (position, batch) in batches {
            for (event, place) in batch.events.iter().zip(&batch.places) {
                if let Some(key) = &event.key {
                    let place = encode_place(place.behind(position.offset));
                    changes.insert(event_key(key, event.sequence), place.as_slice());
                }
            }
            for attachment in &batch.attachments {
                let offset = position.offset + attachment.at as u64;
                let at = Position { segment: position.segment, offset };
                if !finds(&attachment.sha256, at) {
                    let place = encode_position(at);
                    changes.insert(manifest_key(&attachment.sha256), place.as_slice());
                }
            }
        }
        changes.insert(MARKER, encode_marker(marker));
        Ok(self.db.apply_batch(changes)?)
    }

    /// The events of a tag, oldest first: where they lie.
    pub(crate) fn events(&self, key: &PinKey) -> Result<Vec<Listed>, IndexError> {
        let from = event_key(key, 0);
        let to = event_key(key, u64::MAX);
        let mut events = Vec::new();
        for entry in self.db.range(from..to) {
            let (name, value) = entry?;
            let sequence = name.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
            let place = decode_place(&value).ok_or(IndexError::Spoilt("an event's place"))?;
            events.push((sequence, place));
        }
        Ok(events)
    }

    /// Where the manifest lies in the log.
    pub(crate) fn place(&self, sha256: &Hash) -> Result<Option<Position>, IndexError> {
        let Some(value) = self.db.get(manifest_key(sha256))? else { return Ok(None) };
        decode_position(&mut &*value).map(Some).ok_or(IndexError::Spoilt("a manifest's place"))
    }

    /// Up to `limit` tags behind `after`, with their events.
    pub(crate) fn tags(
        &self,
        after: Option<&PinKey>,
        limit: usize,
    ) -> Result<Vec<(PinKey, Vec<Listed>)>, IndexError> {
        let mut tags = Vec::new();
        let mut from = after.map_or_else(|| vec![EVENT], behind);
        while tags.len() < limit {
            let Some(entry) = self.db.range(from..vec![EVENT + 1]).next() else { break };
            let (name, _) = entry?;
            let key = name
                .split_last_chunk::<8>()
                .and_then(|(name, _)| PinKey::from_bytes(name.strip_prefix(&[EVENT])?))
                .ok_or(IndexError::Spoilt("a tag"))?;
            from = behind(&key);
            let events = self.events(&key)?;
            tags.push((key, events));
        }
        Ok(tags)
    }

    /// Writes out what is only in memory. This is no promise: the log is.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        self.db.flush()?;
        Ok(())
    }
}

/// What keeps sled 0.34 from opening, or makes it open something else than was there.
fn check_files(path: &Path) -> Result<(), IndexError> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    let names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.iter().any(|name| name.ends_with(".generating")) {
        return Err(IndexError::Spoilt("a half-made snapshot"));
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if !(names.is_empty() || has("db") && has("conf")) {
        return Err(IndexError::Spoilt("db or conf is missing"));
    }
    Ok(())
}

/// sled wraps what flock said into an error of its own.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

const EVENT: u8 = b'e';
const MANIFEST: u8 = b'm';

/// Tags in the order of their bytes, and the events of each in the order of their sequence: no
/// tag contains a byte below `-`, and no sequence number begins with another byte than 0.
fn event_key(key: &PinKey, sequence: u64) -> Vec<u8> {
    let mut name = vec![EVENT];
    name.extend_from_slice(&key.to_bytes());
    name.extend_from_slice(&sequence.min(u64::MAX >> 8).to_be_bytes());
    name
}

/// The least key behind all events of this tag.
fn behind(key: &PinKey) -> Vec<u8> {
    let mut name = vec![EVENT];
    name.extend_from_slice(&key.to_bytes());
    name.push(1);
    name
}

fn manifest_key(sha256: &Hash) -> Vec<u8> {
    let mut name = vec![MANIFEST];
    name.extend_from_slice(sha256);
    name
}

fn encode_place(place: Place) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&place.offset.to_be_bytes());
    bytes[4..].copy_from_slice(&place.check.to_be_bytes());
    bytes
}

fn decode_place(mut rest: &[u8]) -> Option<Place> {
    let rest = &mut rest;
    let place = Place { offset: take::u32(rest)?, check: take::u32(rest)? };
    rest.is_empty().then_some(place)
}

fn encode_position(position: Position) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&position.segment.to_be_bytes());
    bytes[8..].copy_from_slice(&position.offset.to_be_bytes());
    bytes
}

fn decode_position(rest: &mut &[u8]) -> Option<Position> {
    Some(Position { segment: take::u64(rest)?, offset: take::u64(rest)? })
}

fn encode_marker(marker: &Marker) -> Vec<u8> {
    let mut bytes = marker.last.sequence.to_be_bytes().to_vec();
    bytes.extend_from_slice(&marker.last.hash);
    bytes.extend_from_slice(&encode_position(marker.next));
    bytes
}

fn decode_marker(bytes: &[u8]) -> Option<Marker> {
    let mut rest = bytes;
    let last = Link { sequence: take::u64(&mut rest)?, hash: take::array(&mut rest)? };
    let next = decode_position(&mut rest)?;
    rest.is_empty().then_some(Marker { last, next })
}
