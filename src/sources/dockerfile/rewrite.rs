//! A Dockerfile with digests behind its tags, and every other byte as it was.

use std::collections::BTreeMap;
use std::ops::Range;

use super::read;
use crate::oci::{Digest, Reference};
use crate::sources::{Mention, Skipped};

/// What a rewrite comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The new text; the old one if something is unlocked.
    pub text: String,
    /// What no digest is known for. A frontend is none of them.
    pub unlocked: Vec<Mention>,
    /// What was left as it is: its name is built from variables, or the default of its `ARG` is
    /// used for more than this.
    pub left: Vec<Mention>,
    /// What could not be read.
    pub skipped: Vec<Skipped>,
}

/// Writes the digest behind each tag, `FROM alpine:3.19` as `FROM alpine:3.19@sha256:…`, and drops
/// `?immutable=1`. Where the default of an `ARG` is the whole reference, it is written there.
///
/// `locked` knows the digest of a tag; of a reference with a digest that one, if it may stand.
/// What comes out is read again: each digest stands where it was meant, or is not written.
pub fn rewrite(
    text: &str,
    arguments: &BTreeMap<String, String>,
    locked: impl Fn(&Reference) -> Option<Digest>,
) -> Rewritten {
    let found = read(text, arguments);
    let mut rewritten = Rewritten {
        text: text.to_owned(),
        unlocked: Vec::new(),
        left: Vec::new(),
        skipped: found.skipped,
    };
    let mut wanted = Vec::new();
    for mention in found.mentions {
        match locked(&mention.reference) {
            Some(digest) => wanted.push((mention, Some(digest))),
            None if mention.is_frontend => wanted.push((mention, None)),
            None => rewritten.unlocked.push(mention),
        }
    }
    if !rewritten.unlocked.is_empty() {
        return rewritten;
    }
    for takes_defaults in [true, false] {
        let new = apply(text, &wanted, takes_defaults);
        if let Some(left) = check(&new, arguments, &wanted) {
            return Rewritten { text: new, left, ..rewritten };
        }
    }
    // Nothing can be written without changing what else the file means.
    rewritten.left = wanted.into_iter().map(|(mention, _)| mention).collect();
    rewritten
}

/// The text with the digests where their references are written.
fn apply(text: &str, wanted: &[(Mention, Option<Digest>)], takes_defaults: bool) -> String {
    let mut edits: BTreeMap<usize, (Range<usize>, String)> = BTreeMap::new();
    for (mention, digest) in wanted {
        let default = mention.default_span.clone().filter(|_| takes_defaults);
        if let Some(span) = mention.span.clone().or(default) {
            let new = named(&text[span.clone()], &mention.reference, *digest);
            edits.insert(span.start, (span, new));
        }
    }
    let (mut new, mut at) = (String::with_capacity(text.len()), 0);
    for (span, name) in edits.into_values() {
        new.push_str(&text[at..span.start]);
        new.push_str(&name);
        at = span.end;
    }
    new + &text[at..]
}

/// A reference as it is written, with the digest behind it, and without a query.
fn named(written: &str, reference: &Reference, digest: Option<Digest>) -> String {
    let name = written.split('?').next().unwrap_or_default();
    match digest {
        Some(digest) if reference.digest.is_none() => {
            let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
            let tag = if has_tag { "" } else { ":latest" };
            format!("{name}{tag}@{digest}")
        }
        _ => name.to_owned(),
    }
}

/// Reads what was written: each image is what it was, with its digest or as it was; those without
/// it are returned. `None` if it names anything else.
fn check(
    new: &str,
    arguments: &BTreeMap<String, String>,
    wanted: &[(Mention, Option<Digest>)],
) -> Option<Vec<Mention>> {
    let found = read(new, arguments).mentions;
    if found.len() != wanted.len() {
        return None;
    }
    let mut left = Vec::new();
    for (now, (before, digest)) in found.iter().zip(wanted) {
        let pinned =
            Reference { digest: digest.or(before.reference.digest), ..before.reference.clone() };
        if now.reference == before.reference && pinned != before.reference {
            left.push(before.clone());
        } else if now.reference != pinned {
            return None;
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests;
