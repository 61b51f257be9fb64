//! Events: the records of the ledger.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::pin::{Content, PinKey, Provenance};

/// What happened. The number is the record's kind on disk and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum EventKind {
    /// The ledger was created; `why` is its id.
    Created = 1,
    /// First sight of a covered tag: the pin.
    Pinned = 2,
    /// A new digest at a tag under `record`.
    Observed = 3,
    /// The upstream answers another digest than the pin: once per (tag, pin, observed digest).
    Conflict = 4,
    /// The open conflict was seen again `count` times; at most hourly.
    Repeated = 5,
    /// The upstream is back at the pin.
    Healed = 6,
    /// A digest that had conflicted and healed is there again.
    Flapped = 7,
    /// The upstream moved to a digest that was served at this tag before.
    RolledBack = 8,
    /// Within `settle` the index gained platforms or attestations and lost nothing: the pin moved.
    Extended = 9,
    /// The upstream answered a child of the pinned index: no conflict, the pin is served.
    Downgraded = 10,
    /// The upstream says that the tag is gone.
    Deleted = 11,
    /// Under `alert` the pin followed the upstream.
    Followed = 12,
    /// `accept-after` passed: the pin moved, by the rule.
    Accepted = 13,
    /// A person approved a digest: it is the pin.
    Approved = 14,
    /// A person rejected a digest for this tag.
    Rejected = 15,
    /// A person denied a digest everywhere.
    Revoked = 16,
    /// A person took a revocation back.
    Unrevoked = 17,
    /// A person made the ledger forget the tag: the next answer is a first sight.
    Forgotten = 18,
    /// The upstream's answer broke a rule; `why` names it. Nothing was pinned.
    Invalid = 19,
    /// A person accepted a ledger that is older than its anchor.
    RollbackAccepted = 20,
    /// A client asked for the digest that had just been refused to it: `who` is its address.
    Bypassed = 21,
    /// A person imported a digest for the tag, `pinned`: the upstream's next answer must agree.
    Imported = 22,
    /// The upstream's answer agreed with what was imported: it is the pin.
    Confirmed = 23,
    /// A tag that is younger than `min-age` was seen; `observed` is not served before it has stood
    /// that long.
    Pending = 24,
    /// No more new tags of an upstream are taken in this hour; `why` names it.
    Flooded = 25,
    /// A person imported another ledger's events; `why` names it, and its head.
    LedgerImported = 26,
    /// A person restored the ledger from a backup; `why` names its head.
    Restored = 27,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 27] = [
        Self::Created,
        Self::Pinned,
        Self::Observed,
        Self::Conflict,
        Self::Repeated,
        Self::Healed,
        Self::Flapped,
        Self::RolledBack,
        Self::Extended,
        Self::Downgraded,
        Self::Deleted,
        Self::Followed,
        Self::Accepted,
        Self::Approved,
        Self::Rejected,
        Self::Revoked,
        Self::Unrevoked,
        Self::Forgotten,
        Self::Invalid,
        Self::RollbackAccepted,
        Self::Bypassed,
        Self::Imported,
        Self::Confirmed,
        Self::Pending,
        Self::Flooded,
        Self::LedgerImported,
        Self::Restored,
    ];

    /// The kind with this number; `None` for one that a later version wrote.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The name, as logs, `--json` and the exports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Approved => "approved",
            Self::Bypassed => "bypassed",
            Self::Confirmed => "confirmed",
            Self::Conflict => "conflict",
            Self::Created => "created",
            Self::Deleted => "deleted",
            Self::Downgraded => "downgraded",
            Self::Extended => "extended",
            Self::Flapped => "flapped",
            Self::Flooded => "flooded",
            Self::Followed => "followed",
            Self::Forgotten => "forgotten",
            Self::Healed => "healed",
            Self::Imported => "imported",
            Self::Invalid => "invalid",
            Self::LedgerImported => "ledger-imported",
            Self::Observed => "observed",
            Self::Pending => "pending",
            Self::Pinned => "pinned",
            Self::Rejected => "rejected",
            Self::Repeated => "repeated",
            Self::Restored => "restored",
            Self::Revoked => "revoked",
            Self::RollbackAccepted => "rollback-accepted",
            Self::RolledBack => "rolled-back",
            Self::Unrevoked => "unrevoked",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An event before the ledger's writer gave it a place: everything but sequence and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Draft {
    /// What happened.
    pub kind: EventKind,
    /// To which tag; `None` for what concerns the ledger or a digest everywhere.
    pub key: Option<PinKey>,
    /// The pin that `observed` was compared with; for `revoked` and `unrevoked` the digest.
    pub pinned: Option<Digest>,
    /// What the upstream answered, or what a person decided for.
    pub observed: Option<Content>,
    /// How the pin came to be, for the kinds that set one.
    pub provenance: Option<Provenance>,
    /// Who decided: a user's name; for `bypassed` the client's address; or empty.
    pub who: String,
    /// Why, in words; or detail that the kind asks for.
    pub why: String,
    /// The rule that decided, by its name.
    pub rule: String,
    /// How many repeats a `repeated` stands for, 0 if nobody saw the conflict for so long before
    /// that its time begins anew; else 0.
    pub count: u64,
}

impl Draft {
    /// A draft that says only what happened, and to what.
    pub fn new(kind: EventKind, key: Option<PinKey>) -> Self {
        Self {
            kind,
            key,
            pinned: None,
            observed: None,
            provenance: None,
            who: String::new(),
            why: String::new(),
            rule: String::new(),
            count: 0,
        }
    }

    /// The event that this draft becomes at `sequence`, at `time_ms`.
    pub fn at(self, sequence: u64, time_ms: u64) -> Event {
        let Self { kind, key, pinned, observed, provenance, who, why, rule, count } = self;
        Event { sequence, time_ms, kind, key, pinned, observed, provenance, who, why, rule, count }
    }
}

/// A record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// Its place: 1 for the first, without gaps. Order is by sequence, never by time.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch, by this machine's clock.
    pub time_ms: u64,
    /// See [`Draft::kind`].
    pub kind: EventKind,
    /// See [`Draft::key`].
    pub key: Option<PinKey>,
    /// See [`Draft::pinned`].
    pub pinned: Option<Digest>,
    /// See [`Draft::observed`].
    pub observed: Option<Content>,
    /// See [`Draft::provenance`].
    pub provenance: Option<Provenance>,
    /// See [`Draft::who`].
    pub who: String,
    /// See [`Draft::why`].
    pub why: String,
    /// See [`Draft::rule`].
    pub rule: String,
    /// See [`Draft::count`].
    pub count: u64,
}

impl Event {
    /// The digest of what was observed.
    pub fn observed_digest(&self) -> Option<Digest> {
        self.observed.as_ref().map(|content| content.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_documented_with_its_number() {
        let text = include_str!("../docs/ledger.md");
        for kind in EventKind::ALL {
            let row = format!("\n| `{kind}` | {} | ", kind as u8);
            assert!(text.contains(&row), "{row} is not there");
        }
    }
}
