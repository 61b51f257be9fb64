//! Refusals: values, not errors. How one looks to a client is the listener's matter.

use std::time::Duration;

use crate::ledger::{LedgerError, RETRY_AFTER};
use crate::oci::{Digest, ManifestError};
use crate::pin::PinKey;
use crate::upstream::{Unavailability, UpstreamError};

/// Why a request is refused. The name is what metrics, logs and bodies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An upstream resolves to an address that is not allowed.
    AddressNotAllowed,
    /// The upstream has no such blob.
    BlobUnknown,
    /// A request for content came with a body.
    BodyNotAllowed,
    /// A conflict under `block`.
    DigestChanged,
    /// A person denied this digest everywhere.
    DigestRevoked,
    /// The digest's algorithm or form is not supported.
    DigestUnsupported,
    /// The request's head is larger than any client's.
    HeadTooLarge,
    /// The ledger does not answer or cannot write.
    LedgerUnavailable,
    /// The upstream has no such manifest.
    ManifestUnknown,
    /// The repository's name is no name.
    NameInvalid,
    /// No upstream is asked, by configuration, and it is not stored here.
    Offline,
    /// Too much at once.
    Overloaded,
    /// The tag is younger than its rule's `min-age`.
    PinPending,
    /// The lock file does not have it, and nothing else is let through.
    PinRequired,
    /// The pinned manifest is neither here nor at the upstream.
    PinnedContentGone,
    /// This listener does not offer that.
    ReadOnly,
    /// The token realm is not one of the upstream's.
    RealmNotAllowed,
    /// The upstream redirects to where it must not.
    RedirectNotAllowed,
    /// The reference is neither tag nor digest.
    ReferenceInvalid,
    /// The upstream wants other credentials.
    UpstreamAuth,
    /// What the upstream sent does not hash to what was asked for, or to what it says.
    UpstreamDigestMismatch,
    /// The upstream's answer breaks the rules.
    UpstreamInvalid,
    /// The upstream limits our rate.
    UpstreamRateLimited,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The upstream's answer is too large.
    UpstreamTooLarge,
    /// The upstream failed.
    UpstreamUnavailable,
    /// The registry is not configured.
    UpstreamUnknown,
}

impl Reason {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 27] = [
        Self::AddressNotAllowed,
        Self::BlobUnknown,
        Self::BodyNotAllowed,
        Self::DigestChanged,
        Self::DigestRevoked,
        Self::DigestUnsupported,
        Self::HeadTooLarge,
        Self::LedgerUnavailable,
        Self::ManifestUnknown,
        Self::NameInvalid,
        Self::Offline,
        Self::Overloaded,
        Self::PinPending,
        Self::PinRequired,
        Self::PinnedContentGone,
        Self::ReadOnly,
        Self::RealmNotAllowed,
        Self::RedirectNotAllowed,
        Self::ReferenceInvalid,
        Self::UpstreamAuth,
        Self::UpstreamDigestMismatch,
        Self::UpstreamInvalid,
        Self::UpstreamRateLimited,
        Self::UpstreamTimeout,
        Self::UpstreamTooLarge,
        Self::UpstreamUnavailable,
        Self::UpstreamUnknown,
    ];

    /// The name on the wire, in metrics and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressNotAllowed => "ADDRESS_NOT_ALLOWED",
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BodyNotAllowed => "BODY_NOT_ALLOWED",
            Self::DigestChanged => "DIGEST_CHANGED",
            Self::DigestRevoked => "DIGEST_REVOKED",
            Self::DigestUnsupported => "DIGEST_UNSUPPORTED",
            Self::HeadTooLarge => "HEAD_TOO_LARGE",
            Self::LedgerUnavailable => "LEDGER_UNAVAILABLE",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::Offline => "OFFLINE",
            Self::Overloaded => "OVERLOADED",
            Self::PinPending => "PIN_PENDING",
            Self::PinRequired => "PIN_REQUIRED",
            Self::PinnedContentGone => "PINNED_CONTENT_GONE",
            Self::ReadOnly => "READ_ONLY",
            Self::RealmNotAllowed => "REALM_NOT_ALLOWED",
            Self::RedirectNotAllowed => "REDIRECT_NOT_ALLOWED",
            Self::ReferenceInvalid => "REFERENCE_INVALID",
            Self::UpstreamAuth => "UPSTREAM_AUTH",
            Self::UpstreamDigestMismatch => "UPSTREAM_DIGEST_MISMATCH",
            Self::UpstreamInvalid => "UPSTREAM_INVALID",
            Self::UpstreamRateLimited => "UPSTREAM_RATE_LIMITED",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::UpstreamTooLarge => "UPSTREAM_TOO_LARGE",
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::UpstreamUnknown => "UPSTREAM_UNKNOWN",
        }
    }

    /// Whether the refusal is ours, not the upstream's trouble: on a mirror listener a covered
    /// tag is then refused in the form that no client gets round.
    pub const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::DigestChanged
                | Self::DigestRevoked
                | Self::LedgerUnavailable
                | Self::Offline
                | Self::Overloaded
                | Self::PinPending
                | Self::PinRequired
                | Self::PinnedContentGone
        )
    }
}

/// A refusal, before it has the form of its listener.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What happened and what to do next, in words for the person who pulls.
    pub message: String,
    /// A finer reason, as the table of the upstream's sins names it.
    pub sub_reason: Option<&'static str>,
    /// The covered tag, if it is one.
    pub key: Option<PinKey>,
    /// The pinned digest.
    pub pinned: Option<Digest>,
    /// The digest that the upstream answered.
    pub observed: Option<Digest>,
    /// The command that ends it, or where to look.
    pub help: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Whether the upstream said 403 rather than 401.
    pub is_forbidden: bool,
}

impl Refusal {
    /// A refusal with words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            sub_reason: None,
            key: None,
            pinned: None,
            observed: None,
            help: String::new(),
            retry_after: None,
            is_forbidden: false,
        }
    }

    /// The same refusal, of a covered tag.
    #[must_use]
    pub fn of(mut self, key: &PinKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// The upstream's answer broke the rule named `sub_reason`.
    pub fn invalid(sub_reason: &'static str, message: impl Into<String>) -> Self {
        Self { sub_reason: Some(sub_reason), ..Self::new(Reason::UpstreamInvalid, message) }
    }

    /// The upstream's manifest is none that a covered tag may stand for.
    pub fn unreadable(error: &ManifestError) -> Self {
        Self::invalid(error.reason(), error.to_string())
    }

    /// A digest that a person denied.
    pub fn revoked(digest: Digest) -> Self {
        Self {
            observed: Some(digest),
            help: format!("to take the revocation back: immutag ledger revoke {digest} --undo"),
            ..Self::new(Reason::DigestRevoked, format!("{digest} was revoked by the operator"))
        }
    }
}

impl From<LedgerError> for Refusal {
    /// In words for clients: what the operating system said, and of which file, is in the log.
    fn from(error: LedgerError) -> Self {
        let why = match error {
            LedgerError::Closed => "it is closed",
            LedgerError::Failed(_) => "it has failed and takes nothing more until a restart",
            LedgerError::Full(_) => "there is no disk space for its next records",
            LedgerError::Rebuilding => "its index is being rebuilt from its log",
            LedgerError::Refused(why) => why,
        };
        Self {
            help: "see the log of immutag and its /readyz".into(),
            retry_after: Some(RETRY_AFTER),
            ..Self::new(
                Reason::LedgerUnavailable,
                format!("the ledger cannot vouch for this tag: {why}"),
            )
        }
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let reason = match &error {
            UpstreamError::AddressNotAllowed => Reason::AddressNotAllowed,
            UpstreamError::Authentication { .. } => Reason::UpstreamAuth,
            UpstreamError::Invalid(_) => Reason::UpstreamInvalid,
            UpstreamError::RateLimited { .. } => Reason::UpstreamRateLimited,
            UpstreamError::RealmNotAllowed => Reason::RealmNotAllowed,
            UpstreamError::RedirectNotAllowed => Reason::RedirectNotAllowed,
            UpstreamError::Timeout => Reason::UpstreamTimeout,
            UpstreamError::TooLarge { .. } => Reason::UpstreamTooLarge,
            // Our own bound, reached by our own clients.
            UpstreamError::Unavailable { why: Unavailability::Overloaded, .. } => {
                Reason::Overloaded
            }
            UpstreamError::Tls(_) | UpstreamError::Unavailable { .. } => {
                Reason::UpstreamUnavailable
            }
        };
        Self {
            retry_after: match &error {
                UpstreamError::RateLimited { retry_after } => Some(*retry_after),
                UpstreamError::Unavailable { retry_after, .. } => *retry_after,
                _ => None,
            },
            sub_reason: matches!(error, UpstreamError::Tls(_)).then_some("TLS"),
            is_forbidden: matches!(error, UpstreamError::Authentication { status: 403 }),
            ..Self::new(reason, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_all_that_have_a_name() {
        let is_name = |line: &&str| line.trim().starts_with("Self::") && line.contains("=> \"");
        let named = include_str!("refusal.rs").lines().filter(is_name).count();
        assert_eq!(Reason::ALL.len(), named);
    }

    #[test]
    fn a_client_does_not_read_which_file_of_the_ledger_is_damaged() {
        let what = || "its log is damaged: /var/lib/immutag/ledger/log/1.seg".to_owned();
        for error in [LedgerError::Failed(what()), LedgerError::Full(what())] {
            let refusal = Refusal::from(error);
            assert!(!refusal.message.contains('/'), "{}", refusal.message);
        }
    }
}
