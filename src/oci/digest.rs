//! Digests: what a peer claims ([`Digest`]) and what this process computed ([`ComputedDigest`]).
//!
//! Source: OCI image-spec, descriptor.md, "Digests". Two algorithms are registered there and both
//! are supported; anything else is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of the digest, in bytes.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A digest as somebody claims it: a header, a descriptor, a URL.
///
/// Text form `sha256:<64 hex>` or `sha512:<128 hex>`, lower case only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front, or more than one.
    #[error("a digest is <algorithm>:<hex>")]
    MissesAlgorithm,
    /// The algorithm is neither sha256 nor sha512.
    #[error("the digest algorithm is not supported; use sha256 or sha512")]
    NamesUnknownAlgorithm,
    /// The hex part has the wrong length or characters other than `0-9a-f`.
    #[error("the digest is not lower-case hex of the algorithm's length")]
    SpoilsHex,
}

impl Digest {
    /// A SHA-256 digest from its raw bytes.
    pub fn sha256(raw: [u8; 32]) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&raw);
        Self { algorithm: Algorithm::Sha256, bytes }
    }

    /// A SHA-512 digest from its raw bytes.
    pub const fn sha512(raw: [u8; 64]) -> Self {
        Self { algorithm: Algorithm::Sha512, bytes: raw }
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes, 32 or 64 of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size_bytes()]
    }

    /// The part behind the colon.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(self.as_bytes().len() * 2);
        push_hex(&mut text, self.as_bytes());
        text
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::MissesAlgorithm)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            "" => return Err(DigestError::MissesAlgorithm),
            _ => return Err(DigestError::NamesUnknownAlgorithm),
        };
        if hex.len() != algorithm.size_bytes() * 2 {
            return Err(DigestError::SpoilsHex);
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }
}

const fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError::SpoilsHex),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(7 + self.as_bytes().len() * 2);
        text.push_str(self.algorithm.name());
        text.push(':');
        push_hex(&mut text, self.as_bytes());
        f.pad(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::deserialize(deserializer)
    }
}

/// A digest that this process computed over bytes it held.
///
/// There is no parser and no public constructor but [`Hasher::finish`]: holding one is evidence.
/// SHA-256 is always there; SHA-512 as well when the [`Hasher`] was asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputedDigest {
    sha256: Digest,
    sha512: Option<Digest>,
}

impl ComputedDigest {
    /// Computes the digest of bytes that lie in memory; SHA-512 as well if `claim` uses it.
    pub fn of(bytes: &[u8], claim: Option<&Digest>) -> Self {
        let mut hasher = Hasher::for_claim(claim);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 digest: what pins, events and the store's paths are made of.
    pub const fn digest(&self) -> Digest {
        self.sha256
    }

    /// Whether the bytes that were hashed are the bytes that `claim` names.
    ///
    /// A SHA-512 claim is supported only if the hasher was made for one.
    pub fn supports(&self, claim: &Digest) -> bool {
        match claim.algorithm {
            Algorithm::Sha256 => self.sha256 == *claim,
            Algorithm::Sha512 => self.sha512.as_ref() == Some(claim),
        }
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// A hasher for bytes that somebody claims to have the digest `claim`, if anybody does.
    pub fn for_claim(claim: Option<&Digest>) -> Self {
        let wide = claim.is_some_and(|claim| claim.algorithm == Algorithm::Sha512);
        Self { sha256: Sha256::new(), sha512: wide.then(Sha512::new) }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> ComputedDigest {
        ComputedDigest {
            sha256: Digest::sha256(self.sha256.finalize().into()),
            sha512: self.sha512.map(|sha512| Digest::sha512(sha512.finalize().into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let computed = ComputedDigest::of(b"", None);
        assert_eq!(computed.digest().to_string(), EMPTY);
        assert!(computed.supports(&EMPTY.parse().unwrap()));
    }

    #[test]
    fn a_sha512_claim_is_checked_with_sha512() {
        let claim = Digest::sha512(Sha512::digest(b"x").into());
        assert!(ComputedDigest::of(b"x", Some(&claim)).supports(&claim));
        assert!(!ComputedDigest::of(b"y", Some(&claim)).supports(&claim));
        assert!(!ComputedDigest::of(b"x", None).supports(&claim));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let hex = "a".repeat(64);
        for (text, error) in [
            (String::new(), DigestError::MissesAlgorithm),
            (hex.clone(), DigestError::MissesAlgorithm),
            (format!(":{hex}"), DigestError::MissesAlgorithm),
            (format!("md5:{}", "a".repeat(32)), DigestError::NamesUnknownAlgorithm),
            (format!("blake3:{hex}"), DigestError::NamesUnknownAlgorithm),
            (format!("SHA256:{hex}"), DigestError::NamesUnknownAlgorithm),
            (format!("sha256:{}", "a".repeat(63)), DigestError::SpoilsHex),
            (format!("sha256:{hex}a"), DigestError::SpoilsHex),
            (format!("sha256:{}", "A".repeat(64)), DigestError::SpoilsHex),
            ("sha256:../../x".into(), DigestError::SpoilsHex),
            (format!("sha256:sha256:{hex}"), DigestError::SpoilsHex),
            (format!("sha256:{}", "a".repeat(1 << 20)), DigestError::SpoilsHex),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{}", &text[..text.len().min(90)]);
        }
    }

    proptest! {
        #[test]
        fn printing_gives_back_what_was_parsed(raw: [u8; 32], wide: [u8; 64]) {
            for digest in [Digest::sha256(raw), Digest::sha512(wide)] {
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            }
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
