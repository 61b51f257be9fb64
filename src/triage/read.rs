//! A manifest as triage reads it: strictly, with the annotations that tell of its origin.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::oci::{Digest, Manifest};
use crate::pin::Content;
use crate::printable::Shown;

/// What an image may say of where it comes from, as annotation or label
/// (OCI image-spec, annotations.md). All of it is a claim.
pub(super) const ORIGIN: [&str; 6] = [
    "org.opencontainers.image.source",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.version",
    "org.opencontainers.image.created",
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.base.digest",
];

/// A manifest that could be read.
pub(super) struct Read {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    /// Those of [`ORIGIN`].
    pub(super) annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<HashMap<String, Value>>,
}

impl Read {
    /// Reads a manifest, or says why not.
    pub(super) fn of(content: &Content, bytes: &[u8]) -> Result<Self, Shown> {
        let manifest = Manifest::parse(bytes, Some(&content.media_type));
        let manifest = manifest.map_err(|error| Shown::new(&error.to_string()))?;
        let annotated = serde_json::from_slice::<Annotated>(bytes).ok();
        let all = annotated.and_then(|it| it.annotations).unwrap_or_default();
        let text = |(name, value)| match value {
            Value::String(text) if ORIGIN.contains(&String::as_str(&name)) => Some((name, text)),
            _ => None,
        };
        let annotations = all.into_iter().filter_map(text).collect();
        Ok(Self { digest: content.digest, manifest, annotations })
    }
}
