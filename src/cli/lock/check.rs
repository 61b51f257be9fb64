//! `immutag lock --check`: whether the lock file has what its sources name. Nobody is asked.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::super::exit::Code;
use super::super::output::Printer;
use super::super::table::escape;
use super::file::LockPath;
use super::gather::{Gathered, Wanted, shown};
use super::tell::{self, aside};
use crate::lockfile::LockFile;
use crate::oci::Reference;

/// What is not as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Lack {
    found: What,
    /// The reference, or the source that cannot be read.
    what: String,
    /// Where it is named: `Dockerfile:3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    places: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// A source names it, the lock file does not have it.
    Missing,
    /// The lock file does not name this source.
    NewSource,
    /// The lock file has it, no source names it.
    Superfluous,
    /// `?immutable=1` stands behind it, and it is not marked.
    Unmarked,
    /// The source cannot be read.
    Unreadable,
}

/// Compares, tells, and says with which code that ends.
pub(super) fn check(
    printer: &mut Printer,
    lock: &LockPath,
    gathered: &Gathered,
    is_exact: bool,
) -> io::Result<Code> {
    let lacks = lacks(&lock.file, gathered);
    for lack in &lacks {
        if printer.is_json {
            printer.json(lack)?;
        } else {
            printer.line(&escape(&line(lack)))?;
        }
    }
    printer.flush()?;
    aside(&words(lock, &lacks, is_exact));
    Ok(if is_stale(&lacks, is_exact) { Code::Unlocked } else { Code::Ok })
}

/// What was added by hand is lawful, unless it was asked for exactness.
fn is_stale(lacks: &[Lack], is_exact: bool) -> bool {
    lacks.iter().any(|lack| is_exact || lack.found != What::Superfluous)
}

fn lacks(lock: &LockFile, gathered: &Gathered) -> Vec<Lack> {
    let Gathered { sources, wanted, unreadable, .. } = gathered;
    let unread = unreadable.iter().map(|it| {
        let why = Some(it.why.clone());
        Lack { found: What::Unreadable, what: shown(&it.source), places: Vec::new(), why }
    });
    let new = sources.iter().filter(|source| !lock.sources.contains(source));
    let new = new.map(|source| lack(What::NewSource, &shown(source), None));
    let sorted: BTreeMap<String, &Reference> =
        wanted.keys().chain(lock.images.keys()).map(|it| (it.to_string(), it)).collect();
    let entries = sorted.into_iter().filter_map(|(text, reference)| {
        match (wanted.get(reference), lock.images.get(reference)) {
            (Some(wanted), None) => Some(lack(What::Missing, &text, Some(wanted))),
            (Some(wanted), Some(locked)) if wanted.is_immutable && !locked.is_immutable => {
                Some(lack(What::Unmarked, &text, Some(wanted)))
            }
            (None, Some(_)) => Some(lack(What::Superfluous, &text, None)),
            _ => None,
        }
    });
    unread.chain(new).chain(entries).collect()
}

fn lack(found: What, what: &str, wanted: Option<&Wanted>) -> Lack {
    let places = wanted.map(|wanted| wanted.places.iter().map(ToString::to_string).collect());
    Lack { found, what: what.to_owned(), places: places.unwrap_or_default(), why: None }
}

fn line(lack: &Lack) -> String {
    let Lack { found, what, places, why } = lack;
    let at = places.first().map(|first| {
        let more = places.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(" ({first}{more})")
    });
    let at = at.unwrap_or_default();
    match found {
        What::Missing => format!("missing: {what}{at}"),
        What::NewSource => format!("not a source of the lock file yet: {what}"),
        What::Superfluous => format!("named by no source: {what}"),
        What::Unmarked => format!("not marked as immutable: {what}{at}"),
        What::Unreadable => {
            format!("unreadable: {what}: {}", why.as_deref().unwrap_or_default())
        }
    }
}

fn words(lock: &LockPath, lacks: &[Lack], is_exact: bool) -> String {
    let (name, count) = (lock.path.display(), lock.file.images.len());
    match (is_stale(lacks, is_exact), lock.exists()) {
        (true, false) => format!("{name} is not there: run `immutag lock`, and commit it"),
        (true, true) if is_exact => {
            format!("{name} is stale: run `immutag lock --prune`, and commit what it changes")
        }
        (true, true) if lacks.iter().any(|lack| lack.found == What::NewSource) => format!(
            "{name} is stale: run `immutag lock` with the same files, and commit what it changes"
        ),
        (true, true) => format!("{name} is stale: run `immutag lock`, and commit what it changes"),
        (false, _) => {
            let sources = match lock.file.sources.len() {
                1 => "source names".to_owned(),
                sources => format!("{sources} sources name"),
            };
            format!("{name} has all that its {sources}; {}", tell::references(count))
        }
    }
}
