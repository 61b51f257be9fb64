//! Whose address a setting names: immutag's, or somebody else's.

use crate::cli::clients::{Endpoint, Endpoints, is_loopback};

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// immutag's direct listener.
    Direct,
    /// A listener of immutag, by http where it speaks https, or the other way round.
    Misspelt,
    /// immutag's mirror listener.
    Mirror,
    /// Not immutag's.
    Other,
}

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `None`: the text names no scheme.
    pub(super) is_tls: Option<bool>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// What follows, without slashes at its ends.
    pub(super) path: String,
}

impl Address {
    /// Takes `[scheme://]host[:port][/path]` apart; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // What stands before an `@` is a name and a password.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_bracket..].find(':') {
            None => (authority, None),
            Some(at) => {
                let (host, port) = authority.split_at(after_bracket + at);
                (host, Some(port[1..].parse().ok()?))
            }
        };
        let host = host.to_ascii_lowercase();
        let path = path.trim_matches('/').to_owned();
        (!host.is_empty()).then_some(Self { is_tls, host, port, path })
    }

    /// Whether a client that stays on this host can reach it without a proxy, whatever is set.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The host as one of several names of the same.
    fn canonical_host(&self) -> &str {
        if self.host == "localhost" { "127.0.0.1" } else { &self.host }
    }

    /// Whether it is where a listener is; of different schemes, if only they differ.
    fn is_at(&self, endpoint: &Endpoint) -> Option<bool> {
        let there = Self::parse(&endpoint.to_string())?;
        let default = |is_tls| if is_tls { 443 } else { 80 };
        let is_tls = self.is_tls.unwrap_or(endpoint.is_tls);
        let ports =
            self.port.unwrap_or(default(is_tls)) == there.port.unwrap_or(default(endpoint.is_tls));
        let is_there = ports && self.canonical_host() == there.canonical_host();
        is_there.then_some(is_tls == endpoint.is_tls)
    }
}

/// Whose address this is.
pub(super) fn source_of(endpoints: &Endpoints, address: &Address) -> Source {
    for (endpoint, source) in
        [(&endpoints.mirror, Source::Mirror), (&endpoints.direct, Source::Direct)]
    {
        match endpoint.as_ref().and_then(|endpoint| address.is_at(endpoint)) {
            Some(true) => return source,
            Some(false) => return Source::Misspelt,
            None => {}
        }
    }
    Source::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_whose_it_is() {
        let at = |text: &str| text.parse().unwrap();
        let endpoints = Endpoints {
            mirror: Some(at("http://127.0.0.1:5050")),
            direct: Some(at("https://proxy.example")),
        };
        for (text, expected) in [
            ("http://127.0.0.1:5050", Source::Mirror),
            ("http://127.0.0.1:5050/", Source::Mirror),
            ("http://LOCALHOST:5050/v2", Source::Mirror),
            ("127.0.0.1:5050", Source::Mirror),
            ("https://127.0.0.1:5050", Source::Misspelt),
            ("http://127.0.0.1:5051", Source::Other),
            ("http://127.0.0.1", Source::Other),
            ("http://127.0.0.1.evil.example:5050", Source::Other),
            ("http://127.0.0.1:5050@evil.example", Source::Other),
            ("https://proxy.example:443/docker.io", Source::Direct),
            ("proxy.example/docker.io", Source::Direct),
            ("https://proxy.example.evil", Source::Other),
            ("https://registry-1.docker.io", Source::Other),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(source_of(&endpoints, &address), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in ["", "ftp://x", "http://", "http://x:99999", "http://x:y", "/path"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
