//! References: what stands at the end of a manifest's URL.

use std::fmt;

use super::digest::Digest;
use super::name::Tag;

/// The `<reference>` of `/v2/<name>/manifests/<reference>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestReference {
    /// By content.
    Digest(Digest),
    /// By name.
    Tag(Tag),
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}
