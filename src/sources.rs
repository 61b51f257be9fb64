//! The files of a project that name images: Dockerfiles, Compose projects, Kubernetes manifests.
//!
//! Pure: text in, [`Mention`]s out, each with the place at which a person finds it.

use std::ops::Range;

use crate::oci::Reference;

/// An image that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What is named, in its full form: with a tag (`latest` if none was written), or a digest, or
    /// both, as it was written.
    pub reference: Reference,
    /// `?immutable=1` stands behind it.
    pub is_immutable: bool,
    /// The platform that is asked for, as it was written, with its arguments replaced.
    pub platform: Option<String>,
    /// Its line, from 1.
    pub line: u64,
    /// Its column, in characters, from 1.
    pub column: u64,
    /// Where in the text the reference is written, in bytes, with `?immutable=1`; `None` where it
    /// comes from elsewhere, such as the default of an `ARG`.
    pub span: Option<Range<usize>>,
}

/// Something that names an image, and none could be read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its line, from 1.
    pub line: u64,
    /// What was written, at most 120 characters of it; not escaped.
    pub what: String,
    /// Why.
    pub why: &'static str,
}

/// What a file names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The images, in the order of the file.
    pub mentions: Vec<Mention>,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
}
