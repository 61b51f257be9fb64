//! What a tag says of a digest.

use super::*;
use crate::oci::ComputedDigest;
use crate::pin::{Content, Pin, Provenance, Seen};

fn content(seed: &[u8]) -> Content {
    let media_type = ManifestKind::OciManifest.into();
    Content { digest: ComputedDigest::of(seed, None).digest(), media_type, size_bytes: 1 }
}

fn seen(seed: &[u8], was_served: bool) -> Seen {
    Seen { content: content(seed), first_ms: 1, was_served, flaps: 0 }
}

#[test]
fn a_tag_speaks_for_what_it_stood_for_and_against_what_it_never_let_through() {
    let key = PinKey {
        registry: "registry.example".parse().unwrap(),
        repository: "app".parse().unwrap(),
        tag: "1".parse().unwrap(),
    };
    let content = content(b"pin");
    let pin = Pin { content, provenance: Provenance::FirstSeen, sequence: 1, since_ms: 1 };
    let state = TagState {
        pin: Some(pin),
        seen: vec![seen(b"pin", true), seen(b"old", true), seen(b"held", false)],
        rejected: vec![self::content(b"rejected").digest],
        ..TagState::default()
    };
    let word = |seed: &[u8]| word(&key, &state, &self::content(seed).digest);
    assert!(matches!(word(b"pin"), Word::For(_)));
    assert!(matches!(word(b"old"), Word::For(_)));
    assert!(matches!(word(b"held"), Word::Against(_)));
    assert!(matches!(word(b"rejected"), Word::Against(_)));
    assert_eq!(word(b"other"), Word::Nothing);
}
