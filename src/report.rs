//! What a run of the server gave to its clients: for the end of a CI job.
//!
//! Who asked for what and what came of it is the journal's; what a tag stands for, since when, and
//! what the upstream answers instead is the ledger's; what was to be served is the lock file's. A
//! report puts them together, one row for each image, and says whether its record is whole: a
//! report with a gap is no evidence.

mod conflicts;
mod family;
mod gather;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use gather::gather;

use crate::clock::Clock;
use crate::config::Config;
use crate::decide::Ledger;
use crate::journal::{Journal, Outcome, as_text};
use crate::oci::{Digest, Reference};
use crate::triage::Severity;

/// The most rows of a report: as many as a lock file has entries.
pub const ROWS: usize = crate::lockfile::LOCK_ENTRIES;

/// The most digests that a row names.
pub const DIGESTS: usize = 16;

/// What a report is made from, besides the pull path.
pub struct Record {
    /// Who pulled what.
    pub journal: Arc<Journal>,
    /// When this run began, in milliseconds since the Unix epoch; no client was served before.
    pub started_ms: u64,
    /// The ledger's last sequence number then.
    pub started_at: u64,
    /// The lock file, if there is one.
    pub lock: Option<PathBuf>,
}

impl Record {
    /// The record of a run that begins now, with what the ledger has already.
    pub fn begin(
        journal: &Arc<Journal>,
        ledger: &dyn Ledger,
        clock: &dyn Clock,
        config: &Config,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal: Arc::clone(journal),
            started_ms: clock.wall_ms(),
            started_at: ledger.status().sequence,
            lock: config.lock.as_ref().map(|lock| lock.file.clone()),
        })
    }
}

/// What was pulled since a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What holds for all of it.
    #[serde(flatten)]
    pub head: Head,
    /// A row for each image that was asked for or that the lock file has; the gravest first, then
    /// by name.
    pub rows: Vec<Row>,
}

/// What holds for all of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// The version of this form.
    pub version: u32,
    /// From when on, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// The lock file, absolute.
    pub lock: Option<PathBuf>,
    /// Whether what is not in it is refused.
    pub is_locked: bool,
    /// How many entries it has.
    pub entries: u64,
    /// The ledger's id.
    pub ledger: String,
    /// Why the record is not whole, in words; empty: it is.
    pub gaps: Vec<String>,
    /// How many rows there are of each status.
    pub counts: Counts,
}

/// How many rows have which status; `pulled` is all that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Rows that were asked for.
    pub pulled: u64,
    /// See [`Status::Conflict`].
    pub conflicts: u64,
    /// See [`Status::New`].
    pub new: u64,
    /// See [`Status::Ok`].
    pub ok: u64,
    /// See [`Status::Refused`].
    pub refused: u64,
    /// See [`Status::Unlocked`].
    pub unlocked: u64,
    /// See [`Status::Unused`].
    pub unused: u64,
}

/// How an image was served; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The upstream answers something else than what the tag stands for, or what was served is not
    /// what the lock file says.
    Conflict,
    /// It was refused.
    Refused,
    /// It was served, there is a lock file, and it is not in it.
    Unlocked,
    /// It was served, and seen here for the first time.
    New,
    /// The lock file has it, and nobody asked for it: no failure, and perhaps the sign of a client
    /// that went round this server.
    Unused,
    /// It was served as the lock file says, or as it was known before.
    Ok,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// What was asked for, with a tag or a digest.
    #[serde(with = "as_text")]
    pub reference: Reference,
    /// How it was served.
    pub status: Status,
    /// The digests that clients got by it, in the order of first sight, at most [`DIGESTS`].
    pub digests: Vec<Digest>,
    /// The digest that the lock file has for it.
    pub locked: Option<Digest>,
    /// Whether it was seen here for the first time since then.
    pub is_new: bool,
    /// Requests of each kind.
    pub requests: Requests,
    /// How many addresses asked.
    pub clients: u64,
    /// What came of the requests by this reference.
    pub outcomes: Vec<Came>,
    /// The rule that decides for it; empty for a digest.
    pub rule: String,
    /// What there is of a conflict.
    pub conflict: Option<Conflict>,
}

/// How often something was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requests {
    /// `GET`s by the reference itself.
    pub get: u64,
    /// `HEAD`s by the reference itself.
    pub head: u64,
    /// Requests by digest for what it led to: its manifest, or one that this lists.
    pub by_digest: u64,
}

/// What came of some requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Came {
    /// What came of them.
    pub outcome: Outcome,
    /// Why they were refused.
    pub reason: Option<String>,
    /// How many they are.
    pub count: u64,
}

/// Two digests for one tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conflict {
    /// What it stands for: in the lock file, or in the ledger.
    pub pinned: Option<Digest>,
    /// What the upstream answered, or what was served.
    pub observed: Digest,
    /// Since when that is known, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Whether it is so still.
    pub is_open: bool,
    /// How alarming the change looks: a hint, never a verdict.
    pub severity: Option<Severity>,
    /// What changed, in a line of at most 300 characters, escaped.
    pub hint: String,
}

impl Report {
    /// Whether nothing is missing in it.
    pub fn is_whole(&self) -> bool {
        self.head.gaps.is_empty()
    }

    /// Whether something was served, or asked for, that is not in the lock file.
    pub fn has_unlocked(&self) -> bool {
        self.rows.iter().any(Row::is_outside)
    }

    /// Whether the upstream and the pins disagree, or something was denied by a person or a rule.
    pub fn has_finding(&self) -> bool {
        let is_finding = |row: &Row| match row.status {
            Status::Conflict => true,
            Status::Refused => !row.is_outside(),
            Status::New | Status::Ok | Status::Unlocked | Status::Unused => false,
        };
        self.rows.iter().any(is_finding)
    }
}

impl Row {
    /// The reason of its refusals, if it was refused: one that says more than that it is not in the
    /// lock file, if there are several.
    pub fn reason(&self) -> Option<&str> {
        let reasons = || self.outcomes.iter().filter_map(|came| came.reason.as_deref());
        reasons().find(|reason| *reason != PIN_REQUIRED).or_else(|| reasons().next())
    }

    /// Whether it is not in the lock file, where there is one.
    pub fn is_outside(&self) -> bool {
        let is_refused = || self.status == Status::Refused && self.reason() == Some(PIN_REQUIRED);
        self.status == Status::Unlocked || is_refused()
    }
}

/// The name of [`crate::pull::Reason::PinRequired`], as journals have it.
const PIN_REQUIRED: &str = crate::pull::Reason::PinRequired.name();

impl Status {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::New => "new",
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unlocked => "unlocked",
            Self::Unused => "unused",
        }
    }
}

impl Counts {
    /// Counts rows.
    pub fn of(rows: &[Row]) -> Self {
        let mut counts = Self::default();
        for row in rows {
            let Requests { get, head, by_digest } = row.requests;
            counts.pulled += u64::from(get + head + by_digest > 0);
            *match row.status {
                Status::Conflict => &mut counts.conflicts,
                Status::New => &mut counts.new,
                Status::Ok => &mut counts.ok,
                Status::Refused => &mut counts.refused,
                Status::Unlocked => &mut counts.unlocked,
                Status::Unused => &mut counts.unused,
            } += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests;
