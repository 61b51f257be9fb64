//! What a person or a program is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};

use super::super::exit::Code;
use super::super::output::Printer;
use super::super::table::{escape, short};
use super::file::LockPath;
use super::gather::{Gathered, Wanted};
use super::merge::{Change, Kind};
use super::platform;
use super::resolve::{Answers, Failures};
use crate::lockfile::LockFile;
use crate::oci::Reference;

/// How much of what could not be read is named one by one.
const SKIPPED: usize = 200;

/// How many platforms of an index are named.
const PLATFORMS: usize = 12;

/// Tells what could not be read in the sources, and which tag says nothing beside its digest.
pub(super) fn remarks(gathered: &Gathered, lock: &LockFile) {
    for skipped in gathered.skipped.iter().take(SKIPPED) {
        aside(&format!("not read: {skipped}"));
    }
    if gathered.skipped.len() > SKIPPED {
        aside(&format!("not read: {} more", gathered.skipped.len() - SKIPPED));
    }
    for (reference, wanted) in &gathered.wanted {
        for mentioned in &wanted.places {
            let Some(tag) = &mentioned.idle_tag else { continue };
            let tagged = Reference { tag: Some(tag.clone()), digest: None, ..reference.clone() };
            let Some(locked) = lock.images.get(&tagged) else { continue };
            if Some(locked.digest) != reference.digest {
                aside(&format!(
                    "{mentioned}: {tagged} is named with {reference}, the lock file has {} for \
                     that tag; clients ask for the digest that is named",
                    locked.digest
                ));
            }
        }
    }
}

/// Tells where a platform is asked for that an image does not have.
pub(super) fn platforms(answers: &Answers, wanted: &BTreeMap<Reference, Wanted>) {
    for (reference, (_, manifest)) in answers {
        let (Some(manifest), Some(wanted)) = (manifest, wanted.get(reference)) else { continue };
        for mentioned in &wanted.places {
            let platform = mentioned.platform.as_deref().unwrap_or_default();
            let Some(has) = platform::missing(platform, manifest) else { continue };
            let has: BTreeSet<_> = has.into_iter().collect();
            let named: Vec<_> = has.iter().take(PLATFORMS).map(String::as_str).collect();
            let more = if has.len() > PLATFORMS { ", …" } else { "" };
            let named = named.join(", ");
            aside(&format!("{mentioned}: {reference} has no {platform}, only {named}{more}"));
        }
    }
}

/// Tells which references have no digest, and that nothing was written; the exit code for that.
pub(super) fn failures(failures: &Failures, wanted: &BTreeMap<Reference, Wanted>) -> Code {
    for (reference, failure) in failures {
        let at = wanted.get(reference).map(places).filter(|at| !at.is_empty());
        let at = at.map(|at| format!(" ({at})")).unwrap_or_default();
        aside(&format!("error: {reference}{at}: {}", failure.why));
    }
    aside("nothing was written");
    [Code::Finding, Code::Unreachable]
        .into_iter()
        .find(|code| failures.iter().any(|(_, failure)| failure.code == *code))
        .unwrap_or(Code::Failure)
}

/// Prints the changes: as a diff for people, as lines of JSON for programs.
pub(super) fn changes(printer: &mut Printer, changes: &[Change]) -> io::Result<()> {
    for change in changes {
        if printer.is_json {
            printer.json(change)?;
        } else {
            printer.line(&escape(&line(change)))?;
        }
    }
    printer.flush()
}

fn line(change: &Change) -> String {
    let Change { kind, reference, digest, was, remark } = change;
    let remark = remark.as_deref().unwrap_or_default();
    let behind = if remark.is_empty() { String::new() } else { format!("  ({remark})") };
    match kind {
        Kind::Added => format!("+ {reference} {digest}{behind}"),
        Kind::Conflict => format!("! {reference} {digest}: {remark}"),
        Kind::Marked => format!("~ {reference} is immutable from now on"),
        Kind::Moved => {
            let was = was.as_ref().map(short).unwrap_or_default();
            format!("~ {reference} {was} -> {digest}{behind}")
        }
        Kind::Removed => format!("- {reference} {digest}"),
    }
}

/// Says what the file is now.
pub(super) fn summary(
    lock: &LockPath,
    new: &LockFile,
    unnamed: usize,
    (is_written, is_dry_run): (bool, bool),
) {
    let state = match (is_written, is_dry_run) {
        (true, _) => "written",
        (false, true) => "not written (--dry-run)",
        (false, false) => "as it was",
    };
    let references = references(new.images.len());
    aside(&format!("{}: {state}; {references}", lock.path.display()));
    if unnamed > 0 && !new.sources.is_empty() {
        let are = if unnamed == 1 { "is" } else { "are" };
        aside(&format!("{unnamed} of them {are} named by no source; `--prune` takes that out"));
    }
}

/// How many there are.
pub(super) fn references(count: usize) -> String {
    format!("{count} {}", if count == 1 { "reference" } else { "references" })
}

/// The first places of an image.
pub(super) fn places(wanted: &Wanted) -> String {
    let first: Vec<_> = wanted.places.iter().take(3).map(ToString::to_string).collect();
    let more = if wanted.places.len() > first.len() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// Beside the output, for whoever reads along.
pub(super) fn aside(text: &str) {
    // Standard error is gone: the exit code is what is left.
    let _ = writeln!(io::stderr(), "{}", escape(text));
}
