//! The files of a project that name images: Dockerfiles, Compose projects, Kubernetes manifests.
//!
//! Pure: text in, [`Mention`]s out, each with the place at which a person finds it.
//!
//! Such files come with pull requests: whatever is in them, reading them ends, takes memory in
//! proportion to their size, and what was not understood is in [`Found::skipped`].

pub mod compose;
pub mod dockerfile;
mod json;
pub mod kubernetes;
pub mod references;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use crate::oci::Reference;

/// The largest file that is read, in bytes. `kubectl get pods -A` of 5,000 pods takes about 75 MB.
pub const SOURCE_BYTES: usize = 128 << 20;

/// The most images of a file, and the most of what is skipped in it.
pub const MENTIONS: usize = 10_000;

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
    /// Where the default of an `ARG` is written that is all of the reference, in bytes; `None`
    /// where there is none.
    pub default_span: Option<Range<usize>>,
    /// It is a Dockerfile's frontend (`# syntax=`): `BuildKit` pulls it to read the file, other
    /// builders do not. Nobody need be warned of one that is not locked.
    pub is_frontend: bool,
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

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// `docker compose config --format json`
    Compose,
    /// A Dockerfile
    Dockerfile,
    /// Kubernetes objects as JSON
    Kubernetes,
    /// References, one a line
    References,
}

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It is not the JSON that it should be. The message names line and column.
    #[error("the JSON is not what it should be: {0}")]
    Malformed(String),
    /// It is too large.
    #[error("the document is larger than {} MiB", SOURCE_BYTES >> 20)]
    TooLarge,
    /// It is YAML.
    #[error(
        "it is YAML, which is not read: give what `docker compose config --format json` prints, or \
         `kubectl create --dry-run=client -o json -f FILE`"
    )]
    Yaml,
    /// It is JSON of another kind.
    #[error("it cannot be told what this JSON is: neither a Compose project nor Kubernetes")]
    Unknown,
}

/// Reads a file, after a look at what it is; a Dockerfile without build arguments.
///
/// # Errors
/// It is JSON that cannot be understood, or YAML.
pub fn read(text: &str) -> Result<(SourceKind, Found), SourceError> {
    let kind = look(text)?;
    let found = match kind {
        SourceKind::Compose => compose::read(text)?,
        SourceKind::Dockerfile => dockerfile::read(text, &BTreeMap::new()),
        SourceKind::Kubernetes => kubernetes::read(text)?,
        SourceKind::References => references::read(text),
    };
    Ok((kind, found))
}

/// What a file is, by its text.
///
/// # Errors
/// It is JSON of another kind, or YAML.
pub fn look(text: &str) -> Result<SourceKind, SourceError> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('{') || text.starts_with('[') {
        let has = |key: &str| text.contains(key);
        return match (has("\"services\""), has("\"apiVersion\"") || has("\"items\"")) {
            (true, false) => Ok(SourceKind::Compose),
            (_, true) => Ok(SourceKind::Kubernetes),
            (false, false) => Err(SourceError::Unknown),
        };
    }
    let is_from = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        word.eq_ignore_ascii_case("FROM") || word.eq_ignore_ascii_case("ARG")
    };
    if text.lines().any(is_from) {
        return Ok(SourceKind::Dockerfile);
    }
    let is_list = !text.lines().any(is_yaml);
    is_list.then_some(SourceKind::References).ok_or(SourceError::Yaml)
}

/// Whether a line is a key with its value or without: no reference has a blank behind its colon.
fn is_yaml(line: &str) -> bool {
    let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
    let key = line.strip_suffix(':').or_else(|| line.split_once(": ").map(|(key, _)| key));
    key.is_some_and(|key| !key.is_empty())
}

/// Reads what is written where a reference is meant, with or without `?immutable=1`.
///
/// # Errors
/// Why it is none, in words.
pub fn reference(text: &str) -> Result<(Reference, bool), &'static str> {
    let (name, is_immutable) = match text.split_once('?') {
        Some((name, "immutable=1")) => (name, true),
        Some(_) => return Err("the only query that is known is ?immutable=1"),
        None => (text, false),
    };
    let mut reference: Reference = name.parse().map_err(|_| "it is no reference")?;
    if reference.digest.is_none() {
        reference.tag = Some(reference.tag_or_latest());
    }
    Ok((reference, is_immutable))
}

impl Found {
    /// Takes an image in, as long as there are not too many.
    fn mention(&mut self, mention: Mention) {
        if self.mentions.len() < MENTIONS {
            self.mentions.push(mention);
        } else {
            self.skip(mention.line, "", "there are more than 10,000 images in the file");
        }
    }

    /// Says that something was not read, as long as there is not too much.
    fn skip(&mut self, line: u64, what: &str, why: &'static str) {
        if self.skipped.len() < MENTIONS {
            self.skipped.push(Skipped { line, what: what.chars().take(120).collect(), why });
        }
    }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    /// The last byte that was asked for, and its column: the next is likely near, and a line may
    /// be as long as the file.
    last: Cell<(usize, u64)>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { text, starts: starts.collect(), last: Cell::new((0, 1)) }
    }

    /// The line of a byte and its column in characters, both from 1. A byte-order mark counts as
    /// nothing.
    fn place(&self, at: usize) -> (u64, u64) {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        let (last, last_column) = self.last.get();
        let count = |from: usize, to: usize| {
            let between = self.text.get(from..to).unwrap_or_default();
            between.chars().filter(|letter| *letter != '\u{feff}').count() as u64
        };
        let next = self.starts.get(line).copied().unwrap_or(usize::MAX);
        let column = match at.checked_sub(last) {
            _ if !(start..next).contains(&last) => count(start, at) + 1,
            Some(_) => last_column + count(last, at),
            None => last_column.saturating_sub(count(at, last)).max(1),
        };
        self.last.set((at, column));
        (line as u64, column)
    }
}

#[cfg(test)]
mod tests;
