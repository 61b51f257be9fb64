//! What the ledger knows of one tag: its pin, what was observed beside it, what is open.
//!
//! [`TagState`] is the fold of the tag's [`Event`]s; every store computes it with
//! [`TagState::apply`] and nothing else, so two stores cannot disagree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};
use crate::oci::{Digest, MediaType, Registry, Repository, Tag};

/// A tag, canonical: the same key whatever URL or listener it was asked through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PinKey {
    /// The registry's canonical name.
    pub registry: Registry,
    /// The repository, with `library/` where docker.io wants it.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl PinKey {
    /// The key's bytes in every store: the three names with NUL between (no name contains one).
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}\0{}\0{}", self.registry, self.repository, self.tag).into_bytes()
    }

    /// The reverse of [`PinKey::to_bytes`]; `None` for bytes that it did not write.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('\0');
        let key = Self {
            registry: parts.next()?.parse().ok()?,
            repository: parts.next()?.parse().ok()?,
            tag: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(key)
    }
}

impl fmt::Display for PinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

/// How a digest became the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// A person said so, or a rule's `accept-after`.
    Approved,
    /// It was the first answer of the upstream that this ledger saw.
    FirstSeen,
    /// It came from another ledger or a list.
    Imported,
    /// It was pushed through this proxy.
    Pushed,
}

/// Some content, as a descriptor names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Content {
    /// Always SHA-256: the digest that was computed.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// The manifest's length in bytes.
    pub size_bytes: u64,
}

/// What the ledger holds for a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pin {
    /// What is pinned.
    pub content: Content,
    /// How it became the pin.
    pub provenance: Provenance,
    /// The sequence number of the event that made it the pin.
    pub sequence: u64,
    /// When it became the pin, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// A digest that was seen at a tag, in the order of first sight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// What was seen.
    pub content: Content,
    /// When it was first seen, in milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// Whether it was, at some time, the pin or (under `record`) what was served.
    pub was_served: bool,
    /// How often the upstream came back to it after it had been at something else.
    pub flaps: u32,
}

/// A difference between pin and upstream that nobody has decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenConflict {
    /// What the upstream answers now.
    pub observed: Digest,
    /// Since when, without a break, it has stood there: `accept-after` counts from here.
    pub since_ms: u64,
    /// When the conflict was last written down, in milliseconds since the Unix epoch.
    pub recorded_ms: u64,
    /// How often the upstream has come back to this one, over all the tag's time.
    pub flaps: u32,
    /// How many repeats were recorded so far.
    pub repeats: u64,
}

/// What a person imported for a tag, until an answer of the upstream agrees with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// The digest: of the manifest, of a child of it, or of its config.
    pub digest: Digest,
    /// When it was imported, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// A tag that is not served before it is older than `min-age`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    /// What the upstream answers.
    pub content: Content,
    /// Since when, without a break, it has stood there, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// How many digests of one tag are remembered one by one; later ones count as repeats, so an
/// upstream that answers something new each time cannot grow the ledger without end.
pub const SEEN_LIMIT: usize = 256;

/// Everything that decisions about one tag need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TagState {
    /// The sequence number of the last event folded in; 0 for a tag never seen.
    pub sequence: u64,
    /// The pin of a covered tag.
    pub pin: Option<Pin>,
    /// Under `record`: the last content that was verified and served. It becomes the pin when a
    /// rule turns stricter.
    pub recorded: Option<Pin>,
    /// Under `alert`, when the pin followed the upstream: the pin before.
    pub followed_from: Option<Digest>,
    /// The open conflict.
    pub conflict: Option<OpenConflict>,
    /// Since when the upstream has said that there is no such tag.
    pub deleted_ms: Option<u64>,
    /// Every digest observed, at most [`SEEN_LIMIT`].
    pub seen: Vec<Seen>,
    /// Digests that a person rejected for this tag: never served, no more alerts.
    pub rejected: Vec<Digest>,
    /// What was imported, while the tag has no pin.
    pub claim: Option<Claim>,
    /// What waits for `min-age`, while the tag has no pin.
    pub pending: Option<Pending>,
}

impl TagState {
    /// The content that this tag stands for: the pin, else what was last served under `record`.
    pub fn standing(&self) -> Option<&Pin> {
        self.pin.as_ref().or(self.recorded.as_ref())
    }

    /// What was observed under `digest`, if it ever was.
    pub fn seen(&self, digest: &Digest) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.content.digest == *digest)
    }

    /// Folds the next event of this tag in. Events must come in the order of their sequence.
    pub fn apply(&mut self, event: &Event) {
        self.sequence = event.sequence;
        if let Some(content) = &event.observed {
            self.see(content, event.time_ms);
        }
        match event.kind {
            EventKind::Pinned
            | EventKind::Accepted
            | EventKind::Confirmed
            | EventKind::Extended
            | EventKind::Followed => {
                self.pin_observed(event);
                self.conflict = None;
                self.deleted_ms = None;
            }
            EventKind::Approved => {
                self.pin_observed(event);
                self.settle_conflict(event);
            }
            EventKind::Observed => self.record_observed(event),
            EventKind::Conflict | EventKind::Flapped | EventKind::RolledBack => {
                self.open_conflict(event);
            }
            EventKind::Deleted => {
                self.deleted_ms = Some(event.time_ms);
                self.pending = None;
            }
            EventKind::Forgotten => {
                *self = Self { sequence: event.sequence, ..Self::default() };
            }
            EventKind::Imported => self.take_claim(event),
            EventKind::Pending => self.take_pending(event),
            EventKind::Healed => {
                self.conflict = None;
                self.deleted_ms = None;
            }
            EventKind::Rejected => {
                let new = event.observed_digest().filter(|digest| !self.rejected.contains(digest));
                self.rejected.extend(new);
                self.settle_conflict(event);
            }
            EventKind::Repeated => self.count_repeats(event),
            EventKind::Bypassed
            | EventKind::Created
            | EventKind::Downgraded
            | EventKind::Flooded
            | EventKind::Invalid
            | EventKind::LedgerImported
            | EventKind::Restored
            | EventKind::Revoked
            | EventKind::RollbackAccepted
            | EventKind::Unrevoked => {}
        }
    }

    fn count_repeats(&mut self, event: &Event) {
        let Some(conflict) = &mut self.conflict else { return };
        conflict.recorded_ms = event.time_ms;
        conflict.repeats += event.count;
        // Nobody saw it stand meanwhile.
        if event.count == 0 {
            conflict.since_ms = event.time_ms;
        }
    }

    fn see(&mut self, content: &Content, time_ms: u64) {
        if self.seen(&content.digest).is_none() && self.seen.len() < SEEN_LIMIT {
            let content = content.clone();
            self.seen.push(Seen { content, first_ms: time_ms, was_served: false, flaps: 0 });
        }
    }

    fn take_claim(&mut self, event: &Event) {
        let claim = |digest| Claim { digest, since_ms: event.time_ms };
        self.claim = event.pinned.map(claim).filter(|_| self.pin.is_none());
        // What is imported is known from elsewhere: it need not stand for any time here.
        self.pending = None;
    }

    fn take_pending(&mut self, event: &Event) {
        let pending = |content| Pending { content, since_ms: event.time_ms };
        self.pending = event.observed.clone().map(pending).filter(|_| self.pin.is_none());
        self.deleted_ms = self.deleted_ms.filter(|_| self.pin.is_some());
    }

    fn pin_observed(&mut self, event: &Event) {
        let Some(pin) = self.served(event) else { return };
        self.rejected.retain(|digest| *digest != pin.content.digest);
        let followed = event.kind == EventKind::Followed;
        self.followed_from = event.pinned.filter(|_| followed);
        self.pin = Some(pin);
        self.claim = None;
        self.pending = None;
        self.recorded = None;
    }

    /// A person decides about one digest and says nothing of the upstream: a conflict about
    /// another digest, to which the upstream has moved on, stays open, and so does a deletion.
    fn settle_conflict(&mut self, event: &Event) {
        let decided = event.observed_digest();
        self.conflict = self.conflict.take().filter(|open| Some(open.observed) != decided);
    }

    /// Under `record` there is no pin: what was last served stands for the tag.
    fn record_observed(&mut self, event: &Event) {
        self.recorded = self.served(event);
        self.pin = None;
        self.pending = None;
        self.followed_from = None;
        self.conflict = None;
        self.deleted_ms = None;
    }

    fn served(&mut self, event: &Event) -> Option<Pin> {
        let content = event.observed.clone()?;
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.content == content) {
            seen.was_served = true;
        }
        let provenance = event.provenance.unwrap_or(Provenance::FirstSeen);
        Some(Pin { content, provenance, sequence: event.sequence, since_ms: event.time_ms })
    }

    fn open_conflict(&mut self, event: &Event) {
        let Some(observed) = event.observed_digest() else { return };
        let flapped = u32::from(event.kind != EventKind::Conflict);
        let seen = self.seen.iter_mut().find(|seen| seen.content.digest == observed);
        let flaps = seen.map_or(0, |seen| {
            seen.flaps = seen.flaps.saturating_add(flapped);
            seen.flaps
        });
        self.deleted_ms = None;
        self.conflict = Some(OpenConflict {
            observed,
            since_ms: event.time_ms,
            recorded_ms: event.time_ms,
            flaps,
            repeats: 0,
        });
    }
}
