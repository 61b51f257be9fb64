//! A blob that is too large to hold: its bytes are made where they are needed.

use std::io;

use sha2::{Digest as _, Sha256};

use super::content::noise;

/// Each piece is the same noise with its own number in front.
const PIECE: usize = 64 << 10;

/// The length of the number.
const NUMBER: usize = 8;

/// A blob of noise; clones are the same blob.
#[derive(Clone)]
pub(crate) struct Vast {
    piece: Vec<u8>,
    pub(crate) size_bytes: u64,
    pub(crate) digest: String,
}

impl Vast {
    /// The blob that this seed gives; takes the time to hash it.
    pub(crate) fn new(seed: &str, size_bytes: u64) -> Self {
        let mut vast = Self { piece: noise(seed, PIECE), size_bytes, digest: String::new() };
        let mut hasher = Sha256::new();
        let every_piece = vast.each(0, size_bytes, |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        every_piece.expect("hashing does not fail");
        vast.digest = super::content::hex_of(&hasher.finalize());
        vast
    }

    /// Gives the bytes from `from` to before `to`, piece by piece.
    pub(crate) fn each(
        &self,
        from: u64,
        to: u64,
        mut see: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut piece = self.piece.clone();
        let mut at = from;
        while at < to {
            let number = at / PIECE as u64;
            piece[..NUMBER].copy_from_slice(&number.to_le_bytes());
            let first = usize::try_from(at % PIECE as u64).expect("below a piece");
            let left = usize::try_from(to - at).unwrap_or(usize::MAX);
            let count = left.min(PIECE - first);
            see(&piece[first..first + count])?;
            at += count as u64;
        }
        Ok(())
    }

    /// Whether these are the blob's bytes at `at`.
    pub(crate) fn is_at(&self, at: u64, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let end = at + bytes.len() as u64;
        let compared = self.each(at, end, |piece| {
            let (head, tail) = rest.split_at(piece.len());
            rest = tail;
            if head == piece { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        });
        end <= self.size_bytes && compared.is_ok()
    }
}

#[test]
fn every_byte_of_it_has_one_place() {
    let vast = Vast::new("seed", 3 * PIECE as u64 + 5);
    let mut all = Vec::new();
    let gather = |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok(())
    };
    vast.each(0, vast.size_bytes, gather).unwrap();
    assert_eq!(all.len() as u64, vast.size_bytes);
    assert_eq!(vast.digest, super::content::sha256(&all));
    let (from, to) = (PIECE - 3, 2 * PIECE + 3);
    assert!(vast.is_at(from as u64, &all[from..to]));
    for wrong in [0, from - 1, from + 1, from + PIECE] {
        assert!(!vast.is_at(wrong as u64, &all[from..to]), "{wrong}");
    }
    all.push(0);
    assert!(!vast.is_at(0, &all), "it has an end");
}
