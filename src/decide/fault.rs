//! Why a request was not done.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::reason::REASON_LIMIT;
use crate::ledger::{BULK_LIMIT, LedgerError};
use crate::oci::Digest;
use crate::pin::PinKey;

/// Why a request was not done. It travels over the socket as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Other writers changed the tag at every try.
    #[error("{key} changes all the time; look at it again, then decide again")]
    Busy {
        /// The tag.
        key: PinKey,
    },
    /// The ledger's log is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The ledger did not take it, or did not answer. A decision may or may not be written.
    #[error("{0}")]
    Failed(String),
    /// The list has more tags than one batch can hold.
    #[error(
        "the list names more than {BULK_LIMIT} tags, more than is written at once: split it; each \
         part is all or nothing"
    )]
    ExceedsImport,
    /// The digest was imported for the tag, and nothing has confirmed it yet.
    #[error(
        "{digest} was imported for {key} and no answer of the upstream has confirmed it: there is \
         nothing yet that could be approved or rejected. It becomes the pin by itself when the \
         upstream answers it; `immutag ledger approve {key} --digest D` takes what the upstream \
         answered instead, `immutag ledger forget {key}` drops the import"
    )]
    IsClaim {
        /// The tag.
        key: PinKey,
        /// The digest.
        digest: Digest,
    },
    /// The digest is what the tag stands for now.
    #[error(
        "{digest} is what {key} stands for, and cannot be rejected: approve another digest for \
         the tag (`immutag ledger approve {key} --digest D`), deny this one everywhere (`immutag \
         ledger revoke {digest}`), or both in one (`approve … --revoke {digest}`)"
    )]
    IsStanding {
        /// The tag.
        key: PinKey,
        /// The digest.
        digest: Digest,
    },
    /// The same digest cannot be approved and revoked.
    #[error("{digest} cannot be approved and revoked at once")]
    IsBoth {
        /// The digest.
        digest: Digest,
    },
    /// The digest is denied everywhere.
    #[error("{digest} is revoked; `immutag ledger revoke {digest} --undo` takes that back")]
    IsRevoked {
        /// The digest.
        digest: Digest,
    },
    /// The reason is missing, too long or hides something.
    #[error(
        "a reason is needed: 1 to {REASON_LIMIT} characters on one line, without control \
         characters"
    )]
    SpoilsReason,
    /// The glob is none.
    #[error("{0}")]
    SpoilsGlob(String),
    /// The digest was never observed at this tag.
    #[error(
        "{digest} was never observed at {key}; `immutag ledger show {key}` lists what was. Pull \
         the tag through immutag so that it sees what the upstream answers"
    )]
    UnseenDigest {
        /// The tag.
        key: PinKey,
        /// The digest.
        digest: Digest,
    },
    /// The ledger knows nothing of the tag.
    #[error("the ledger knows nothing of {key}; `immutag ledger list` shows what it knows")]
    UnseenTag {
        /// The tag.
        key: PinKey,
    },
}

impl Fault {
    /// Whether the ledger is damaged: exit code 4.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error.to_string())
    }
}
