//! Images and indexes whose parts are at hand.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::*;
use crate::oci::{ComputedDigest, ManifestKind};

/// 2026-06-01.
pub(super) const NOW_MS: u64 = 1_780_272_000_000;

/// A manifest, and what lies below it.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) content: Content,
    pub(super) bytes: Bytes,
    parts: Vec<Bytes>,
}

impl Made {
    pub(super) fn new(media_type: &str, bytes: &[u8]) -> Self {
        let (digest, size_bytes) = (digest_of(bytes), bytes.len() as u64);
        let content = Content { digest, media_type: media_type.parse().unwrap(), size_bytes };
        Self { content, bytes: Bytes::copy_from_slice(bytes), parts: Vec::new() }
    }

    pub(super) fn side(&self) -> Side<'_> {
        Side { content: &self.content, bytes: &self.bytes }
    }
}

pub(super) fn typical() -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-04-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/app"],
            "Cmd": ["serve"],
            "User": "app",
            "Env": ["PATH=/bin", "TOKEN=s3cret", "MODE=a"],
            "Labels": {
                "org.opencontainers.image.source": "https://example.com/app",
                "org.opencontainers.image.revision": "a1",
                "org.opencontainers.image.version": "1.0.0",
                "org.opencontainers.image.base.name": "docker.io/library/debian:12",
                "maintainer": "them",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": ["sha256:1"] },
    })
}

fn digest_of(bytes: &[u8]) -> Digest {
    ComputedDigest::of(bytes, None).digest()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len() })
}

pub(super) fn image(layers: &[&str], config: &Value) -> Made {
    image_typed(layers, config, false)
}

pub(super) fn image_of(layers: &[&str], config: &[u8]) -> Made {
    build(layers, config, false)
}

pub(super) fn image_typed(layers: &[&str], config: &Value, is_docker: bool) -> Made {
    build(layers, config.to_string().as_bytes(), is_docker)
}

fn build(layers: &[&str], config: &[u8], is_docker: bool) -> Made {
    let (kind, config_type, layer_type) = if is_docker {
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        (ManifestKind::DockerManifest, "application/vnd.docker.container.image.v1+json", layer)
    } else {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        (ManifestKind::OciManifest, "application/vnd.oci.image.config.v1+json", layer)
    };
    let listed: Vec<_> =
        layers.iter().map(|layer| descriptor(layer_type, layer.as_bytes())).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind.as_str(),
        "config": descriptor(config_type, config),
        "layers": listed,
    });
    let made = Made::new(kind.as_str(), manifest.to_string().as_bytes());
    Made { parts: vec![Bytes::copy_from_slice(config)], ..made }
}

/// The same with an annotation.
pub(super) fn annotated(made: &Made, name: &str, value: &str) -> Made {
    let mut manifest: Value = serde_json::from_slice(&made.bytes).unwrap();
    manifest["annotations"][name] = json!(value);
    let again = Made::new(made.content.media_type.as_str(), manifest.to_string().as_bytes());
    Made { parts: made.parts.clone(), ..again }
}

pub(super) fn attestation(seed: &str) -> Made {
    image(&[seed], &json!({ "architecture": "unknown", "os": "unknown" }))
}

/// An index of these; one for `attestation` is marked as one, and so is one for `marked os/arch`.
pub(super) fn index(children: &[(&str, &Made)]) -> Made {
    let entry = |(platform, made): &(&str, &Made)| {
        let mut entry = descriptor(made.content.media_type.as_str(), &made.bytes);
        let bare = platform.trim_start_matches("marked ");
        let (os, architecture) = bare.split_once('/').unwrap_or(("unknown", "unknown"));
        entry["platform"] = json!({ "os": os, "architecture": architecture });
        if bare != *platform || bare == "attestation" {
            entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        }
        entry
    };
    let kind = ManifestKind::OciIndex.as_str();
    let manifests: Vec<_> = children.iter().map(entry).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
    let made = Made::new(kind, index.to_string().as_bytes());
    let below = |(_, child): &(&str, &Made)| {
        let mut all = child.parts.clone();
        all.push(child.bytes.clone());
        all
    };
    Made { parts: children.iter().flat_map(below).collect(), ..made }
}

/// Compared with all that is wanted at hand.
pub(super) fn compared(before: &Made, after: &Made) -> Triage {
    compared_as(before, after, None, false)
}

pub(super) fn compared_as(
    before: &Made,
    after: &Made,
    signatures: Option<&Signatures>,
    is_young: bool,
) -> Triage {
    let mut material = Material::default();
    let parts: Vec<_> = before.parts.iter().chain(&after.parts).collect();
    for _ in 0..2 {
        for one in wanted(before.side(), after.side(), &material) {
            if let Some(bytes) = parts.iter().find(|part| digest_of(part) == one.digest) {
                assert!(material.add(&one, Bytes::clone(bytes)));
            }
        }
    }
    assert_eq!(wanted(before.side(), after.side(), &material), []);
    with_material(before, after, &material, signatures, is_young)
}

/// Compared by nothing but the two manifests.
pub(super) fn compared_bare(before: &Made, after: &Made) -> Triage {
    with_material(before, after, &Material::default(), None, false)
}

fn with_material(
    before: &Made,
    after: &Made,
    material: &Material,
    signatures: Option<&Signatures>,
    is_young: bool,
) -> Triage {
    let (before, after) = (before.side(), after.side());
    compare(&Case { before, after, material, signatures, is_young, now_ms: NOW_MS })
}
