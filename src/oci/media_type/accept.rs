//! What a client accepts, and which representation of a pinned tag it gets for that.
//!
//! Source: RFC 9110, section 12.5.1.

use crate::oci::manifest::{Manifest, ManifestKind};

/// What the `Accept` header lines of one request say of the four kinds of manifest.
///
/// Their total size is bounded by whoever reads the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    listed: Kinds,
    excluded: Kinds,
    any: bool,
}

/// Which representation of what is pinned a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// The pinned bytes.
    Canonical,
    /// The linux/amd64 child that the pinned index names ([`Manifest::child`]), or 404.
    LinuxAmd64Child,
}

impl Accept {
    /// Reads all `Accept` lines of a request. What is malformed is passed over.
    pub fn parse<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Self {
        let mut accept = Self::default();
        for line in lines {
            for element in split_unquoted(line.as_ref(), b',') {
                accept.take(element);
            }
        }
        accept
    }

    fn take(&mut self, element: &[u8]) {
        let mut parts = split_unquoted(element, b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(is_zero_weight);
        if range == b"*/*" || range.eq_ignore_ascii_case(b"application/*") {
            self.any |= !refused;
        }
        let named = |kind: &ManifestKind| range.eq_ignore_ascii_case(kind.as_str().as_bytes());
        if let Some(kind) = ManifestKind::ALL.iter().find(|kind| named(kind)) {
            let kinds = if refused { &mut self.excluded } else { &mut self.listed };
            kinds.insert(*kind);
        }
    }

    /// The representation for a client that sent this.
    ///
    /// A child is given only to a client that lists manifests and that cannot take an index: it
    /// lists neither kind of index nor a wildcard, or it excludes the pinned kind by `q=0`.
    pub fn negotiate(&self, pinned: &Manifest) -> Representation {
        if self.takes(pinned.kind) {
            Representation::Canonical
        } else {
            Representation::LinuxAmd64Child
        }
    }

    /// Whether a client that sent this gets a manifest of `kind` as it is: see
    /// [`Accept::negotiate`].
    pub fn takes(&self, kind: ManifestKind) -> bool {
        let lists = |index: bool| {
            ManifestKind::ALL
                .into_iter()
                .any(|kind| kind.is_index() == index && self.listed.contains(kind))
        };
        let excludes = self.excluded.contains(kind) && !self.listed.contains(kind);
        let takes_index = !excludes && (self.any || lists(true));
        !kind.is_index() || !lists(false) || takes_index
    }

    /// Whether a client that sent this gets an index as it is.
    pub fn takes_indexes(&self) -> bool {
        self.takes(ManifestKind::OciIndex) && self.takes(ManifestKind::DockerList)
    }
}

/// A set of kinds, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    fn insert(&mut self, kind: ManifestKind) {
        self.0 |= 1 << kind as u8;
    }

    const fn contains(self, kind: ManifestKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// Whether a parameter is `q=0`, `q=0.0`, `q=0.00` or `q=0.000`.
fn is_zero_weight(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', rest @ ..] => rest.iter().all(|&digit| digit == b'0'),
        _ => false,
    }
}

/// Splits at `separator`, but not inside a quoted string.
fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&byte| {
        let ends = !quoted && byte == separator;
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::manifest::fixtures;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

    #[test]
    fn only_a_client_that_cannot_take_an_index_gets_a_child() {
        use Representation::{Canonical, LinuxAmd64Child as Child};
        let index = fixtures::index();
        let table: &[(&[&str], Representation)] = &[
            (&[], Canonical),
            (&[""], Canonical),
            (&["*/*"], Canonical),
            (&["application/*"], Canonical),
            (&["application/json"], Canonical),
            (&["text/html"], Canonical),
            (&[SCHEMA1], Canonical),
            (&[INDEX], Canonical),
            (&[SCHEMA2], Child),
            (&[OCI], Child),
            (&["APPLICATION/vnd.docker.distribution.MANIFEST.v2+json ; q=0.5"], Child),
            (&[&format!("{SCHEMA2}, {SCHEMA1};q=0.9, application/json")], Child),
            (&[&format!("{SCHEMA2}, */*;q=0.1")], Canonical),
            (&[&format!("{SCHEMA2}, */*;q=0")], Child),
            (&[&format!("{SCHEMA2},{LIST}")], Canonical),
            (&[SCHEMA2, OCI, LIST], Canonical),
            (&[SCHEMA2, OCI, SCHEMA1], Child),
            (&[&format!("{OCI},{INDEX};q=0")], Child),
            (&[&format!("{OCI},{INDEX};Q=0.000")], Child),
            (&[&format!("{OCI},{INDEX};q=0.001")], Canonical),
            (&[&format!("{OCI},{INDEX};q=0, */*")], Child),
            (&[&format!("{OCI},{INDEX};q=0"), INDEX], Canonical),
            (&[&format!("{INDEX};q=0")], Canonical),
            (&[&format!("{OCI};q=0")], Canonical),
            (&[&format!("{OCI};x=\",{INDEX},\"")], Child),
            (&[&format!("{OCI};x=\"\\\",{INDEX},\"")], Child),
            (&[&format!("{OCI};x=\"\\\\\",{INDEX}")], Canonical),
        ];
        for (lines, expected) in table {
            assert_eq!(Accept::parse(*lines).negotiate(&index), *expected, "{lines:?}");
            let image = Accept::parse(*lines).negotiate(&fixtures::image());
            assert_eq!(image, Canonical, "{lines:?} of an image");
        }
    }

    #[test]
    fn a_huge_accept_is_read_in_one_pass() {
        let line = format!("{}{SCHEMA2}", "a/b;q=\"\\,\",".repeat(10_000));
        let accept = Accept::parse([line.as_bytes()]);
        assert_eq!(accept.negotiate(&fixtures::index()), Representation::LinuxAmd64Child);
        Accept::parse([[0xff_u8, b'"', b'\\', b'\\', b'"', b',', b';'].repeat(10_000)]);
    }
}
