//! Whose credentials go with a request, and a key that tells them apart without showing them.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// Longer credentials are no credentials, in bytes.
const MAX_LEN: usize = 32 << 10;

/// A client's own credentials, as its Authorization header carries them.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientCredential {
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
}

/// Tells credentials apart: a hash under a key that is random for each process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialKey([u8; 32]);

impl ClientCredential {
    /// Reads the value of an Authorization header; `None` if it is neither Basic nor Bearer, or
    /// nobody's: clients without a login answer a Basic challenge with an empty name and password.
    ///
    /// Source: RFC 7617, section 2; RFC 6750, section 2.1.
    pub fn from_header(value: &str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ')?;
        let rest = rest.trim_matches(' ');
        if rest.is_empty() || value.len() > MAX_LEN || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(Secret::new(rest.to_owned())));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
        let (username, password) = text.split_once(':').filter(|pair| *pair != ("", ""))?;
        Some(Self::Basic {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        })
    }

    /// The key under which what these credentials may see is kept.
    pub fn key(&self) -> CredentialKey {
        match self {
            Self::Basic { username, password } => {
                CredentialKey::of(&[b"basic", username.as_bytes(), password.expose().as_bytes()])
            }
            Self::Bearer(token) => CredentialKey::of(&[b"bearer", token.expose().as_bytes()]),
        }
    }

    /// The value of an Authorization header.
    pub(crate) fn to_header(&self) -> Secret {
        Secret::new(match self {
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose());
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
            Self::Bearer(token) => format!("Bearer {}", token.expose()),
        })
    }
}

impl CredentialKey {
    fn of(parts: &[&[u8]]) -> Self {
        static SALT: LazyLock<[u8; 32]> = LazyLock::new(random);
        let mut hasher = Sha256::new();
        hasher.update(*SALT);
        for part in parts {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system has randomness");
    bytes
}

impl fmt::Debug for ClientCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_from_a_header_and_written_back() {
        for (header, canonical) in [
            ("Basic dXNlcjpwYXNz", Some("Basic dXNlcjpwYXNz")),
            ("basic  dXNlcjpwYXNz", Some("Basic dXNlcjpwYXNz")),
            ("BEARER abc.def", Some("Bearer abc.def")),
            ("Basic !!!", None),
            ("Basic dXNlcg==", None),
            ("Basic Og==", None),
            ("Digest x", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a\r\nX: y", None),
            ("", None),
        ] {
            let read = ClientCredential::from_header(header);
            let written =
                read.as_ref().map(|credential| credential.to_header().expose().to_owned());
            assert_eq!(written.as_deref(), canonical, "{header:?}");
        }
    }

    #[test]
    fn keys_tell_credentials_apart_and_nothing_prints_them() {
        let read = |text| ClientCredential::from_header(text).unwrap();
        let (basic, bearer) = (read("Basic dXNlcjpwYXNz"), read("Bearer dXNlcjpwYXNz"));
        assert_eq!(basic.key(), basic.clone().key());
        assert_ne!(basic.key(), bearer.key());
        let printed = format!("{basic:?} {bearer:?} {:?}", bearer.key());
        assert_eq!(printed, "Basic(…) Bearer(…) CredentialKey(…)");
    }
}
