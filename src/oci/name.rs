//! Names: registry, repository, tag.
//!
//! Source: OCI distribution-spec 1.1, "Pulling manifests" (the grammars of `<name>` and
//! `<reference>`); the bound of 255 characters is what Docker's reference library sets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// A registry is `host[:port]`.
    #[error("a registry is a host name or address with an optional port")]
    SpoilsRegistry,
    /// A repository is lower-case path components of at most 255 characters in all.
    #[error(
        "a repository is lower-case letters, digits and single separators, at most 255 characters"
    )]
    SpoilsRepository,
    /// A tag is at most 128 characters of `[A-Za-z0-9_.-]`, not starting with `.` or `-`.
    #[error("a tag is at most 128 of [A-Za-z0-9_.-], not starting with . or -")]
    SpoilsTag,
}

/// Declares a name: an immutable, cheaply cloned text that was checked once.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::text::deserialize(deserializer)
            }
        }
    };
}

name! {
    /// A registry's name as references carry it: `host[:port]`, lower case, canonical.
    ///
    /// `docker.io`, `index.docker.io` and `registry-1.docker.io` are one, `docker.io`; the default
    /// port `:443` is dropped. A trailing dot is no registry that we know, so it does not parse.
    Registry
}

name! {
    /// A repository's name within its registry, canonical (see [`Registry::repository`]).
    Repository
}

name! {
    /// A tag.
    Tag
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let (host, port) = split_port(&lower).ok_or(NameError::SpoilsRegistry)?;
        if !(is_host(host) || is_bracketed_ipv6(host)) || text.len() > 260 {
            return Err(NameError::SpoilsRegistry);
        }
        Ok(match (host, port) {
            ("docker.io" | "index.docker.io" | "registry-1.docker.io", None | Some(443)) => {
                Self::docker_io()
            }
            (host, None | Some(443)) => Self(host.into()),
            (host, Some(port)) => Self(format!("{host}:{port}").into()),
        })
    }
}

impl Registry {
    /// Docker Hub.
    pub fn docker_io() -> Self {
        Self("docker.io".into())
    }

    /// The canonical repository of this registry for `path`: on docker.io a single component is in
    /// `library/`, once.
    ///
    /// # Errors
    /// [`NameError::SpoilsRepository`] if `path` is no repository name.
    pub fn repository(&self, path: &str) -> Result<Repository, NameError> {
        if &*self.0 == "docker.io" && !path.contains('/') {
            return format!("library/{path}").parse();
        }
        path.parse()
    }

    /// The host without the port.
    pub fn host(&self) -> &str {
        split_port(&self.0).map_or(&self.0, |(host, _)| host)
    }
}

fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text[after_bracket..].find(':') {
        None => Some((text, None)),
        Some(at) => {
            let (host, port) = text.split_at(after_bracket + at);
            let port = &port[1..];
            let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
            Some((host, Some(port.parse().ok().filter(|_| digits)?)))
        }
    }
}

fn is_host(host: &str) -> bool {
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_bracketed_ipv6(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= 255 && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::SpoilsRepository)
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.iter().all(|&byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && bytes
            .split(|&byte| alphanumeric(byte))
            .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match text.as_bytes() {
            [first, rest @ ..]
                if word(*first)
                    && rest.len() < 128
                    && rest.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'-')) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(NameError::SpoilsTag),
        }
    }
}

impl Tag {
    /// Whether the specifications make this tag mutable: `sha256-<64 hex>` or `sha512-<64 hex>`,
    /// alone (distribution-spec 1.1, "Referrers Tag Schema", which cuts the digest to 64
    /// characters: a tag has 128 at most) or with `.sig`, `.att`, `.sbom` (cosign's convention).
    pub fn is_referrers(&self) -> bool {
        let base = [".sig", ".att", ".sbom"]
            .iter()
            .find_map(|suffix| self.0.strip_suffix(suffix))
            .unwrap_or(&self.0);
        ["sha256-", "sha512-"].iter().any(|prefix| {
            base.strip_prefix(prefix).is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
        })
    }

    /// What a referrers' tag is about: the digest of `sha256-<hex>`. A SHA-512 digest is cut in a
    /// tag, and names nothing for sure.
    pub fn subject(&self) -> Option<super::Digest> {
        let hex = self.0.strip_prefix("sha256-").filter(|_| self.is_referrers())?;
        format!("sha256:{}", hex.get(..64)?).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn registries_are_canonical() {
        for (text, canonical) in [
            ("docker.io", "docker.io"),
            ("DOCKER.IO:443", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("GHCR.io", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(text.parse::<Registry>().unwrap().as_str(), canonical);
        }
        for text in [
            "",
            "docker.io.",
            "a b",
            "a/b",
            "x:0",
            "x:099",
            "x:65536",
            "x:",
            ":1",
            "[::1",
            "::1",
            "a@b",
            "-a.b",
            "a..b",
            "é.io",
            "docker.io\n",
            "[::g]:1",
        ] {
            assert_eq!(text.parse::<Registry>(), Err(NameError::SpoilsRegistry), "{text:?}");
        }
    }

    #[test]
    fn library_is_added_once_and_only_on_docker_io() {
        let hub = Registry::docker_io();
        assert_eq!(hub.repository("alpine").unwrap().as_str(), "library/alpine");
        assert_eq!(hub.repository("library/alpine").unwrap().as_str(), "library/alpine");
        let other: Registry = "ghcr.io".parse().unwrap();
        assert_eq!(other.repository("alpine").unwrap().as_str(), "alpine");
    }

    #[test]
    fn repositories_and_tags_follow_the_grammar() {
        for text in ["a", "a/b/c", "a.b", "a__b", "a---b", "0/1"] {
            assert!(text.parse::<Repository>().is_ok(), "{text:?}");
        }
        for text in ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a_.b", "-a", "..", "a\0"] {
            assert_eq!(text.parse::<Repository>(), Err(NameError::SpoilsRepository), "{text:?}");
        }
        assert!("a".repeat(256).parse::<Repository>().is_err());
        for text in ["latest", "_x", "1.2.3-rc.1", "V1", &"a".repeat(128)] {
            assert!(text.parse::<Tag>().is_ok(), "{text:?}");
        }
        for text in ["", ".a", "-a", "a b", "a:b", "a\n", "\u{1b}[31m", &"a".repeat(129)] {
            assert_eq!(text.parse::<Tag>(), Err(NameError::SpoilsTag), "{text:?}");
        }
    }

    #[test]
    fn referrers_tags_are_known_by_their_whole_form() {
        let hex = "0".repeat(64);
        for (text, is) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}.zip"), false),
            (format!("sha512-{hex}"), true),
            (format!("sha384-{hex}"), false),
            ("sha256-abc".into(), false),
        ] {
            assert_eq!(text.parse::<Tag>().unwrap().is_referrers(), is, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_gives_back_what_was_parsed(text in ".*", name in "[a-z0-9._/-]{0,40}") {
            for text in [text, name] {
                if let Ok(name) = text.parse::<Repository>() {
                    prop_assert_eq!(name.as_str(), &text);
                }
                if let Ok(tag) = text.parse::<Tag>() {
                    prop_assert_eq!(tag.as_str(), &text);
                }
                if let Ok(registry) = text.parse::<Registry>() {
                    prop_assert_eq!(registry.as_str().parse::<Registry>(), Ok(registry.clone()));
                }
            }
        }
    }
}
