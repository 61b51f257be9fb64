//! The outbound proxy of an upstream: its own, the environment's, or none.
//!
//! The proxy itself is the operator's choice, so the address guard does not apply to it.

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

/// Decides which requests go through which proxy. Its Debug form has no credentials.
#[derive(Debug)]
pub(crate) struct Proxy {
    matcher: Matcher,
}

impl Proxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (or lower case) say.
    ///
    /// `None`: one of them names a proxy that we cannot speak to.
    pub(crate) fn from_environment() -> Option<Self> {
        Self::checked(Matcher::from_env())
    }

    /// One proxy for everything; the empty text: none. `None`: it is not usable.
    pub(crate) fn fixed(text: &str) -> Option<Self> {
        let proxy = Self::checked(Matcher::builder().all(text).build())?;
        let is_usable = text.is_empty() || proxy.for_uri(&Uri::from_static("https://x/")).is_some();
        is_usable.then_some(proxy)
    }

    fn checked(matcher: Matcher) -> Option<Self> {
        let probes = [
            Uri::from_static("https://immutag.invalid/"),
            Uri::from_static("http://immutag.invalid/"),
        ];
        let is_http = |uri: &Uri| {
            matcher
                .intercept(uri)
                .is_none_or(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")))
        };
        probes.iter().all(is_http).then_some(Self { matcher })
    }

    /// The proxy that a request for `uri` goes through.
    pub(crate) fn for_uri(&self, uri: &Uri) -> Option<Intercept> {
        self.matcher.intercept(uri)
    }

    /// The `Proxy-Authorization` of a request that is sent to a proxy in absolute form: plain http
    /// only, since https is tunnelled and the tunnel carries it.
    pub(crate) fn authorization(&self, uri: &Uri) -> Option<HeaderValue> {
        if uri.scheme_str() != Some("http") {
            return None;
        }
        self.for_uri(uri)?.basic_auth().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(proxy: &Proxy, uri: &'static str) -> Option<String> {
        proxy.for_uri(&Uri::from_static(uri)).map(|found| found.uri().to_string())
    }

    #[test]
    fn no_proxy_and_the_scheme_decide() {
        let matcher = Matcher::builder()
            .https("http://one:1")
            .http("two:2")
            .no("internal.example, 10.0.0.0/8, localhost")
            .build();
        let proxy = Proxy::checked(matcher).unwrap();
        for (uri, expected) in [
            ("https://registry.example/", Some("http://one:1/")),
            ("http://registry.example/", Some("http://two:2/")),
            ("https://internal.example/", None),
            ("https://a.internal.example/", None),
            ("https://notinternal.example/", Some("http://one:1/")),
            ("https://10.1.2.3/", None),
            ("https://11.1.2.3/", Some("http://one:1/")),
            ("http://localhost:5000/", None),
        ] {
            assert_eq!(through(&proxy, uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn credentials_come_from_the_url_and_are_not_printed() {
        let proxy = Proxy::fixed("http://user:p%40ss@proxy.example:3128").unwrap();
        let header = proxy.authorization(&Uri::from_static("http://a.example/")).unwrap();
        assert_eq!(header, "Basic dXNlcjpwQHNz");
        assert!(header.is_sensitive());
        assert_eq!(proxy.authorization(&Uri::from_static("https://a.example/")), None);
        let printed = format!("{proxy:?}");
        assert!(!printed.contains("user") && !printed.contains("ss@"), "{printed}");
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_and_nothing_means_none() {
        for text in ["socks5://proxy:1080", "ftp://proxy", "http://", "a b"] {
            assert!(Proxy::fixed(text).is_none(), "{text}");
        }
        assert_eq!(through(&Proxy::fixed("").unwrap(), "https://a.example/"), None);
    }
}
