//! What can go wrong between us and an upstream.

use std::time::Duration;

use thiserror::Error;

/// Why an upstream gave no usable answer.
///
/// No variant carries an address, a URL, a header or a secret: every text here may be shown to a
/// client. The caller knows the upstream's name and says it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// The upstream, its token realm or a redirect leads to an address that is not public.
    #[error(
        "the upstream leads to an address that is not allowed; set allow-private for it if that \
         is intended"
    )]
    AddressNotAllowed,
    /// The upstream, or its token endpoint, refuses the credentials (or asks for some).
    #[error("the upstream refuses access ({status})")]
    Authentication {
        /// 401 or 403.
        status: u16,
    },
    /// The answer breaks HTTP's or the registry protocol's rules.
    #[error("the upstream's answer is not valid: {0}")]
    Invalid(&'static str),
    /// The upstream says 429. Never asked again here.
    #[error("the upstream limits our rate; try again in {} s", retry_after.as_secs())]
    RateLimited {
        /// When to come back: the upstream's word, between one second and one hour.
        retry_after: Duration,
    },
    /// The token realm is neither the upstream's host nor in its `auth-hosts`.
    #[error(
        "the upstream sends us for a token to a host that is not its own; add it to auth-hosts \
         if that is intended"
    )]
    RealmNotAllowed,
    /// A redirect that we do not follow: too many, a loop, another scheme, https to http.
    #[error("the upstream redirects in a way that is not allowed")]
    RedirectNotAllowed,
    /// The TLS handshake failed.
    #[error("the upstream's TLS is not usable: {0}")]
    Tls(TlsFault),
    /// A connection, a header, a body's next byte or the whole took too long.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// A body is larger than the caller's limit, in bytes.
    #[error("the upstream's answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// No answer, or only 5xx, after the retries.
    #[error("the upstream is not available: {why}")]
    Unavailable {
        /// What happened last.
        why: Unavailability,
        /// When to come back, where that is known.
        retry_after: Option<Duration>,
    },
}

/// Why an upstream is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailability {
    /// It answers with this status, 5xx.
    #[error("it answers {0}")]
    Answers(u16),
    /// It failed so often in a row that we do not ask for a moment.
    #[error("it failed repeatedly and is not asked for a moment")]
    BreakerOpen,
    /// The connection broke in the middle of an answer.
    #[error("the answer was cut short")]
    CutShort,
    /// All of its connections (`max-connections`) are busy.
    #[error("all connections to it are busy")]
    Overloaded,
    /// The outbound proxy does not connect us.
    #[error("the outbound proxy does not connect us")]
    Proxied,
    /// It cannot be connected to, or its name has no address.
    #[error("it cannot be reached")]
    Unreachable,
}

/// What is wrong with a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlsFault {
    /// The certificate has expired, or our clock is wrong.
    #[error("the certificate has expired (or this machine's clock is wrong)")]
    Expired,
    /// Something else in the handshake, such as a peer that does not speak TLS.
    #[error("the handshake failed")]
    Handshake,
    /// This machine has no CA certificates to trust.
    #[error("this machine has no CA certificates; install them or set ca-file")]
    NoRoots,
    /// The certificate is not valid yet, or our clock is wrong.
    #[error("the certificate is not valid yet (or this machine's clock is wrong)")]
    NotYetValid,
    /// The certificate was not issued by an authority that we trust.
    #[error("the certificate is from an unknown authority; set ca-file if it is yours")]
    UnknownIssuer,
    /// Another rule of certificates is broken.
    #[error("the certificate is not valid")]
    Untrusted,
    /// The certificate is for another name.
    #[error("the certificate is for another name")]
    WrongName,
}

impl UpstreamError {
    /// An unavailability without a word on when to come back.
    pub const fn unavailable(why: Unavailability) -> Self {
        Self::Unavailable { why, retry_after: None }
    }
}
