//! Reading the files: streaming, in bounded memory, while they are written or with no server at
//! all. A line that is torn, or none of ours, is left out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use regex::bytes::Regex;

use super::folder::{Name, date_of, list};
use super::line::{LINE_LIMIT, Pulled};
use super::subject::Outcome;
use crate::oci::{Digest, Reference};

/// Which entries are wanted. The default lets all through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these was given, asked for, or kept from the client; empty: any.
    pub digests: Vec<Digest>,
    /// This tag, or this repository's digest, was asked for.
    pub reference: Option<Reference>,
    /// The last of its requests came at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// This client asked.
    pub client: Option<IpAddr>,
    /// Something was given.
    pub only_given: bool,
    /// Of the newest, all but the newest file is left out from this time on.
    pub until: Option<Instant>,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Files that were read.
    pub files: u64,
    /// Lines that might have been wanted, and were left out: torn, or not as this version writes
    /// them.
    pub skipped: u64,
}

/// Gives each entry of a folder that a filter lets through to `see`, the oldest first, until it
/// breaks. No folder: no entries.
pub fn walk(
    folder: &Path,
    filter: &Filter,
    mut see: impl FnMut(Pulled) -> io::Result<ControlFlow<()>>,
) -> io::Result<Walked> {
    let sieve = Sieve::new(filter);
    let mut walked = Walked::default();
    for name in sieve.files(folder)? {
        if read_file(&folder.join(name.to_string()), &sieve, &mut walked, &mut see)?.is_break() {
            break;
        }
    }
    Ok(walked)
}

/// The newest entries of a folder that a filter lets through, at most `limit`, the newest first.
pub fn newest(folder: &Path, filter: &Filter, limit: usize) -> io::Result<Vec<Pulled>> {
    let sieve = Sieve::new(filter);
    let (mut found, mut walked) = (Vec::new(), Walked::default());
    for name in sieve.files(folder)?.into_iter().rev() {
        let room = limit - found.len();
        let mut last = VecDeque::with_capacity(room.min(1024));
        let mut keep = |pulled| {
            if last.len() >= room {
                last.pop_front();
            }
            last.push_back(pulled);
            Ok(ControlFlow::Continue(()))
        };
        let is_late = walked.files > 0 && filter.until.is_some_and(|until| Instant::now() >= until);
        if room == 0 || is_late {
            break;
        }
        // Whatever it comes to, it does not end early.
        let _ = read_file(&folder.join(name.to_string()), &sieve, &mut walked, &mut keep)?;
        found.extend(last.into_iter().rev());
    }
    Ok(found)
}

/// A filter, and a pattern that every line has which it lets through.
struct Sieve<'a> {
    filter: &'a Filter,
    pattern: Option<Regex>,
}

impl<'a> Sieve<'a> {
    fn new(filter: &'a Filter) -> Self {
        let hexes = filter.digests.iter().map(Digest::hex).collect::<Vec<_>>();
        let pattern = match &filter.reference {
            _ if !hexes.is_empty() => Some(hexes.join("|")),
            Some(asked) => Some(regex::escape(asked.repository.as_str())),
            None => None,
        };
        Self { filter, pattern: pattern.and_then(|pattern| Regex::new(&pattern).ok()) }
    }

    /// The files that may have what is wanted, the oldest first.
    fn files(&self, folder: &Path) -> io::Result<Vec<Name>> {
        let first = self.filter.since_ms.map(date_of);
        let names = list(folder)?.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| first.is_none_or(|first| name.date >= first)).collect())
    }

    fn may_pass(&self, line: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(line))
    }
}

impl Filter {
    /// Whether an entry is wanted.
    pub fn passes(&self, pulled: &Pulled) -> bool {
        let digests = [pulled.digest, pulled.reference.digest, pulled.kept_from];
        let names = || digests.iter().flatten().any(|digest| self.digests.contains(digest));
        self.since_ms.is_none_or(|since| pulled.last_ms >= since)
            && self.client.is_none_or(|client| pulled.client == client.to_canonical())
            && (!self.only_given || pulled.outcome != Outcome::Refused)
            && self.reference.as_ref().is_none_or(|asked| is_same(asked, &pulled.reference))
            && (self.digests.is_empty() || names())
    }
}

/// A digest decides what is pulled, whatever the tag says.
fn is_same(asked: &Reference, pulled: &Reference) -> bool {
    asked.registry == pulled.registry
        && asked.repository == pulled.repository
        && asked.manifest_reference() == pulled.manifest_reference()
}

fn read_file(
    path: &Path,
    sieve: &Sieve<'_>,
    walked: &mut Walked,
    see: &mut impl FnMut(Pulled) -> io::Result<ControlFlow<()>>,
) -> io::Result<ControlFlow<()>> {
    let file = match File::open(path) {
        Ok(file) => file,
        // It was too old, meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(ControlFlow::Continue(()));
        }
        Err(error) => return Err(error),
    };
    walked.files += 1;
    let mut lines = Lines { reader: BufReader::with_capacity(128 << 10, file), line: Vec::new() };
    while let Some(line) = lines.next()? {
        if !sieve.may_pass(line) {
            continue;
        }
        match Pulled::read(line) {
            Some(pulled) if !sieve.filter.passes(&pulled) => {}
            Some(pulled) => {
                if see(pulled)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            None => walked.skipped += 1,
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The lines of a file, each of at most [`LINE_LIMIT`] bytes in memory.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line without its end; of one that is too long the begin.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let limit = LINE_LIMIT as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(&self.line))
    }
}
