//! What changed between two manifests of one tag, and how alarming that looks: pure.
//!
//! Everything here rests on bytes that hash to a digest, as far as they are at hand, and says what
//! was not. The outcome is a hint for whoever decides, never a verdict. What an image says of
//! itself (labels, annotations, dates, names of sources) is its publisher's text, who may be the
//! attacker: it can make a change look worse, nothing in it makes one look better. All of it is
//! escaped and cut ([`Shown`]), and the lists of it are short ([`Few`]).

mod attached;
mod config;
mod findings;
mod image;
mod json;
mod judge;
mod layers;
mod material;
mod platforms;
mod read;

pub use attached::{Attached, Presence, Signatures};
pub use config::CONFIG_LIMIT;
pub use image::{ConfigChange, FieldChange, ImageChange, OriginChange};
pub use layers::{LayerChange, LayerKind};
pub use material::{Material, Wanted, wanted};
pub use platforms::PlatformChange;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::findings::Findings;
use self::read::Read;
use crate::oci::Digest;
use crate::pin::{Content, TagState};
use crate::printable::{Shown, escape_within};

/// How many entries of a list are shown.
pub const FEW: usize = 12;

/// The most characters of a [`Triage::summary`].
pub const SUMMARY_LIMIT: usize = 300;

/// What is to be known first of a conflict with a pin that proves little.
pub const YOUNG_PIN: &str = "the pin is younger than 72 h: it may itself be the hostile one";

/// How many platforms of an index are looked into.
pub const PLATFORMS_LOOKED_INTO: usize = 4;

/// How alarming a change looks. A hint: an attacker can make a change look harmless, and a
/// publisher an honest one look bad.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// By their digests, clients run what they ran before.
    #[default]
    Low,
    /// Other content: an ordinary rebuild looks so, and a careful attack.
    Medium,
    /// Signs that an ordinary rebuild seldom has.
    High,
    /// Several such signs at once.
    Critical,
}

/// A bounded list: the first of it, and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Few<T> {
    /// At most [`FEW`].
    pub some: Vec<T>,
    /// How many were left out.
    pub more: usize,
}

/// One side of a comparison: a manifest that was served, or that the upstream answers.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What it is called; its bytes hash to its digest.
    pub content: &'a Content,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What is compared, and what is known besides.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What the tag stood for.
    pub before: Side<'a>,
    /// What it stands for now, or would.
    pub after: Side<'a>,
    /// Manifests and configs below them, as far as they are at hand.
    pub material: &'a Material,
    /// What is attached to both, if that was asked.
    pub signatures: Option<&'a Signatures>,
    /// Whether `before` was first seen so lately that it proves little.
    pub is_young: bool,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What changed, and how alarming it looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Triage {
    /// What the tag stood for.
    pub before: Digest,
    /// What it stands for now, or would.
    pub after: Digest,
    /// How alarming it looks: a hint, never a verdict.
    pub severity: Severity,
    /// Why, the worst first: short sentences, escaped.
    pub reasons: Vec<String>,
    /// The manifests' media types, if they differ.
    pub media_type: Option<FieldChange>,
    /// The platforms of two indexes.
    pub platforms: Option<PlatformChange>,
    /// What changed in images: those of the platforms that were looked into.
    pub images: Vec<ImageChange>,
    /// What the indexes say of their origin, where that differs.
    pub origin: Vec<OriginChange>,
    /// What is attached to both; `None` if nobody asked.
    pub signatures: Option<Signatures>,
    /// What could not be looked at, in words.
    pub unseen: Few<String>,
}

/// Compares.
pub fn compare(case: &Case<'_>) -> Triage {
    let mut triage = Triage {
        before: case.before.content.digest,
        after: case.after.content.digest,
        severity: Severity::Low,
        reasons: Vec::new(),
        media_type: FieldChange::between(
            "media type",
            Some(case.before.content.media_type.as_str()),
            Some(case.after.content.media_type.as_str()),
        ),
        platforms: None,
        images: Vec::new(),
        origin: Vec::new(),
        signatures: case.signatures.copied(),
        unseen: Few::default(),
    };
    let mut findings = Findings::default();
    let sides = [case.before, case.after].map(|side| Read::of(side.content, side.bytes));
    match &sides {
        [Ok(before), Ok(after)] => {
            platforms::compare(before, after, case, &mut triage, &mut findings);
        }
        _ => judge::unreadable(&sides, &mut findings),
    }
    judge::whole(case, &triage, &mut findings);
    (triage.severity, triage.reasons) = findings.conclude();
    triage
}

impl Triage {
    /// Severity and reasons on one line of at most [`SUMMARY_LIMIT`] characters, escaped.
    ///
    /// That the pin is young comes first: it turns round what the rest means.
    pub fn summary(&self) -> String {
        let is_young = self.reasons.iter().any(|reason| reason == YOUNG_PIN);
        let reasons = self.reasons.iter().map(String::as_str).filter(|it| *it != YOUNG_PIN);
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        let first = if is_young { format!("{YOUNG_PIN}; ") } else { String::new() };
        escape_within(&format!("{first}looks {} (a hint): {reasons}", self.severity), SUMMARY_LIMIT)
    }
}

/// What there is to compare at a tag, before and after: what it stands for, and what the upstream
/// answers instead; where nothing is open, what it stood for, and what it stands for.
pub fn subjects(state: &TagState) -> Option<(Digest, Digest)> {
    let standing = state.standing()?.content.digest;
    let open = state.conflict.as_ref().map(|open| open.observed);
    if let Some(observed) = open.filter(|observed| *observed != standing) {
        return Some((standing, observed));
    }
    let served = state.seen.iter().rev().filter(|seen| seen.was_served);
    let last = served.map(|seen| seen.content.digest).find(|digest| *digest != standing);
    state.followed_from.or(last).map(|before| (before, standing))
}

impl Severity {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Low => "low",
            Self::Medium => "medium",
        }
    }

    /// The next one up.
    pub(self) const fn worse(self) -> Self {
        match self {
            Self::Critical | Self::High => Self::Critical,
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { some: Vec::new(), more: 0 }
    }
}

impl<T> Few<T> {
    /// Whether there is nothing, not even left out.
    pub const fn is_empty(&self) -> bool {
        self.some.is_empty() && self.more == 0
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.some.len() + self.more
    }

    fn push(&mut self, one: T) {
        if self.some.len() < FEW { self.some.push(one) } else { self.more += 1 }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut few = Self::default();
        all.into_iter().for_each(|one| few.push(one));
        few
    }
}

impl fmt::Display for Few<Shown> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.some.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { ", " } else { "" }, one.named())?;
        }
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
