//! What speaks for a severity, and what all of it comes to.

use super::{FEW, Severity};
use crate::printable::{Shown, escape_within};

/// The most characters of a reason.
const REASON_LIMIT: usize = 400;

/// What a finding is about. Several kinds of high ones at once are critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What runs, and as whom.
    Command,
    /// When it was built, as it says.
    Date,
    /// What it consists of.
    Layers,
    /// Anything else.
    Other,
    /// Where it comes from, as it says.
    Source,
    /// Who vouches for it.
    Vouching,
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Command => "what runs",
            Self::Date => "the date",
            Self::Layers => "the layers",
            Self::Other => "the manifest",
            Self::Source => "the source",
            Self::Vouching => "the signatures",
        }
    }
}

struct Finding {
    severity: Severity,
    kind: Kind,
    words: String,
    /// In which platforms' images, if not in the whole.
    platforms: Vec<Shown>,
}

/// All that was found.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds what was found in the whole.
    pub(super) fn add(&mut self, severity: Severity, kind: Kind, words: impl Into<String>) {
        self.add_in(None, severity, kind, words);
    }

    /// Adds what was found in the image of a platform; what is found in several is one finding.
    pub(super) fn add_in(
        &mut self,
        platform: Option<&Shown>,
        severity: Severity,
        kind: Kind,
        words: impl Into<String>,
    ) {
        let words = words.into();
        let mut same = self.0.iter_mut();
        let same = same.find(|it| it.severity == severity && it.kind == kind && it.words == words);
        match (same, platform) {
            (Some(same), Some(platform)) if !same.platforms.is_empty() => {
                if !same.platforms.contains(platform) {
                    same.platforms.push(platform.clone());
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                let platforms = platform.cloned().into_iter().collect();
                self.0.push(Finding { severity, kind, words, platforms });
            }
        }
    }

    /// Whether nothing was found.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The worst severity so far.
    pub(super) fn worst(&self) -> Severity {
        self.0.iter().map(|finding| finding.severity).max().unwrap_or_default()
    }

    /// The kinds that have a high finding.
    pub(super) fn high_kinds(&self) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        for finding in self.0.iter().filter(|finding| finding.severity >= Severity::High) {
            if !kinds.contains(&finding.kind.words()) {
                kinds.push(finding.kind.words());
            }
        }
        kinds
    }

    /// The severity of all, and the reasons, the worst first, bounded.
    pub(super) fn conclude(mut self) -> (Severity, Vec<String>) {
        let severity = self.worst();
        self.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let more = self.0.len().saturating_sub(FEW);
        let mut reasons: Vec<_> = self.0.iter().take(FEW).map(Finding::text).collect();
        if more > 0 {
            reasons.push(format!("and {more} lesser reasons more"));
        }
        (severity, reasons)
    }
}

impl Finding {
    fn text(&self) -> String {
        let platforms: Vec<_> = self.platforms.iter().map(Shown::named).collect();
        let glue = if platforms.is_empty() { "" } else { ": " };
        escape_within(&format!("{}{glue}{}", platforms.join(", "), self.words), REASON_LIMIT)
    }
}
