//! What can go wrong between us and a receiver.

use std::time::Duration;

use thiserror::Error;

use crate::upstream::{ConnectFault, TlsFault};

/// Why a receiver did not take a message. No variant carries an address, a URL or what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeliveryFault {
    /// It leads to an address that is not public.
    #[error("it leads to an address that is not allowed; set allow-private if that is intended")]
    AddressNotAllowed,
    /// It speaks no HTTP/1.1, or breaks off.
    #[error("the connection broke before its answer was here")]
    CutShort,
    /// The outbound proxy does not connect us.
    #[error("the outbound proxy does not connect us")]
    Proxied,
    /// It answers with a redirect, which is not followed.
    #[error("it redirects ({0}), and redirects are not followed: set url to where it leads")]
    Redirects(u16),
    /// It answers with another status than 2xx.
    #[error("it answers {status}")]
    Refuses {
        /// The status.
        status: u16,
        /// When to come back, by its own word: 1 s to 1 h.
        retry_after: Option<Duration>,
    },
    /// The TLS handshake failed.
    #[error("its TLS is not usable: {0}")]
    Tls(TlsFault),
    /// It took too long.
    #[error("it did not answer in time")]
    Timeout,
    /// It cannot be connected to, or its name has no address.
    #[error("it cannot be reached")]
    Unreachable,
}

impl DeliveryFault {
    /// Whether it wants no message ever again (410).
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Refuses { status: 410, .. })
    }

    /// Whether it refuses this message rather than all: another one may be taken.
    pub const fn is_about_message(self) -> bool {
        matches!(self, Self::Refuses { status: 400 | 413 | 415 | 422 | 431, .. })
    }

    /// When to come back, by its own word.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Refuses { retry_after, .. } => retry_after,
            _ => None,
        }
    }
}

impl From<ConnectFault> for DeliveryFault {
    fn from(fault: ConnectFault) -> Self {
        match fault {
            ConnectFault::AddressNotAllowed => Self::AddressNotAllowed,
            ConnectFault::Proxied => Self::Proxied,
            ConnectFault::Timeout => Self::Timeout,
            ConnectFault::Tls(fault) => Self::Tls(fault),
            ConnectFault::Unreachable => Self::Unreachable,
        }
    }
}
