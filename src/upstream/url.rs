//! URLs that an upstream hands us: parsed strictly, resolved against where they came from.
//!
//! Source: RFC 3986, section 5.2; what we have no use for (userinfo, dot segments) is refused.

use std::fmt;

use hyper::Uri;
use hyper::http::uri::Scheme;

/// Longer URLs are refused, in bytes.
const MAX_LEN: usize = 16 << 10;

/// An absolute http or https URL without userinfo and fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    uri: Uri,
    origin: Origin,
}

/// Scheme, host and port: what credentials are bound to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Url {
    /// Parses an absolute URL; a fragment is dropped.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split('#').next().unwrap_or_default();
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        if text.len() > MAX_LEN || !plain {
            return None;
        }
        Self::from_uri(text.parse().ok()?)
    }

    fn from_uri(uri: Uri) -> Option<Self> {
        let is_https = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host().to_ascii_lowercase();
        let port = match authority.as_str().get(host.len()..)? {
            "" => default_port(is_https),
            rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
        };
        (!host.is_empty()).then_some(Self { uri, origin: Origin { is_https, host, port } })
    }

    /// What a Location header found at this URL points to.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.origin.is_https { "https" } else { "http" };
        let authority = self.uri.authority()?;
        let path = self.uri.path();
        let is_dotted = |path: &str| {
            let path = path.split('?').next().unwrap_or_default();
            path.split('/').any(|segment| matches!(segment, "." | ".."))
        };
        if location.is_empty() || is_dotted(location) {
            None
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{scheme}://{authority}{location}"))
        } else if location.starts_with('?') {
            Self::parse(&format!("{scheme}://{authority}{path}{location}"))
        } else if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
            Self::parse(location)
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{scheme}://{authority}{folder}/{location}"))
        }
    }

    /// The same URL with `pairs` added to its query, percent-encoded.
    pub(crate) fn with_query(&self, pairs: &[(&str, &str)]) -> Option<Self> {
        let mut text = self.uri.to_string();
        let mut separator = if self.uri.query().is_some() { '&' } else { '?' };
        for (name, value) in pairs {
            text.push(separator);
            text.push_str(name);
            text.push('=');
            push_encoded(&mut text, value);
            separator = '&';
        }
        Self::parse(&text)
    }

    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Origin {
    pub(crate) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host, lower case; an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether `host[:port]`, with the scheme's own port as default, is this host and port.
    pub(crate) fn is_at(&self, place: &str) -> bool {
        let scheme = if self.is_https { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{place}"))
            .is_some_and(|url| url.origin.host == self.host && url.origin.port == self.port)
    }

    /// A URL at this origin; `None` if `path` does not start with `/` or is no path.
    pub(crate) fn at(&self, path: &str) -> Option<Url> {
        path.starts_with('/').then(|| Url::parse(&format!("{self}{path}")))?
    }
}

const fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

fn push_encoded(text: &mut String, value: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.is_https) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Only the origin: a query may carry a signature.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.origin, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn locations_are_resolved_and_what_is_odd_is_refused() {
        let base = Url::parse("https://a.example:5000/v2/x/blobs/y?z=1").unwrap();
        for (location, expected) in [
            ("https://b.example/c", Some("https://b.example/c")),
            ("http://b.example/c#d", Some("http://b.example/c")),
            ("//b.example/c", Some("https://b.example/c")),
            ("/c?d", Some("https://a.example:5000/c?d")),
            ("?d", Some("https://a.example:5000/v2/x/blobs/y?d")),
            ("c/d", Some("https://a.example:5000/v2/x/blobs/c/d")),
            ("", None),
            ("#x", None),
            ("../c", None),
            ("https://a.example/../c", None),
            ("https://user@b.example/", None),
            ("https://user:pass@b.example/", None),
            ("file:///etc/passwd", None),
            ("gopher://b.example/", None),
            ("javascript:alert(1)", None),
            ("https://", None),
            ("https:///c", None),
            ("https://b.example:0/", None),
            ("https://b.example:99999/", None),
            ("https://b.example:/", None),
            ("https://b.example\\@evil.example/", None),
            ("https://b.example/\r\nX: y", None),
            ("https://b.example/ c", None),
            ("https://é.example/", None),
        ] {
            let joined = base.join(location).map(|url| url.uri().to_string());
            assert_eq!(joined.as_deref(), expected, "{location:?}");
        }
        assert_eq!(base.join(&format!("/{}", "a".repeat(MAX_LEN))), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text| Url::parse(text).unwrap().origin().clone();
        assert_eq!(origin("https://A.example:443/x"), origin("https://a.example"));
        assert_ne!(origin("https://a.example:444"), origin("https://a.example"));
        assert_ne!(origin("http://a.example:443"), origin("https://a.example"));
        assert!(origin("https://a.example").is_at("a.example"));
        assert!(origin("https://a.example").is_at("A.example:443"));
        assert!(!origin("https://a.example:5000").is_at("a.example"));
        assert!(!origin("https://a.example").is_at("b.example"));
    }

    #[test]
    fn queries_are_encoded() {
        let url = Url::parse("https://a.example/token?x=1").unwrap();
        let with = url.with_query(&[("service", "a b&c=d"), ("scope", "repository:x/y:pull")]);
        assert_eq!(
            with.unwrap().uri().to_string(),
            "https://a.example/token?x=1&service=a%20b%26c%3Dd&scope=repository:x/y:pull"
        );
    }

    proptest! {
        #[test]
        fn joining_never_panics_and_gives_http_or_https(location in ".*") {
            let base = Url::parse("https://a.example/x").unwrap();
            if let Some(url) = base.join(&location) {
                prop_assert!(matches!(url.uri().scheme_str(), Some("http" | "https")));
                prop_assert!(!url.uri().authority().unwrap().as_str().contains('@'));
            }
        }
    }
}
