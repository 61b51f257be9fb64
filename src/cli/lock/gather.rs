//! Reads the sources: which images they name, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure};

use super::Misuse;
use super::file::LockPath;
use super::places::{Source, sources};
use crate::lockfile::LockFile;
use crate::oci::{Reference, Tag};
use crate::printable::escape_within;
use crate::sources::{Found, Mention, SourceKind, dockerfile, read};

/// The largest source, in bytes.
const SOURCE_LIMIT: u64 = 16 << 20;

/// What is to be read.
pub(super) struct Request<'a> {
    pub(super) paths: &'a [PathBuf],
    pub(super) arguments: BTreeMap<String, String>,
    /// A source of the lock file that is gone is no source any more.
    pub(super) prunes: bool,
    /// There is something to do without a source.
    pub(super) is_content_without: bool,
}

/// What the sources name.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The sources, as the lock file will name them.
    pub(super) sources: Vec<String>,
    /// What they name, in the form that a lock file has.
    pub(super) wanted: BTreeMap<Reference, Wanted>,
    /// What could not be read in them.
    pub(super) skipped: Vec<String>,
    /// The sources that could not be read at all.
    pub(super) unreadable: Vec<Unreadable>,
}

/// An image that sources name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) places: Vec<Mentioned>,
    /// `?immutable=1` stands at one of them.
    pub(super) is_immutable: bool,
}

/// Where an image is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mentioned {
    source: String,
    line: u64,
    pub(super) platform: Option<String>,
    /// The tag before a digest: it says nothing to a client.
    pub(super) idle_tag: Option<Tag>,
}

/// A source that could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) source: String,
    pub(super) why: String,
}

/// `Dockerfile:3`, escaped.
impl fmt::Display for Mentioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", shown(&self.source), self.line)
    }
}

/// Reads them all.
///
/// # Errors
/// What was typed is not there, or cannot be a lock file's source.
pub(super) fn gather(
    request: &Request<'_>,
    lock: &LockPath,
) -> anyhow::Result<Result<Gathered, Misuse>> {
    let sources = sources(request.paths, lock)?;
    if sources.is_empty() && !request.is_content_without && !lock.exists() {
        let words = "there is no Dockerfile or Containerfile here, and no lock file that names a \
                     source: name files (immutag lock deploy/Dockerfile), or references (--add)";
        return Ok(Err(Misuse(words.to_owned())));
    }
    let mut gathered = Gathered::default();
    for source in sources {
        gathered.read(source, request, lock);
    }
    Ok(Ok(gathered))
}

/// A reference as a lock file has it: with a tag or a digest, not both.
pub(super) fn entry(reference: &Reference) -> Reference {
    let mut entry = reference.clone();
    entry.tag = match entry.digest {
        Some(_) => None,
        None => Some(entry.tag_or_latest()),
    };
    entry
}

/// The tag of a reference with both, if the lock file has that digest for it: so `immutag export
/// dockerfile` writes them, and the digest passes as the tag's.
fn tagged(reference: &Reference, lock: &LockFile) -> Option<Reference> {
    let by_tag = Reference { digest: None, ..reference.clone() };
    let locked = lock.images.get(&by_tag)?;
    (reference.digest == Some(locked.digest)).then_some(by_tag)
}

/// What a stranger called a file, in at most 200 characters.
pub(super) fn shown(name: &str) -> String {
    escape_within(name, 200)
}

impl Gathered {
    /// Whether there was nothing to read.
    pub(super) fn is_nothing(&self) -> bool {
        self.sources.is_empty() && self.wanted.is_empty() && self.unreadable.is_empty()
    }

    /// Fails unless every source was read.
    pub(super) fn refuse_unreadable(&self) -> anyhow::Result<()> {
        let Some(Unreadable { source, why }) = self.unreadable.first() else { return Ok(()) };
        let source = shown(source);
        Err(anyhow!(
            "{source} cannot be read: {why}; nothing was written (--prune leaves out \
                     sources that are gone)"
        ))
    }

    fn read(&mut self, source: Source, request: &Request<'_>, lock: &LockPath) {
        let is_gone = || {
            let path = source.path.as_ref();
            path.is_some_and(|path| fs::symlink_metadata(path).is_err_and(|it| is_absent(&it)))
        };
        if request.prunes && !source.is_typed && is_gone() {
            return;
        }
        let text = text(&source, lock.folder());
        let found = match text.and_then(|text| found(&text, &request.arguments)) {
            Ok(found) => found,
            Err(error) => {
                let why = escape_within(&format!("{error:#}"), 400);
                self.unreadable.push(Unreadable { source: source.name.clone(), why });
                Found::default()
            }
        };
        for skipped in found.skipped {
            let what = escape_within(&skipped.what, 120);
            let glue = if what.is_empty() { "" } else { ": " };
            let (name, line) = (shown(&source.name), skipped.line);
            self.skipped.push(format!("{name}:{line}: {what}{glue}{}", skipped.why));
        }
        for mention in found.mentions {
            self.take(&source.name, mention, &lock.file);
        }
        if source.path.is_some() {
            self.sources.push(source.name);
        }
    }

    fn take(&mut self, source: &str, mention: Mention, lock: &LockFile) {
        let Mention { reference, is_immutable, platform, line, .. } = mention;
        let by_tag = tagged(&reference, lock);
        let idle_tag =
            reference.tag.clone().filter(|_| reference.digest.is_some() && by_tag.is_none());
        let wanted = self.wanted.entry(by_tag.unwrap_or_else(|| entry(&reference))).or_default();
        wanted.is_immutable |= is_immutable;
        let source = source.to_owned();
        wanted.places.push(Mentioned { source, line, platform, idle_tag });
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn text(source: &Source, lock: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = |input: &mut dyn Read, bytes: &mut Vec<u8>| {
        // One byte more tells that it is too large.
        input.take(SOURCE_LIMIT + 1).read_to_end(bytes)
    };
    match &source.path {
        None => read(&mut io::stdin().lock(), &mut bytes)?,
        Some(path) => {
            let is_absolute = !source.is_typed && Path::new(&source.name).is_absolute();
            ensure!(!is_absolute, "a lock file names its sources from its own folder");
            let is_outside = !source.is_inside(lock)?;
            ensure!(!is_outside, "it leads out of this folder: name the file itself, if it is one");
            let is_file = fs::metadata(path)?.is_file();
            ensure!(is_file, "it is no regular file; `-` reads standard input");
            read(&mut File::open(path)?, &mut bytes)?
        }
    };
    if bytes.len() as u64 > SOURCE_LIMIT {
        bail!("it is larger than {} MiB", SOURCE_LIMIT >> 20);
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("it is not UTF-8"))
}

fn found(text: &str, arguments: &BTreeMap<String, String>) -> anyhow::Result<Found> {
    Ok(match read(text)? {
        (SourceKind::Dockerfile, _) => dockerfile::read(text, arguments),
        // A file that is no list of references has lines that are nobody's business.
        (SourceKind::References, mut found) => {
            found.skipped.iter_mut().for_each(|skipped| skipped.what.clear());
            found
        }
        (_, found) => found,
    })
}
