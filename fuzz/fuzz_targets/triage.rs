//! Manifests and configs of any bytes never make a comparison panic, and nothing that it says is
//! unprintable or without bound.
#![no_main]

use immutag::oci::{ComputedDigest, ManifestKind, is_unprintable};
use immutag::pin::Content;
use immutag::triage::{Case, Material, SUMMARY_LIMIT, Side, compare, wanted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (Vec<u8>, Vec<u8>)| {
    let (before, after) = parts;
    check(&before, &after, &[]);
    check(&around(&before), &around(&after), &[before, after]);
});

/// A manifest with these bytes as its config.
fn around(config: &[u8]) -> Vec<u8> {
    let (kind, digest) = (ManifestKind::OciManifest.as_str(), ComputedDigest::of(config, None));
    let config = serde_json::json!({
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest.digest(),
        "size": config.len(),
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [],
    });
    manifest.to_string().into_bytes()
}

fn check(before: &[u8], after: &[u8], configs: &[Vec<u8>]) {
    let content = |bytes: &[u8]| Content {
        digest: ComputedDigest::of(bytes, None).digest(),
        media_type: ManifestKind::OciManifest.into(),
        size_bytes: bytes.len() as u64,
    };
    let (old, new) = (content(before), content(after));
    let before = Side { content: &old, bytes: before };
    let after = Side { content: &new, bytes: after };
    let mut material = Material::default();
    for one in wanted(before, after, &material) {
        configs.iter().any(|config| material.add(&one, config.clone().into()));
    }
    let material = &material;
    let case = Case { before, after, material, signatures: None, is_young: false, now_ms: 0 };
    let triage = compare(&case);
    let text = serde_json::to_string(&triage).expect("it is plain data");
    assert!(!text.contains(is_unprintable));
    assert!(triage.summary().chars().count() <= SUMMARY_LIMIT);
}
