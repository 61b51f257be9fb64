//! Who is asked for a tag, in order, and what that comes to.

use crate::cli::doctor::address::{Address, Source};
use crate::cli::doctor::finding::Standing;
use crate::oci::Registry;

/// What is said where nothing is to be done.
pub(super) const WELL: &str = "nobody but immutag is asked";

/// One that is asked for an image.
pub(super) struct Asked {
    pub(super) line: usize,
    pub(super) location: String,
    pub(super) source: Source,
    /// Whether it is asked by the scheme that it speaks, as far as it is immutag's.
    pub(super) is_spoken: bool,
    pub(super) is_mirror: bool,
}

/// A standing, the line that makes it, and why.
pub(super) type Judgement = (Standing, usize, String);

/// Judges those that are asked, the location last, for what begins with this prefix.
pub(super) fn judge(all: &[Asked], prefix: &str) -> Judgement {
    let Some(at) = all.iter().position(|asked| asked.source == Source::Other) else {
        return closed(all, prefix);
    };
    let (before, other) = (&all[..at], &all[at]);
    let Some(ours) = before.iter().find(|asked| asked.answers()) else { return open(all, other) };
    if ours.source == Source::Direct {
        let what = "immutag's direct listener is a mirror here: it refuses plainly, and then the \
                    registry is asked";
        return (Standing::Bypassable, ours.line, what.to_owned());
    }
    let what = format!("a mirror falls back: {} is asked after it", other.location);
    (Standing::HoldOnly, ours.line, what)
}

/// Somebody else is asked first.
fn open(all: &[Asked], other: &Asked) -> Judgement {
    let location = &other.location;
    let leads_to_us = all.last().is_some_and(|last| last.source != Source::Other);
    let what = match unspoken(all) {
        _ if other.is_mirror && leads_to_us => {
            format!("the mirror {location} is asked before immutag")
        }
        Some(why) => format!("{location} is asked: {why}"),
        None => format!("{location} is asked, and immutag is not"),
    };
    (Standing::Bypassable, other.line, what)
}

/// Nobody else is asked.
fn closed(all: &[Asked], prefix: &str) -> Judgement {
    let line = all.last().map_or(1, |asked| asked.line);
    let Some(ours) = all.iter().find(|asked| asked.answers()) else {
        let why = unspoken(all).unwrap_or("nobody answers there");
        return (Standing::Protected, line, format!("pulls fail: {why}"));
    };
    let path = Address::parse(&ours.location).map_or(String::new(), |address| address.path);
    if !prefix.starts_with('*') && canonical(&path) != canonical(prefix) {
        let what = format!("immutag is asked for {path:?} in place of {prefix:?}");
        return (Standing::Protected, ours.line, what);
    }
    (Standing::Protected, line, WELL.to_owned())
}

impl Asked {
    /// Whether it is a listener of immutag, asked as it must be.
    fn answers(&self) -> bool {
        self.is_spoken && matches!(self.source, Source::Direct | Source::Mirror)
    }
}

/// Why immutag cannot be asked where it is named.
fn unspoken(all: &[Asked]) -> Option<&'static str> {
    let is_ours = |asked: &&Asked| matches!(asked.source, Source::Direct | Source::Mirror);
    let lost = all.iter().filter(is_ours).find(|asked| !asked.is_spoken);
    lost.map(|_| "immutag speaks plain http here and `insecure` is not true")
}

/// A prefix with its registry by the name that immutag has for it.
fn canonical(prefix: &str) -> String {
    let (name, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
    let registry: Option<Registry> = name.parse().ok();
    let name = registry.map_or_else(|| name.to_owned(), |registry| registry.to_string());
    format!("{name}/{rest}")
}
