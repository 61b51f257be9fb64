//! One batch of the log: what one fdatasync makes durable.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | magic; its first byte never stands in UTF-8, so no manifest can contain one |
//! | 4 | version, 1 |
//! | 16 | the ledger's id |
//! | 8 | length of the whole batch |
//! | 8 | sequence number of the first record |
//! | 4, 4 | number of records, of attachments |
//! | 32 | hash of the batch before (for the first: derived from the ledger's id) |
//! | … | records: length (4), bytes |
//! | … | attachments: SHA-256 (32), media type's length (2), media type, length (4), bytes |
//! | 32 | SHA-256 over the hash before, the header in front of it, and the body |
//!
//! Numbers are big-endian. The hash of the batch before is written out, so that a batch can be
//! told valid whatever became of its neighbours: that is what tells a torn tail from damage.

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::place::Place;
use super::record::{self, RecordError};
use super::take;
use crate::event::Event;
use crate::oci::MediaType;

/// How a batch begins.
pub(crate) const MAGIC: [u8; 4] = [0xff, b'i', b'm', b'B'];
/// The version that this program writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;
/// Everything before the body.
pub(crate) const HEADER_SIZE: usize = FIXED_SIZE + 32;
/// The least and the most bytes of a batch; one manifest has at most 4 MiB.
pub(crate) const MIN_SIZE: usize = HEADER_SIZE + 32;
pub(crate) const MAX_SIZE: usize = 64 << 20;

const FIXED_SIZE: usize = 48;

/// A ledger's id.
pub(crate) type LedgerId = [u8; 16];
/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: LedgerId,
    pub(crate) size: usize,
    pub(crate) first: u64,
    pub(crate) records: u32,
    pub(crate) attachments: u32,
    pub(crate) previous: Hash,
}

/// Manifest bytes that lie in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) sha256: Hash,
    pub(crate) media_type: MediaType,
    /// Where the attachment begins, from the batch's first byte.
    pub(crate) at: usize,
    /// The length of the manifest.
    pub(crate) size: usize,
}

/// A batch whose hash is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) header: Header,
    pub(crate) events: Vec<Event>,
    /// Where the record of each event lies, from the batch's first byte.
    pub(crate) places: Vec<Place>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) hash: Hash,
}

impl Batch {
    /// The sequence number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.header.first + u64::from(self.header.records) - 1
    }
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BatchError {
    /// Cut, torn or flipped.
    #[error("the batch's layout or its hash is wrong")]
    Invalid,
    /// The hash is right, and yet a record makes no sense to this version.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A later version wrote it.
    #[error("the batch is of version {0}, this immutag reads version 1; use a newer one")]
    UnknownVersion(u32),
}

/// The hash that stands before a ledger's first batch.
pub(crate) fn genesis(id: &LedgerId) -> Hash {
    Sha256::new().chain_update(b"immutag ledger\0").chain_update(id).finalize().into()
}

/// Puts a batch together.
pub(crate) struct Builder {
    records: Vec<u8>,
    places: Vec<Place>,
    attachments: Vec<u8>,
    attached: Vec<Attachment>,
}

impl Builder {
    pub(crate) const fn new() -> Self {
        Self {
            records: Vec::new(),
            places: Vec::new(),
            attachments: Vec::new(),
            attached: Vec::new(),
        }
    }

    /// Adds an event, encoded.
    pub(crate) fn record(&mut self, bytes: &[u8]) {
        self.places.push(Place::new(HEADER_SIZE + self.records.len(), bytes));
        take::put_prefixed(&mut self.records, bytes);
    }

    /// Adds a manifest.
    pub(crate) fn attach(&mut self, sha256: Hash, media_type: &MediaType, bytes: &[u8]) {
        let at = self.attachments.len();
        let name = media_type.as_str().as_bytes();
        let length = u16::try_from(name.len()).expect("a media type has at most 255 bytes");
        self.attachments.extend_from_slice(&sha256);
        self.attachments.extend_from_slice(&length.to_be_bytes());
        self.attachments.extend_from_slice(name);
        take::put_prefixed(&mut self.attachments, bytes);
        let media_type = media_type.clone();
        self.attached.push(Attachment { sha256, media_type, at, size: bytes.len() });
    }

    /// Whether there is no event yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many events there are.
    pub(crate) const fn count(&self) -> usize {
        self.places.len()
    }

    /// The batch's length as it is now.
    pub(crate) fn size(&self) -> usize {
        MIN_SIZE + self.records.len() + self.attachments.len()
    }

    /// The bytes, the hash, and where the attachments lie.
    pub(crate) fn finish(self, id: &LedgerId, first: u64, previous: &Hash) -> Built {
        let size = self.size();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&(size as u64).to_be_bytes());
        bytes.extend_from_slice(&first.to_be_bytes());
        let count = u32::try_from(self.places.len()).expect("fewer than bytes of a batch");
        bytes.extend_from_slice(&count.to_be_bytes());
        let attached = u32::try_from(self.attached.len()).expect("at most one for each record");
        bytes.extend_from_slice(&attached.to_be_bytes());
        bytes.extend_from_slice(previous);
        bytes.extend_from_slice(&self.records);
        let body = bytes.len();
        bytes.extend_from_slice(&self.attachments);
        let hash = hash(&bytes);
        bytes.extend_from_slice(&hash);
        let mut attachments = self.attached;
        for attachment in &mut attachments {
            attachment.at += body;
        }
        Built { bytes, hash, places: self.places, attachments }
    }
}

/// What [`Builder::finish`] made.
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) places: Vec<Place>,
    pub(crate) attachments: Vec<Attachment>,
}

/// Over the hash before, the header in front of it, and the body: all but the last 32 bytes.
fn hash(unsealed: &[u8]) -> Hash {
    let (fixed, rest) = unsealed.split_at(FIXED_SIZE);
    let (previous, body) = rest.split_at(32);
    Sha256::new().chain_update(previous).chain_update(fixed).chain_update(body).finalize().into()
}

/// Reads a header; the batch behind it may still be invalid.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, BatchError> {
    read_header(&mut &*bytes).ok_or(BatchError::Invalid)?
}

fn read_header(rest: &mut &[u8]) -> Option<Result<Header, BatchError>> {
    if take::array(rest)? != MAGIC {
        return None;
    }
    let version = take::u32(rest)?;
    let id = take::array(rest)?;
    let size = usize::try_from(take::u64(rest)?).ok()?;
    let first = take::u64(rest)?;
    let (records, attachments) = (take::u32(rest)?, take::u32(rest)?);
    let previous = take::array(rest)?;
    // A header torn at a sector's edge has zeros from some field on; a later version has not.
    if version > VERSION {
        return Some(Err(BatchError::UnknownVersion(version)));
    }
    let sound = version == VERSION
        && (MIN_SIZE..=MAX_SIZE).contains(&size)
        && records > 0
        && first > 0
        && first.checked_add(u64::from(records)).is_some();
    sound.then_some(Ok(Header { id, size, first, records, attachments, previous }))
}

/// Whether `bytes` are exactly one batch with the right hash.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    let Some((unsealed, sealed)) = bytes.split_last_chunk::<32>() else { return false };
    unsealed.len() >= HEADER_SIZE && hash(unsealed) == *sealed
}

/// Reads a whole batch.
pub(crate) fn decode(bytes: &[u8]) -> Result<Batch, BatchError> {
    let header = header(bytes)?;
    if header.size != bytes.len() || !is_sealed(bytes) {
        return Err(BatchError::Invalid);
    }
    let (unsealed, hash) = bytes.split_last_chunk::<32>().ok_or(BatchError::Invalid)?;
    let mut rest = &unsealed[HEADER_SIZE..];
    let (mut events, mut places) = (Vec::new(), Vec::new());
    for sequence in header.first..header.first + u64::from(header.records) {
        let offset = unsealed.len() - rest.len();
        let record = take::prefixed(&mut rest).ok_or(BatchError::Invalid)?;
        let event = record::decode(record)?;
        if event.sequence != sequence {
            return Err(BatchError::Record(RecordError::SpoilsField("sequence")));
        }
        events.push(event);
        places.push(Place::new(offset, record));
    }
    let mut attachments = Vec::new();
    for _ in 0..header.attachments {
        let at = unsealed.len() - rest.len();
        let (attachment, _) = take_attachment(&mut rest, at).ok_or(BatchError::Invalid)?;
        attachments.push(attachment);
    }
    if !rest.is_empty() {
        return Err(BatchError::Invalid);
    }
    Ok(Batch { header, events, places, attachments, hash: *hash })
}

/// Takes an attachment and its manifest's bytes off the front of `rest`.
pub(crate) fn take_attachment<'a>(
    rest: &mut &'a [u8],
    at: usize,
) -> Option<(Attachment, &'a [u8])> {
    let sha256 = take::array(rest)?;
    let length = usize::from(take::u16(rest)?);
    let name = take::bytes(rest, length)?;
    let media_type = std::str::from_utf8(name).ok()?.parse().ok()?;
    let bytes = take::prefixed(rest)?;
    Some((Attachment { sha256, media_type, at, size: bytes.len() }, bytes))
}

/// How many bytes an attachment takes in the log.
pub(crate) fn attachment_size(media_type: &MediaType, size: usize) -> usize {
    32 + 2 + media_type.as_str().len() + 4 + size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Draft, EventKind};

    fn built() -> Built {
        let mut builder = Builder::new();
        for sequence in [7, 8] {
            builder.record(&record::encode(&Draft::new(EventKind::Invalid, None).at(sequence, 9)));
        }
        builder.attach([3; 32], &"a/b".parse().unwrap(), b"bytes");
        let size = builder.size();
        let built = builder.finish(&[1; 16], 7, &[2; 32]);
        assert_eq!(built.bytes.len(), size);
        built
    }

    #[test]
    fn a_batch_reads_back_as_it_was_built() {
        let built = built();
        let batch = decode(&built.bytes).unwrap();
        assert_eq!((batch.header.first, batch.last(), batch.hash), (7, 8, built.hash));
        assert_eq!((batch.header.id, batch.header.previous), ([1; 16], [2; 32]));
        assert_eq!((&batch.attachments, &batch.places), (&built.attachments, &built.places));
        let second = batch.places[1].offset as usize;
        let record = take::prefixed(&mut &built.bytes[second..]).unwrap();
        assert_eq!(record::decode(record).as_ref(), Ok(&batch.events[1]));
        let at = batch.attachments[0].at;
        assert_eq!(take_attachment(&mut &built.bytes[at..], at).unwrap().1, b"bytes");
    }

    #[test]
    fn a_later_version_is_told_from_a_torn_header() {
        let mut bytes = built().bytes;
        bytes[7] = 2;
        assert_eq!(decode(&bytes), Err(BatchError::UnknownVersion(2)));
        bytes[7] = 0;
        assert_eq!(decode(&bytes), Err(BatchError::Invalid));
    }

    proptest! {
        #[test]
        fn no_flipped_or_missing_byte_goes_unnoticed(at in 8usize..400, bit in 0u8..8) {
            let mut bytes = built().bytes;
            let at = at % (bytes.len() - 8) + 8;
            prop_assert_eq!(decode(&bytes[..at]), Err(BatchError::Invalid));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(&bytes), Err(BatchError::Invalid));
        }

        #[test]
        fn decoding_noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&noise);
            let mut headed = built().bytes[..HEADER_SIZE].to_vec();
            headed.extend(noise);
            let _ = decode(&headed);
            let _ = is_sealed(&headed);
        }
    }
}
