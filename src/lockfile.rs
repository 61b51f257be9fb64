//! `images.lock`: which digest each reference of a project stands for, reviewed like its code.
//!
//! JSON with one reference a line, sorted, so that a change of it reads as what it is:
//!
//! ```json
//! {
//!   "version": 1,
//!   "sources": ["Dockerfile"],
//!   "images": {
//!     "docker.io/library/alpine:3.19": {"digest": "sha256:…"},
//!     "ghcr.io/acme/tool:1.2.3": {"digest": "sha256:…", "immutable": true},
//!     "quay.io/acme/base@sha256:…": {"digest": "sha256:…"}
//!   }
//! }
//! ```
//!
//! A reference is written in its full form, and names a tag or a digest, never both: where both are
//! named, every client asks for the digest alone. Reading is strict, since two readers must not
//! understand a reviewed file differently: unknown and doubled keys are refused.

mod read;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use thiserror::Error;

use crate::oci::{Digest, Reference};

/// The name that is looked for where none is given.
pub const LOCK_NAME: &str = "images.lock";

/// The version that is read and written.
pub const LOCK_VERSION: u64 = 1;

/// The most references of a file. What is loaded becomes one batch of a ledger.
pub const LOCK_ENTRIES: usize = 20_000;

/// The largest file, in bytes.
pub const LOCK_BYTES: usize = 16 << 20;

/// A reviewed list of references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The files that it was made from, as they were named, sorted: what `immutag lock` reads
    /// again.
    pub sources: Vec<String>,
    /// What each reference stands for; a reference has a tag or a digest, not both.
    pub images: BTreeMap<Reference, Locked>,
}

/// What a reference stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The digest: SHA-256 for a tag, as all pins; for a reference by digest, that one.
    pub digest: Digest,
    /// Somebody wrote `?immutable=1` behind it: it is never moved by an update.
    pub is_immutable: bool,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum LockError {
    /// It is no such JSON. The message names line and column.
    #[error("it is not an images.lock of version {LOCK_VERSION}: {0}")]
    Malformed(String),
    /// A newer version of immutag wrote it.
    #[error("its version is {0}, and this immutag reads {LOCK_VERSION}: use a newer immutag")]
    Newer(u64),
    /// It is too large to be one.
    #[error("it is larger than {} MiB", LOCK_BYTES >> 20)]
    TooLarge,
}

impl LockFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Whatever is wrong with it; nothing of it may be used then.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        read::parse(bytes)
    }
}

/// The file's text, the same for the same content.
impl fmt::Display for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.sources.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let sources = quoted.map_err(|_| fmt::Error)?.join(", ");
        writeln!(f, "{{\n  \"version\": {LOCK_VERSION},\n  \"sources\": [{sources}],")?;
        f.write_str("  \"images\": {")?;
        // By the text that is written, so that a person can look one up.
        let lines: BTreeMap<_, _> =
            self.images.iter().map(|(reference, locked)| (reference.to_string(), locked)).collect();
        for (number, (reference, Locked { digest, is_immutable })) in lines.iter().enumerate() {
            f.write_str(if number == 0 { "\n" } else { ",\n" })?;
            write!(f, "    \"{reference}\": {{\"digest\": \"{digest}\"")?;
            f.write_str(if *is_immutable { ", \"immutable\": true}" } else { "}" })?;
        }
        f.write_str(if lines.is_empty() { "}\n" } else { "\n  }\n" })?;
        f.write_char('}')?;
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests;
