//! Holds what clients got against what the ledger wrote down. After the sorting, in time linear in
//! the answers: invariants 2, 3 and 9.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Microseconds since 1970, by this machine's clock, which is immutag's too.
pub(super) type Micros = u64;

/// A whole, successful answer to a client.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) tag: String,
    /// Of the bytes, or what a HEAD says.
    pub(super) digest: String,
    pub(super) begun: Micros,
    pub(super) ended: Micros,
    /// Asked for by its digest: only a revocation stands against it.
    pub(super) is_by_digest: bool,
}

/// From then on, at the latest, the upstream may have answered the tag so.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) tag: String,
    pub(super) digest: String,
    pub(super) at: Micros,
}

/// What a person was told was done.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) what: Decided,
    /// The reason that was given: no other event has it.
    pub(super) why: String,
    pub(super) begun: Micros,
    pub(super) ended: Micros,
    /// Whether it was said that the ledger changed.
    pub(super) is_acknowledged: bool,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// Something about a tag.
    OfTag(String),
    /// A digest is denied.
    Revoked(String),
    /// It is no longer.
    Unrevoked(String),
}

/// An event of the ledger, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) why: String,
    pub(super) at: Micros,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) answers: Vec<Answer>,
    pub(super) moves: Vec<Move>,
    pub(super) decisions: Vec<Decision>,
    /// In the order of the ledger.
    pub(super) events: Vec<Event>,
}

/// What a tag stood for from an event on; `None`: for nothing.
struct Version {
    digest: Option<String>,
    at: Micros,
}

/// A tag's versions, and which of them clients and people know to have begun.
struct Tag {
    versions: Vec<Version>,
    known: usize,
}

/// Something happened, at its time.
enum Point<'a> {
    Begun(usize),
    Decided(&'a Decision),
    Ended(usize),
}

impl History {
    /// All that must not be, in words.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut tags = self.versions(&mut found);
        self.check_order(&mut tags, &mut found);
        self.check_sources(&mut found);
        self.check_decisions(&mut found);
        self.check_revoked(&mut found);
        found
    }

    /// Each tag's pins, one after the other. Invariant 9: a first sight needs a tag without a pin.
    fn versions(&self, found: &mut Vec<String>) -> BTreeMap<String, Tag> {
        let mut tags = BTreeMap::<String, Tag>::new();
        for event in &self.events {
            let Some(tag) = &event.tag else { continue };
            let nothing = || Tag { versions: vec![Version { digest: None, at: 0 }], known: 0 };
            let versions = &mut tags.entry(tag.clone()).or_insert_with(nothing).versions;
            let digest = match event.kind.as_str() {
                "accepted" | "approved" | "confirmed" | "extended" | "followed" | "pinned" => {
                    event.digest.clone()
                }
                "forgotten" => None,
                _ => continue,
            };
            let before = versions.last().and_then(|last| last.digest.as_ref());
            if event.kind == "pinned" && before.is_some() {
                found.push(format!("a second first sight: {event:?}, after {before:?}"));
            }
            versions.push(Version { digest, at: event.at });
        }
        tags
    }

    /// Invariants 2 and 3: each answer is of a version that was written down before its end, and
    /// that is not older than one which somebody knew of before its begin.
    fn check_order(&self, tags: &mut BTreeMap<String, Tag>, found: &mut Vec<String>) {
        let mut known_at_begin = vec![0; self.answers.len()];
        for (_, _, point) in self.points() {
            match point {
                Point::Begun(at) => {
                    let known = tags.get(&self.answers[at].tag).map_or(0, |tag| tag.known);
                    known_at_begin[at] = known;
                }
                Point::Decided(decision) => self.learn(tags, decision),
                Point::Ended(at) => {
                    let answer = &self.answers[at];
                    let is_it = |version: &Version| {
                        version.at <= answer.ended
                            && version.digest.as_ref() == Some(&answer.digest)
                    };
                    let from = known_at_begin[at];
                    let tag = tags.get_mut(&answer.tag);
                    let version = tag.and_then(|tag| {
                        let later = tag.versions[from..].iter().position(is_it)?;
                        tag.known = tag.known.max(from + later);
                        Some(())
                    });
                    if version.is_none() {
                        found.push(format!(
                            "no pin in the ledger from version {from} on: {answer:?}"
                        ));
                    }
                }
            }
        }
    }

    /// Everything in the order of time; what begins at the same moment as something ends did not
    /// know of it.
    fn points(&self) -> Vec<(Micros, u8, Point<'_>)> {
        let mut points = Vec::new();
        for (at, answer) in self.answers.iter().enumerate().filter(|(_, it)| !it.is_by_digest) {
            points.push((answer.begun, 0, Point::Begun(at)));
            points.push((answer.ended, 1, Point::Ended(at)));
        }
        let told = self.decisions.iter().filter(|decision| decision.is_acknowledged);
        points.extend(told.map(|decision| (decision.ended, 1, Point::Decided(decision))));
        points.sort_by_key(|(time, order, _)| (*time, *order));
        points
    }

    /// Who was told of a decision knows that its version has begun.
    fn learn(&self, tags: &mut BTreeMap<String, Tag>, decision: &Decision) {
        let Decided::OfTag(name) = &decision.what else { return };
        let Some(tag) = tags.get_mut(name) else { return };
        let makes_version =
            |event: &&Event| matches!(event.kind.as_str(), "approved" | "forgotten");
        let Some(event) =
            self.events.iter().filter(makes_version).find(|it| it.why == decision.why)
        else {
            return;
        };
        let begins = |version: &Version| version.at == event.at && version.digest == event.digest;
        if let Some(version) = tag.versions.iter().position(begins) {
            tag.known = tag.known.max(version);
        }
    }

    /// Whatever was answered or pinned, the upstream had answered before.
    fn check_sources(&self, found: &mut Vec<String>) {
        let mut first = HashMap::<(&str, &str), Micros>::new();
        for Move { tag, digest, at } in &self.moves {
            let first = first.entry((tag, digest)).or_insert(*at);
            *first = (*first).min(*at);
        }
        let had = |tag: &str, digest: &str, by: Micros| {
            first.get(&(tag, digest)).is_some_and(|first| *first <= by)
        };
        for answer in self.answers.iter().filter(|answer| !answer.is_by_digest) {
            if !had(&answer.tag, &answer.digest, answer.ended) {
                found.push(format!("the upstream never had that: {answer:?}"));
            }
        }
        for event in &self.events {
            if let (Some(tag), Some(digest)) = (&event.tag, &event.digest) {
                // The ledger's times are of a millisecond.
                if !had(tag, digest, event.at + 1000) {
                    found.push(format!("the upstream never had that: {event:?}"));
                }
            }
        }
    }

    /// What a person was told was done is in the ledger.
    fn check_decisions(&self, found: &mut Vec<String>) {
        let written: HashSet<&str> = self.events.iter().map(|event| event.why.as_str()).collect();
        for decision in self.decisions.iter().filter(|decision| decision.is_acknowledged) {
            if !written.contains(decision.why.as_str()) {
                found.push(format!("acknowledged, and lost: {decision:?}"));
            }
        }
    }

    /// A denied digest is given to nobody who asks after that was said, until it is taken back.
    fn check_revoked(&self, found: &mut Vec<String>) {
        let mut denied = HashMap::<&str, Vec<(Micros, Micros)>>::new();
        for decision in &self.decisions {
            match &decision.what {
                Decided::Revoked(digest) if decision.is_acknowledged => {
                    denied.entry(digest).or_default().push((decision.ended, Micros::MAX));
                }
                // Whether it was acknowledged or not: from its begin on nothing is sure.
                Decided::Unrevoked(digest) => {
                    for (_, end) in denied.entry(digest).or_default() {
                        *end = (*end).min(decision.begun);
                    }
                }
                _ => {}
            }
        }
        for answer in &self.answers {
            let spans = denied.get(answer.digest.as_str()).map_or(&[][..], Vec::as_slice);
            if spans.iter().any(|(from, to)| *from <= answer.begun && answer.ended <= *to) {
                found.push(format!("given though revoked: {answer:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
