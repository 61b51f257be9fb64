//! Where a person finds an image in the project: the lines of the files that the lock file was made
//! from.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::lockfile::{LOCK_BYTES, LockFile};
use crate::oci::Reference;
use crate::printable::escape_within;
use crate::sources;

/// The largest source file, in bytes.
const SOURCE_BYTES: u64 = 8 << 20;

/// The most places that are kept of one image.
const PLACES: usize = 100;

/// The longest path that is shown, in characters.
const PATH: usize = 1024;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    /// As seen from the working directory, if it lies there; escaped.
    pub(super) path: String,
    /// From 1.
    pub(super) line: u64,
    /// In characters, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<u64>,
}

/// Where images are named.
#[derive(Debug, Default)]
pub(super) struct Places {
    named: HashMap<Reference, Vec<Place>>,
    entries: HashMap<Reference, u64>,
    lock: Option<String>,
    /// Sources that could not be read, and why; escaped.
    pub(super) unread: Vec<String>,
}

impl Places {
    /// Reads the lock file for its sources, these, and `more` of them.
    pub(super) fn read(lock: Option<&Path>, more: &[PathBuf], working_dir: &Path) -> Self {
        let mut places = Self::default();
        let shown = |path: &Path| {
            let within = path.strip_prefix(working_dir).unwrap_or(path);
            escape_within(&within.to_string_lossy(), PATH)
        };
        let mut sources = Vec::new();
        if let Some(path) = lock {
            places.lock = Some(shown(path));
            match places.take_lock(path) {
                Ok(named) => {
                    let folder = path.parent().unwrap_or(working_dir);
                    for path in named.iter().map(|source| plainly(&folder.join(source))) {
                        if leads_out(&path, [folder, working_dir]) {
                            let words = "it leads out of the project; name it with --source";
                            places.unread.push(format!("{}: {words}", shown(&path)));
                        } else {
                            sources.push(path);
                        }
                    }
                }
                Err(error) => {
                    let words = escape_within(&error.to_string(), 200);
                    places.unread.push(format!("{}: {words}", shown(path)));
                }
            }
        }
        sources.extend(more.iter().map(|source| plainly(&working_dir.join(source))));
        sources.sort();
        sources.dedup();
        for path in sources {
            let name = shown(&path);
            if let Err(error) = places.take_source(&path, &name) {
                places.unread.push(format!("{name}: {}", escape_within(&error.to_string(), 200)));
            }
        }
        places
    }

    /// Where an image is named; else where the lock file has it; else the lock file's first line.
    /// Nowhere, if there is no lock file.
    pub(super) fn of(&self, reference: &Reference) -> Vec<Place> {
        if let Some(places) = self.named.get(reference) {
            return places.clone();
        }
        let path = self.lock.clone();
        let line = self.entries.get(reference).copied().unwrap_or(1);
        path.map(|path| Place { path, line, column: None }).into_iter().collect()
    }

    /// The lock file's first line.
    pub(super) fn lock(&self) -> Option<Place> {
        let path = self.lock.clone();
        path.map(|path| Place { path, line: 1, column: None })
    }

    /// The lock file's sources.
    fn take_lock(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let text = read(path, LOCK_BYTES as u64)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let file = LockFile::parse(text.as_bytes()).map_err(invalid)?;
        for (line, text) in (1..).zip(text.lines()) {
            // Any key of the right form will do: the file is valid, and only a place is sought.
            let key = text.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            if let Some(reference) = key.and_then(|(key, _)| key.parse().ok()) {
                self.entries.entry(reference).or_insert(line);
            }
        }
        Ok(file.sources)
    }

    fn take_source(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let text = read(path, SOURCE_BYTES)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let (_, found) = sources::read(&text).map_err(invalid)?;
        for mention in found.mentions {
            let (line, column) = (mention.line, Some(mention.column));
            let place = Place { path: name.to_owned(), line, column };
            let Reference { tag, digest, .. } = mention.reference.clone();
            let of = |tag, digest| Reference { tag, digest, ..mention.reference.clone() };
            match (tag, digest) {
                // Clients ask for the digest alone, and the lock file may have it as the tag's.
                (Some(tag), Some(digest)) => {
                    self.add(of(Some(tag), None), place.clone());
                    self.add(of(None, Some(digest)), place);
                }
                (None, Some(digest)) => self.add(of(None, Some(digest)), place),
                (_, None) => self.add(of(Some(mention.reference.tag_or_latest()), None), place),
            }
        }
        Ok(())
    }

    fn add(&mut self, reference: Reference, place: Place) {
        let places = self.named.entry(reference).or_default();
        if places.len() < PLACES && !places.contains(&place) {
            places.push(place);
        }
    }
}

/// Whether a path that the lock file names leads out of these folders. A pull request can bring a
/// lock file that names anything, and links to anything: what a runner has elsewhere is not looked
/// at. What is not there leads nowhere, and is told as that.
fn leads_out(path: &Path, folders: [&Path; 2]) -> bool {
    let is_below = |path: &Path| {
        folders.iter().filter_map(|it| it.canonicalize().ok()).any(|it| path.starts_with(it))
    };
    match path.canonicalize() {
        Ok(real) => !is_below(&real),
        Err(_) => !folders.iter().any(|it| path.starts_with(it)),
    }
}

/// A path without `.` and `..`, as far as it can be known without looking.
fn plainly(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// A file's text. Whatever lies there is no reason to wait: a pipe is no file.
fn read(path: &Path, most: u64) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    let length = file.take(most + 1).read_to_string(&mut text)?;
    if length as u64 > most {
        let words = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(text)
}
