//! The challenges of a 401, parsed within bounds.
//!
//! Source: RFC 9110, section 11.6.1; RFC 6750, section 3. A `WWW-Authenticate` header is a list of
//! challenges, each a list itself, split by the same comma: a name with a `=` behind it continues
//! the challenge before, one without begins the next.

use crate::oci::media_type::is_token_byte;

/// At most this much of all `WWW-Authenticate` headers is read, in bytes.
const MAX_LEN: usize = 16 << 10;

/// At most so many challenges are considered, the first ones.
const MAX_CHALLENGES: usize = 16;

/// A challenge that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password, to the registry itself.
    Basic,
    /// A token, to be had from `realm` for `service`.
    Bearer {
        /// The token endpoint's URL, not checked.
        realm: String,
        /// The service to ask a token for.
        service: Option<String>,
    },
}

/// The challenges that we can answer, in the order of the headers.
///
/// What cannot be understood ends the reading of its header: an unterminated quote, a missing
/// value. A Bearer challenge without a realm, or with two, is left out. Never fails and never
/// panics: the worst header has no challenge.
pub(crate) fn parse<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut budget = MAX_LEN;
    for header in headers {
        if header.len() > budget {
            break;
        }
        budget -= header.len();
        let mut reader = Reader { rest: header };
        while challenges.len() < MAX_CHALLENGES {
            match reader.challenge() {
                Some(raw) => challenges.extend(raw.understand()),
                None => break,
            }
        }
    }
    challenges
}

struct Raw<'a> {
    scheme: &'a [u8],
    params: Vec<(&'a [u8], Vec<u8>)>,
}

impl Raw<'_> {
    fn understand(self) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case(b"basic") {
            return Some(Challenge::Basic);
        }
        if !self.scheme.eq_ignore_ascii_case(b"bearer") {
            return None;
        }
        let realm = self.only(b"realm")?;
        let service = if self.has(b"service") { Some(self.only(b"service")?) } else { None };
        Some(Challenge::Bearer { realm, service })
    }

    fn has(&self, name: &[u8]) -> bool {
        self.params.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    }

    /// The value of a parameter that must stand exactly once.
    fn only(&self, name: &[u8]) -> Option<String> {
        let mut values = self.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        let is_only = values.next().is_none();
        is_only.then(|| String::from_utf8(value.clone()).ok())?
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next challenge; `None` at the end, or where the text stops making sense.
    fn challenge(&mut self) -> Option<Raw<'a>> {
        self.skip(b" \t,");
        let scheme = self.token()?;
        if !self.rest.is_empty() && !matches!(self.rest[0], b' ' | b'\t' | b',') {
            return None;
        }
        self.skip_token68();
        let mut params = Vec::new();
        loop {
            self.skip(b" \t,");
            let before = self.rest;
            let Some(name) = self.token() else { break };
            self.skip(b" \t");
            if self.rest.first() != Some(&b'=') {
                // It is the name of the next scheme.
                self.rest = before;
                break;
            }
            self.rest = &self.rest[1..];
            self.skip(b" \t");
            params.push((name, self.value()?));
        }
        Some(Raw { scheme, params })
    }

    /// Passes over padded base64 in place of parameters: RFC 9110, section 11.2, `token68`.
    fn skip_token68(&mut self) {
        self.skip(b" \t");
        let is_data = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        let data = self.rest.iter().take_while(is_data).count();
        let padding = self.rest[data..].iter().take_while(|byte| **byte == b'=').count();
        let after = &self.rest[data + padding..];
        if data > 0 && padding > 0 && matches!(after.first(), None | Some(b',')) {
            self.rest = after;
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        if self.rest.first() == Some(&b'"') {
            self.quoted()
        } else {
            self.token().map(<[u8]>::to_vec)
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut bytes = self.rest.iter().enumerate().skip(1);
        while let Some((at, &byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(value);
                }
                b'\\' => value.push(*bytes.next()?.1),
                byte => value.push(byte),
            }
        }
        None
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let end =
            self.rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn skip(&mut self, set: &[u8]) {
        while self.rest.first().is_some_and(|byte| set.contains(byte)) {
            self.rest = &self.rest[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) }
    }

    fn read(header: &str) -> Vec<Challenge> {
        parse([header.as_bytes()])
    }

    #[test]
    fn the_challenges_of_known_registries_are_understood() {
        assert_eq!(
            read(concat!(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io","#,
                r#"scope="repository:library/alpine:pull""#
            )),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]
        );
        assert_eq!(
            read(r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr""#),
            [Challenge::Basic]
        );
        assert_eq!(
            read(r#"Bearer realm="https://ghcr.io/token" , service=ghcr.io, Basic realm="x""#),
            [bearer("https://ghcr.io/token", Some("ghcr.io")), Challenge::Basic]
        );
        assert_eq!(read("Basic"), [Challenge::Basic]);
        assert_eq!(read("BASIC, bearer realm=a"), [Challenge::Basic, bearer("a", None)]);
        assert_eq!(
            read(r#"Negotiate YWJj==, Bearer realm="a", error="invalid_token""#),
            [bearer("a", None)]
        );
        assert_eq!(read(r#"Bearer realm="a\"b\\c""#), [bearer("a\"b\\c", None)]);
    }

    #[test]
    fn what_is_broken_is_left_out_and_what_stands_before_it_counts() {
        for (header, expected) in [
            ("", vec![]),
            (",,, ,", vec![]),
            ("Bearer", vec![]),
            (r#"Bearer service="x""#, vec![]),
            (r#"Bearer realm="a", realm="b""#, vec![]),
            (r#"Bearer realm="a", Realm="a""#, vec![]),
            (r#"Bearer realm="a",service=x,service=y"#, vec![]),
            (r#"Bearer realm="unterminated"#, vec![]),
            (r#"Bearer realm="a\"#, vec![]),
            (r"Bearer realm=", vec![]),
            (r#"Basic realm="x", Bearer realm="unterminated"#, vec![Challenge::Basic]),
            ("Bearer=x", vec![]),
            ("\"Bearer\" realm=a", vec![]),
            ("Digest realm=x, nonce=y", vec![]),
        ] {
            assert_eq!(read(header), expected, "{header:?}");
        }
        assert_eq!(parse([b"Bearer realm=\"\xff\"".as_slice()]), []);
    }

    #[test]
    fn reading_is_bounded() {
        let fifty = vec!["Bearer realm=a"; 50].join(", ");
        assert_eq!(read(&fifty).len(), MAX_CHALLENGES);
        let headers = vec![b"Basic".as_slice(); 50];
        assert_eq!(parse(headers).len(), MAX_CHALLENGES);
        let huge = format!("Bearer realm=\"{}\"", "a".repeat(1 << 20));
        assert_eq!(read(&huge), []);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(headers in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            parse(headers.iter().map(Vec::as_slice));
        }

        #[test]
        fn parsing_what_looks_right_never_panics(
            text in r#"((Bearer|Basic|x)( |,|=|"|\\|realm|service|a|==){0,12}){0,5}"#,
        ) {
            parse([text.as_bytes()]);
        }

        #[test]
        fn a_quoted_realm_comes_out_as_it_went_in(realm in "[ -~]{0,40}") {
            let quoted = realm.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(
                read(&format!("Bearer service=s, realm=\"{quoted}\"")),
                [bearer(&realm, Some("s"))]
            );
        }
    }
}
