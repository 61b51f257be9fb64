//! The block that no client gets round, for mirror listeners: pure.
//!
//! A plain refusal sends every client to its next source, silently. What stops them all is an OCI
//! image manifest whose config has a media type that nobody supports and that says, in words, what
//! happened. It rests on what clients do, on no specification; one test per client holds it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::oci::{ComputedDigest, Digest, ManifestKind};
use crate::pull::Refusal;

/// A manifest that stands for a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The manifest's bytes.
    pub bytes: bytes::Bytes,
    /// Their digest.
    pub digest: Digest,
    /// The blob that it names and that is never to be had.
    pub blob: Digest,
    /// The text, as a reason phrase.
    pub reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: Config<'a>,
    layers: [u8; 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    media_type: &'a str,
    digest: Digest,
    size: usize,
}

impl Tombstone {
    /// The tombstone of a refusal: a pure function of tag, pin, observation and reason.
    pub fn of(refusal: &Refusal) -> Self {
        let reason = text(refusal);
        let blob = nobodys(&format!("tombstone of {reason}"));
        let manifest = Manifest {
            schema_version: 2,
            media_type: ManifestKind::OciManifest.as_str(),
            config: Config {
                media_type: &format!("application/vnd.immutag.blocked.v1+json; {reason}"),
                digest: blob,
                size: reason.len(),
            },
            layers: [],
        };
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        let digest = ComputedDigest::of(&bytes, None).digest();
        Self { bytes: bytes.into(), digest, blob, reason }
    }
}

/// A digest that no content has: the complement of the text's. Whoever knew bytes for it could push
/// them to the real registry, and a client that got them there would take the tombstone for whole.
fn nobodys(text: &str) -> Digest {
    let digest: [u8; 32] = Sha256::digest(text).into();
    Digest::sha256(digest.map(|byte| !byte))
}

/// The longest text: enough for what happened to the longest reference, and for the commands that
/// end it.
const TEXT_LIMIT: usize = 2500;

/// What a person reads: printable ASCII on one line.
fn text(refusal: &Refusal) -> String {
    let mut text = format!("immutag: {} ({})", refusal.message, refusal.reason.name());
    if !refusal.help.is_empty() {
        text = format!("{text}; {}", refusal.help);
    }
    text.chars()
        .map(|character| if matches!(character, ' '..='~') { character } else { '?' })
        .take(TEXT_LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Manifest;
    use crate::pull::Reason;

    #[test]
    fn nobody_who_knows_a_tombstones_text_can_push_its_blob() {
        let refusal = Refusal::new(Reason::DigestChanged, "x:1 moved");
        let Tombstone { blob, reason, bytes, .. } = Tombstone::of(&refusal);
        let guesses = [format!("tombstone of {reason}").into(), reason.into(), bytes];
        for guess in guesses {
            assert!(!ComputedDigest::of(&guess, None).supports(&blob), "{guess:?}");
        }
    }

    #[test]
    fn a_tombstone_is_an_oci_manifest_that_says_what_happened() {
        let mut refusal = Refusal::new(Reason::DigestChanged, "x:1 moved\nfar\u{1b}[31m away");
        refusal.help = "immutag ledger approve".into();
        let tombstone = Tombstone::of(&refusal);
        assert_eq!(Tombstone::of(&refusal), tombstone);
        let manifest = Manifest::parse(&tombstone.bytes, None).unwrap();
        assert_eq!(manifest.kind, ManifestKind::OciManifest);
        assert!(manifest.layers.is_empty());
        assert_eq!(manifest.config.unwrap().digest, tombstone.blob);
        let text = String::from_utf8(tombstone.bytes.to_vec()).unwrap();
        assert!(text.contains(
            "application/vnd.immutag.blocked.v1+json; immutag: x:1 moved?far?[31m away \
             (DIGEST_CHANGED); immutag ledger approve"
        ));
    }
}
