//! Reading `images.lock`, strictly.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{LOCK_BYTES, LOCK_ENTRIES, LOCK_VERSION, LockError, LockFile, Locked};
use crate::oci::{Algorithm, Digest, Reference};

/// The most source files that are named, and the longest name, in bytes.
const SOURCES: usize = 10_000;
const SOURCE_BYTES: usize = 4096;

/// All that is looked at of a file whose version is not known yet.
#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(default)]
    sources: Vec<String>,
    images: Images,
}

struct Images(BTreeMap<Reference, Locked>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    digest: Digest,
    #[serde(default)]
    immutable: bool,
}

pub(super) fn parse(bytes: &[u8]) -> Result<LockFile, LockError> {
    if bytes.len() > LOCK_BYTES {
        return Err(LockError::TooLarge);
    }
    // It says what it found, which is anybody's.
    let malformed = |error: serde_json::Error| {
        LockError::Malformed(crate::printable::escape_within(&error.to_string(), 500))
    };
    let Head { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version > LOCK_VERSION {
        return Err(LockError::Newer(version));
    }
    if version != LOCK_VERSION {
        return Err(LockError::Malformed(format!("there is no version {version}")));
    }
    let Whole { sources, images, .. } = serde_json::from_slice(bytes).map_err(malformed)?;
    let is_sound = |source: &String| !source.is_empty() && source.len() <= SOURCE_BYTES;
    if sources.len() > SOURCES || !sources.iter().all(is_sound) {
        let words =
            format!("sources are at most {SOURCES} paths, each of 1 to {SOURCE_BYTES} bytes");
        return Err(LockError::Malformed(words));
    }
    Ok(LockFile { sources, images: images.0 })
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Images;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of references")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Images, A::Error> {
                let mut images = BTreeMap::new();
                while let Some(text) = map.next_key::<String>()? {
                    let reference = reference(&text).map_err(A::Error::custom)?;
                    let entry = map.next_value::<Entry>()?;
                    check(&reference, &entry).map_err(A::Error::custom)?;
                    let Entry { digest, immutable: is_immutable } = entry;
                    if images.len() >= LOCK_ENTRIES {
                        let words = format!("it has more than {LOCK_ENTRIES} references");
                        return Err(A::Error::custom(words));
                    }
                    if images.insert(reference, Locked { digest, is_immutable }).is_some() {
                        let words = format!("{text} stands in it twice: remove one");
                        return Err(A::Error::custom(words));
                    }
                }
                Ok(Images(images))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A reference in its full form, with a tag or a digest.
fn reference(text: &str) -> Result<Reference, String> {
    let shown = || crate::printable::escape_within(text, 200);
    let reference: Reference =
        text.parse().map_err(|error| format!("\"{}\" is no reference: {error}", shown()))?;
    if reference.tag.is_some() == reference.digest.is_some() {
        return Err(format!("\"{}\" must name a tag or a digest, and not both", shown()));
    }
    if reference.to_string() != text {
        return Err(format!("\"{}\" is not in its full form: write \"{reference}\"", shown()));
    }
    Ok(reference)
}

fn check(reference: &Reference, entry: &Entry) -> Result<(), String> {
    match reference.digest {
        Some(digest) if digest != entry.digest => {
            Err(format!("{reference} cannot stand for {}", entry.digest))
        }
        None if entry.digest.algorithm() != Algorithm::Sha256 => {
            Err(format!("{reference} must stand for a SHA-256 digest, as pins do"))
        }
        _ => Ok(()),
    }
}
