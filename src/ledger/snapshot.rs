//! The snapshot beside the log: what it comes to up to some batch, so that a start need not read
//! it up to there. It may go at any time; the log is read in full then.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::base::{Base, MANIFEST, TAG};
use super::batch::LedgerId;
use super::cursor;
use super::facts::{Facts, FingerprintKey, Fresh};
use super::scan::{Link, Sealed};
use super::segment::{self, Position};
use super::shared::Head;
use super::{files, take};
use crate::oci::Digest;

/// Its number is the version; a snapshot of another one is none.
const MAGIC: &[u8; 8] = b"imtgsnp3";
/// No more is believed of a count, so that a spoilt file cannot ask for all memory.
const MOST_BYTES: u64 = 8 << 30;

/// The facts at some batch.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: LedgerId,
    /// That batch.
    pub(crate) head: Head,
    /// The segments in front of the one that it lies in.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) facts: Facts,
}

/// What a snapshot is made of.
pub(crate) struct Cut {
    pub(crate) id: LedgerId,
    pub(crate) head: Head,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) key: FingerprintKey,
    pub(crate) created_ms: u64,
    pub(crate) revoked: HashSet<Digest>,
    pub(crate) pins: u64,
    pub(crate) conflicts: u64,
    pub(crate) base: Arc<Base>,
    pub(crate) fresh: Arc<Fresh>,
}

/// The snapshot's file.
pub(crate) fn path(ledger: &Path) -> PathBuf {
    ledger.join("snapshot")
}

/// Reads the snapshot, if there is a sound one that this log has grown out of: its segments are
/// there in their length, and its batch ends where it says.
pub(crate) fn read(ledger: &Path, log: &Path) -> Option<Snapshot> {
    let file = File::open(path(ledger)).ok()?;
    let size = file.metadata().ok()?.len();
    let mut source = Source { inner: BufReader::with_capacity(1 << 16, file), hash: Sha256::new() };
    let snapshot = decode(&mut source, size)?;
    let firsts = segment::list(log).ok()?;
    let (before, behind) = firsts.split_at_checked(snapshot.sealed.len())?;
    let length = |first: u64| segment::path(log, first).metadata().map_or(0, |meta| meta.len());
    let there = snapshot
        .sealed
        .iter()
        .zip(before)
        .all(|(sealed, first)| sealed.first == *first && length(*first) == sealed.size);
    let Head { last, end } = snapshot.head;
    let grown = behind.first() == Some(&end.segment) && length(end.segment) >= end.offset;
    (there && grown && cursor::is_on_chain(log, &last, end)).then_some(snapshot)
}

/// Writes the snapshot, durably and as a whole, and gives back what it holds of tags and manifests.
pub(crate) fn write(ledger: &Path, cut: &Cut) -> (Arc<Base>, io::Result<()>) {
    let base = Arc::new(cut.base.with(&cut.fresh));
    let written = files::replace_by(&path(ledger), |file| {
        let head = encode_head(cut, &base);
        let hash = Sha256::new()
            .chain_update(&head)
            .chain_update(base.manifests())
            .chain_update(base.tags())
            .finalize();
        file.write_all(&head)?;
        file.write_all(base.manifests())?;
        file.write_all(base.tags())?;
        file.write_all(&hash)
    });
    (base, written)
}

/// Everything but the rows.
fn encode_head(cut: &Cut, base: &Base) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&cut.id);
    out.extend_from_slice(&cut.key);
    let Head { last, end } = cut.head;
    for number in [cut.created_ms, cut.pins, cut.conflicts, end.segment, end.offset] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    put_link(&mut out, &last);
    put(&mut out, cut.sealed.len());
    for Sealed { first, size, last } in &cut.sealed {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        put_link(&mut out, last);
    }
    put(&mut out, cut.revoked.len());
    for digest in &cut.revoked {
        take::put_prefixed(&mut out, digest.to_string().as_bytes());
    }
    put(&mut out, base.manifests().len());
    put(&mut out, base.tags().len());
    out
}

fn put(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u64).to_be_bytes());
}

fn put_link(out: &mut Vec<u8>, link: &Link) {
    out.extend_from_slice(&link.sequence.to_be_bytes());
    out.extend_from_slice(&link.hash);
}

/// Reads and hashes at once.
struct Source<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Source<R> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).ok()?;
        self.hash.update(bytes);
        Some(bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn link(&mut self) -> Option<Link> {
        Some(Link { sequence: self.u64()?, hash: self.array()? })
    }

    fn bytes(&mut self, size: u64, most: u64) -> Option<Vec<u8>> {
        let size = usize::try_from(size).ok().filter(|_| size <= most)?;
        let mut bytes = vec![0; size];
        self.inner.read_exact(&mut bytes).ok()?;
        self.hash.update(&bytes);
        Some(bytes)
    }
}

fn decode(source: &mut Source<impl Read>, size: u64) -> Option<Snapshot> {
    let most = size.min(MOST_BYTES);
    if source.array()? != *MAGIC {
        return None;
    }
    let id = source.array()?;
    let mut facts = Facts::new(source.array()?);
    facts.created_ms = source.u64()?;
    facts.pins = source.u64()?;
    facts.conflicts = source.u64()?;
    let end = Position { segment: source.u64()?, offset: source.u64()? };
    let head = Head { last: source.link()?, end };
    let mut sealed = Vec::new();
    for _ in 0..source.u64()? {
        let (first, size) = (source.u64()?, source.u64()?);
        sealed.push(Sealed { first, size, last: source.link()? });
    }
    for _ in 0..source.u64()? {
        let length = source.array().map(u32::from_be_bytes)?;
        let text = String::from_utf8(source.bytes(length.into(), most)?).ok()?;
        facts.revoked.insert(text.parse::<Digest>().ok()?);
    }
    let (manifests, tags) = (source.u64()?, source.u64()?);
    let manifests = source.bytes(manifests, most)?;
    let tags = source.bytes(tags, most)?;
    let mut hash = [0; 32];
    source.inner.read_exact(&mut hash).ok()?;
    let is_end = source.inner.read(&mut [0]).ok()? == 0;
    if !is_end || source.hash.clone().finalize().as_slice() != hash {
        return None;
    }
    facts.rest_on(Base::new(tags, manifests)?);
    Some(Snapshot { id, head, sealed, facts })
}

const _: () = assert!(TAG == 24 && MANIFEST == 12, "another length is another version");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, EventKind};
    use crate::ledger::place::Place;
    use crate::pin::PinKey;

    fn key(tag: &str) -> PinKey {
        PinKey {
            registry: "r.io".parse().unwrap(),
            repository: "x".parse().unwrap(),
            tag: tag.parse().unwrap(),
        }
    }

    fn read_bytes(bytes: &[u8]) -> Option<Snapshot> {
        decode(&mut Source { inner: bytes, hash: Sha256::new() }, bytes.len() as u64)
    }

    #[test]
    fn a_snapshot_reads_back_and_a_flipped_or_missing_byte_spoils_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut facts = Facts::new([5; 16]);
        let place = Place { offset: 3, check: 4 };
        for (sequence, tag) in (1..).zip(["a", "b", "c", "a"]) {
            facts.apply(&Draft::new(EventKind::Invalid, Some(key(tag))).at(sequence, 4), place);
        }
        let last = Link { sequence: 4, hash: [4; 32] };
        let head = Head { last, end: Position { segment: 4, offset: 99 } };
        facts.attach(&[9; 32], head.end);
        let (base, fresh) = facts.freeze().unwrap();
        assert!(facts.freeze().is_none(), "one at a time");
        let cut = Cut {
            id: [6; 16],
            head,
            sealed: vec![Sealed { first: 1, size: 77, last }],
            key: facts.key,
            created_ms: 8,
            revoked: HashSet::from([Digest::sha512([1; 64])]),
            pins: 1,
            conflicts: 2,
            base,
            fresh,
        };
        let (base, written) = write(dir.path(), &cut);
        written.unwrap();
        facts.settle(base);
        let mut bytes = std::fs::read(path(dir.path())).unwrap();
        let snapshot = read_bytes(&bytes).unwrap();
        assert_eq!((snapshot.id, snapshot.head), (cut.id, head));
        assert_eq!(snapshot.sealed, cut.sealed);
        assert_eq!(snapshot.facts.revoked, cut.revoked);
        assert_eq!((snapshot.facts.pins, snapshot.facts.conflicts), (1, 2));
        assert_eq!((snapshot.facts.created_ms, snapshot.facts.key), (8, [5; 16]));
        for (tag, sequence, only) in [("a", 4, None), ("b", 2, Some(place)), ("d", 0, None)] {
            for facts in [&facts, &snapshot.facts] {
                let entry = facts.entry(facts.fingerprint(&key(tag)));
                assert_eq!((entry.sequence(), entry.only()), (sequence, only), "{tag}");
                let spot = facts.manifest(&[9; 32]).unwrap();
                assert_eq!(spot.position(), Some(head.end));
                assert_eq!(facts.manifest(&[8; 32]), None);
            }
        }
        for at in 0..bytes.len() {
            assert!(read_bytes(&bytes[..at]).is_none());
            bytes[at] ^= 1;
            assert!(read_bytes(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 1;
        }
        bytes.push(0);
        assert!(read_bytes(&bytes).is_none());
    }
}
