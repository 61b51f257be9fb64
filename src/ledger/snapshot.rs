//! The snapshot beside the log: what the closed segments come to, so that a start need not read
//! them. It may go at any time; the log is read in full then.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::batch::LedgerId;
use super::facts::Facts;
use super::scan::{Link, Sealed};
use super::{segment, take};
use crate::oci::Digest;

const MAGIC: &[u8; 8] = b"imtgsnp1";

/// The facts at the end of the last closed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) id: LedgerId,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) facts: Facts,
}

/// The snapshot's file.
pub(crate) fn path(ledger: &Path) -> PathBuf {
    ledger.join("snapshot")
}

/// Reads the snapshot, if there is a sound one whose segments are there in their length.
pub(crate) fn read(ledger: &Path, log: &Path) -> Option<Snapshot> {
    let snapshot = decode(&std::fs::read(path(ledger)).ok()?)?;
    let firsts = segment::list(log).ok()?;
    let there = snapshot.sealed.iter().zip(&firsts).all(|(sealed, first)| {
        sealed.first == *first
            && segment::path(log, *first).metadata().is_ok_and(|meta| meta.len() == sealed.size)
    });
    (there && firsts.len() >= snapshot.sealed.len()).then_some(snapshot)
}

/// The snapshot's bytes.
pub(crate) fn encode(id: &LedgerId, sealed: &[Sealed], facts: &Facts) -> Vec<u8> {
    let mut out = Vec::with_capacity(facts.tags.len() * 16 + facts.manifests.len() * 4 + 256);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(id);
    out.extend_from_slice(&facts.key);
    put(&mut out, facts.created_ms);
    put(&mut out, sealed.len() as u64);
    for Sealed { first, size, last } in sealed {
        put(&mut out, *first);
        put(&mut out, *size);
        put(&mut out, last.sequence);
        out.extend_from_slice(&last.hash);
    }
    put(&mut out, facts.revoked.len() as u64);
    for digest in &facts.revoked {
        take::put_prefixed(&mut out, digest.to_string().as_bytes());
    }
    put(&mut out, facts.manifests.len() as u64);
    for manifest in &facts.manifests {
        out.extend_from_slice(&manifest.to_be_bytes());
    }
    put(&mut out, facts.tags.len() as u64);
    for (fingerprint, entry) in &facts.tags {
        put(&mut out, *fingerprint);
        put(&mut out, *entry);
    }
    let hash = Sha256::digest(&out);
    out.extend_from_slice(&hash);
    out
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn decode(bytes: &[u8]) -> Option<Snapshot> {
    let (content, hash) = bytes.split_last_chunk::<32>()?;
    if Sha256::digest(content).as_slice() != hash {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let rest = &mut rest;
    let id = take::array(rest)?;
    let mut facts = Facts::new(take::array(rest)?);
    facts.created_ms = take::u64(rest)?;
    let mut sealed = Vec::new();
    for _ in 0..take::u64(rest)? {
        let (first, size) = (take::u64(rest)?, take::u64(rest)?);
        let last = Link { sequence: take::u64(rest)?, hash: take::array(rest)? };
        sealed.push(Sealed { first, size, last });
    }
    for _ in 0..take::u64(rest)? {
        let text = std::str::from_utf8(take::prefixed(rest)?).ok()?;
        facts.revoked.insert(text.parse::<Digest>().ok()?);
    }
    for _ in 0..take::u64(rest)? {
        facts.manifests.insert(take::u32(rest)?);
    }
    let tags = take::u64(rest)?;
    facts.tags.reserve(usize::try_from(tags).ok()?.min(rest.len() / 16));
    for _ in 0..tags {
        facts.restore(take::u64(rest)?, take::u64(rest)?);
    }
    rest.is_empty().then_some(Snapshot { id, sealed, facts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, EventKind};

    #[test]
    fn a_snapshot_reads_back_and_a_flipped_byte_spoils_it() {
        let mut facts = Facts::new([5; 16]);
        for (sequence, tag) in (1..).zip(["a", "b", "c"]) {
            let key = crate::pin::PinKey {
                registry: "r.io".parse().unwrap(),
                repository: "x".parse().unwrap(),
                tag: tag.parse().unwrap(),
            };
            facts.apply(&Draft::new(EventKind::Invalid, Some(key)).at(sequence, 4));
        }
        facts.attach(&[9; 32]);
        facts.revoked.insert(Digest::sha512([1; 64]));
        let last = Link { sequence: 3, hash: [4; 32] };
        let sealed = vec![Sealed { first: 1, size: 77, last }];
        let mut bytes = encode(&[6; 16], &sealed, &facts);
        assert_eq!(decode(&bytes), Some(Snapshot { id: [6; 16], sealed, facts }));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), None);
            bytes[at] ^= 1;
        }
    }
}
