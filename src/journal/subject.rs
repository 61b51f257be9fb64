//! What a client asked for and what came of it: all of an entry that is the same for everybody who
//! asks the same.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Reference};

/// What came of a request for a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The client asked for a digest and got it.
    ByDigest,
    /// A tag that is mutable by specification: what the upstream answered.
    Exempt,
    /// A covered tag that moved within 24 hours: what it moved to.
    Followed,
    /// A covered tag: its pin, while the upstream answers something else.
    Held,
    /// A covered tag: its pin.
    Pinned,
    /// A recorded tag: what the upstream answered.
    Recorded,
    /// A covered tag, or a digest that was revoked: nothing; the reason says why.
    Refused,
    /// What was pinned or recorded before, since the upstream fails.
    Stale,
}

impl Outcome {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 8] = [
        Self::ByDigest,
        Self::Exempt,
        Self::Followed,
        Self::Held,
        Self::Pinned,
        Self::Recorded,
        Self::Refused,
        Self::Stale,
    ];

    /// The name, as the files and tables write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByDigest => "by-digest",
            Self::Exempt => "exempt",
            Self::Followed => "followed",
            Self::Held => "held",
            Self::Pinned => "pinned",
            Self::Recorded => "recorded",
            Self::Refused => "refused",
            Self::Stale => "stale",
        }
    }
}

/// What was asked for at which listener, and what came of it.
#[derive(Debug)]
pub struct Subject {
    /// The listener: its kind, with its address where there are several of the kind.
    pub(super) listener: Arc<str>,
    /// What was asked for, canonical.
    pub(super) reference: Reference,
    /// The digest that was given; under `record`, of a HEAD, the upstream's claim.
    pub(super) digest: Option<Digest>,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// Why it was refused.
    pub(super) reason: Option<Cow<'static, str>>,
    /// The digest that the client would have got, or asked for, and was refused.
    pub(super) kept_from: Option<Digest>,
    /// A keyed hash of all of it.
    pub(super) hash: u64,
}

/// One key for the process: nobody can choose names that fall together.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Subject {
    /// A digest was given.
    pub fn given(
        listener: &Arc<str>,
        reference: Reference,
        digest: Option<Digest>,
        outcome: Outcome,
    ) -> Arc<Self> {
        Self::new(Arc::clone(listener), reference, digest, outcome, None)
    }

    /// Nothing was given, for this reason, and this digest was kept from the client.
    pub fn refused(
        listener: &Arc<str>,
        reference: Reference,
        reason: &'static str,
        kept_from: Option<Digest>,
    ) -> Arc<Self> {
        let refusal = Some((reason, kept_from));
        Self::new(Arc::clone(listener), reference, None, Outcome::Refused, refusal)
    }

    fn new(
        listener: Arc<str>,
        reference: Reference,
        digest: Option<Digest>,
        outcome: Outcome,
        refusal: Option<(&'static str, Option<Digest>)>,
    ) -> Arc<Self> {
        let (reason, kept_from) = refusal.unzip();
        let kept_from = kept_from.flatten();
        let hash = KEYS.hash_one((&listener, &reference, digest, outcome, reason, kept_from));
        let reason = reason.map(Cow::Borrowed);
        Arc::new(Self { listener, reference, digest, outcome, reason, kept_from, hash })
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.digest == other.digest
            && self.outcome == other.outcome
            && self.reason == other.reason
            && self.kept_from == other.kept_from
            && self.listener == other.listener
            && self.reference == other.reference
    }
}

impl Eq for Subject {}
