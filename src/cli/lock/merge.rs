//! What becomes of a lock file: a pure function of what it has, what is wanted and what was
//! answered.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::exit::Code;
use crate::lockfile::{LockFile, Locked};
use crate::oci::{Digest, Reference};

/// What is resolved again though it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Everything.
    All,
    /// Nothing: what is there stays.
    Nothing,
    /// These.
    Only(BTreeSet<Reference>),
}

/// What the lock file should have.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// What is named, by a source or on the command line, and whether as immutable.
    pub(super) wanted: BTreeMap<Reference, bool>,
    /// What stands for a reference by the word of another list: nobody is asked then.
    pub(super) given: BTreeMap<Reference, Answer>,
    pub(super) update: Update,
    /// What no source names goes.
    pub(super) prunes: bool,
}

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) digest: Digest,
    /// How it is known, if there is something to say.
    pub(super) remark: Option<String>,
    /// What speaks against it.
    pub(super) conflict: Option<String>,
}

/// What happens to one reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Change {
    #[serde(rename = "change")]
    pub(super) kind: Kind,
    pub(super) reference: String,
    /// What it stands for from now on; what it stood for, if it is gone.
    pub(super) digest: Digest,
    /// What it stood for, if that was something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) was: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// It is new.
    Added,
    /// Two sources of truth disagree; the remark says which.
    Conflict,
    /// It is immutable from now on.
    Marked,
    /// It stands for something else.
    Moved,
    /// It is gone.
    Removed,
}

/// What comes of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) images: BTreeMap<Reference, Locked>,
    /// In the order of the lock file.
    pub(super) changes: Vec<Change>,
    /// How many are kept that nothing names.
    pub(super) unnamed: usize,
}

impl Update {
    fn covers(&self, reference: &Reference) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Only(only) => only.contains(reference),
        }
    }
}

/// The references that somebody must be asked for: a digest stands for itself.
pub(super) fn open(old: &LockFile, wish: &Wish) -> Vec<Reference> {
    let new = wish.wanted.keys().filter(|reference| !old.images.contains_key(reference));
    let again = old.images.keys().filter(|reference| {
        wish.update.covers(reference) && (!wish.prunes || wish.wanted.contains_key(reference))
    });
    let is_open =
        |reference: &&Reference| reference.digest.is_none() && !wish.given.contains_key(reference);
    new.chain(again).filter(is_open).cloned().collect()
}

/// Merges. What [`open`] named has an answer in `answers`.
pub(super) fn merge(old: &LockFile, wish: &Wish, answers: &BTreeMap<Reference, Answer>) -> Merged {
    let all: BTreeMap<String, &Reference> = old
        .images
        .keys()
        .chain(wish.wanted.keys())
        .chain(wish.given.keys())
        .map(|reference| (reference.to_string(), reference))
        .collect();
    let mut merged = Merged::default();
    for reference in all.into_values() {
        let answer = answers.get(reference).cloned().or_else(|| given(wish, reference));
        let mark = wish.wanted.get(reference).copied();
        let is_named = mark.is_some() || wish.given.contains_key(reference);
        match (old.images.get(reference), answer) {
            (Some(locked), _) if !is_named && wish.prunes => {
                merged.tell(Kind::Removed, reference, locked.digest, None, None);
            }
            (Some(locked), answer) => {
                merged.unnamed += usize::from(!is_named);
                merged.keep(reference, *locked, mark == Some(true), (answer, wish));
            }
            (None, Some(answer)) => merged.add(reference, answer, mark == Some(true)),
            (None, None) => {}
        }
    }
    merged
}

fn given(wish: &Wish, reference: &Reference) -> Option<Answer> {
    let itself = || reference.digest.map(|digest| Answer { digest, remark: None, conflict: None });
    wish.given.get(reference).cloned().or_else(itself)
}

/// A conflict outweighs all else.
pub(super) fn code(changes: &[Change]) -> Code {
    let is_conflict = changes.iter().any(|change| change.kind == Kind::Conflict);
    if is_conflict { Code::Finding } else { Code::Ok }
}

impl Merged {
    fn add(&mut self, reference: &Reference, answer: Answer, is_immutable: bool) {
        let Answer { digest, remark, conflict } = answer;
        self.images.insert(reference.clone(), Locked { digest, is_immutable });
        let remark = remark.filter(|_| conflict.is_none());
        self.tell(Kind::Added, reference, digest, None, remark);
        if conflict.is_some() {
            self.tell(Kind::Conflict, reference, digest, None, conflict);
        }
    }

    /// What is there stays, unless an update moves it.
    fn keep(
        &mut self,
        reference: &Reference,
        locked: Locked,
        marks: bool,
        (answer, wish): (Option<Answer>, &Wish),
    ) {
        let is_immutable = locked.is_immutable || marks;
        let mut digest = locked.digest;
        if is_immutable && !locked.is_immutable {
            self.tell(Kind::Marked, reference, digest, None, None);
        }
        if let Some(answer) = answer {
            let source = answer.remark.as_deref().map(|it| format!(", {it}")).unwrap_or_default();
            let other = format!("it is {} now{source}", answer.digest);
            if answer.digest == digest {
                // It stands.
            } else if is_immutable {
                let words = format!("it is immutable and stays; {other}");
                self.tell(Kind::Conflict, reference, digest, None, Some(words));
            } else if wish.update.covers(reference) {
                let was = std::mem::replace(&mut digest, answer.digest);
                self.tell(Kind::Moved, reference, digest, Some(was), answer.remark);
            } else {
                let words = format!("it stays; {other}; --update takes that");
                self.tell(Kind::Conflict, reference, digest, None, Some(words));
            }
            if answer.conflict.is_some() {
                self.tell(Kind::Conflict, reference, digest, None, answer.conflict);
            }
        }
        self.images.insert(reference.clone(), Locked { digest, is_immutable });
    }

    fn tell(
        &mut self,
        kind: Kind,
        reference: &Reference,
        digest: Digest,
        was: Option<Digest>,
        remark: Option<String>,
    ) {
        let reference = reference.to_string();
        self.changes.push(Change { kind, reference, digest, was, remark });
    }
}

#[cfg(test)]
mod tests;
