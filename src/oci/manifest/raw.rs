//! The second pass: the fields that we need, as they are written.

use std::borrow::Cow;

use serde::Deserialize;

use super::error::ManifestError;
use super::{Manifest, ManifestKind};
use crate::oci::descriptor::{Descriptor, Platform};
use crate::oci::digest::Digest;
use crate::oci::media_type::MediaType;

/// A manifest of any kind. `null` is as good as absent, as it is to Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw<'a> {
    pub(super) schema_version: Option<u64>,
    #[serde(borrow)]
    pub(super) media_type: Option<Cow<'a, str>>,
    artifact_type: Option<String>,
    #[serde(borrow)]
    config: Option<RawDescriptor<'a>>,
    #[serde(borrow)]
    layers: Option<Vec<RawDescriptor<'a>>>,
    #[serde(borrow)]
    manifests: Option<Vec<RawDescriptor<'a>>>,
    #[serde(borrow)]
    subject: Option<RawDescriptor<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor<'a> {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(borrow)]
    annotations: Option<RawAnnotations<'a>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.version")]
    os_version: Option<String>,
    #[serde(default, rename = "os.features")]
    os_features: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawAnnotations<'a> {
    #[serde(borrow, rename = "vnd.docker.reference.type")]
    reference_type: Option<Cow<'a, str>>,
}

impl Raw<'_> {
    /// The manifest, its kind being decided and its fields being those of its kind.
    pub(super) fn into_manifest(self, kind: ManifestKind) -> Result<Manifest, ManifestError> {
        let missing = |field| ManifestError::MissesField { field };
        if !kind.is_index() && self.config.is_none() {
            return Err(missing("config"));
        }
        Ok(Manifest {
            kind,
            media_type: kind.into(),
            children: descriptors(self.manifests)?,
            config: self.config.map(RawDescriptor::check).transpose()?,
            layers: descriptors(self.layers)?,
            subject: self.subject.map(RawDescriptor::check).transpose()?,
            artifact_type: self.artifact_type,
        })
    }
}

fn descriptors(raw: Option<Vec<RawDescriptor<'_>>>) -> Result<Vec<Descriptor>, ManifestError> {
    raw.unwrap_or_default().into_iter().map(RawDescriptor::check).collect()
}

impl RawDescriptor<'_> {
    fn check(self) -> Result<Descriptor, ManifestError> {
        if i64::try_from(self.size).is_err() {
            let detail = format!("a size of {} is more than 63 bits", self.size);
            return Err(ManifestError::SpoilsField { detail });
        }
        let reference_type = self.annotations.and_then(|annotations| annotations.reference_type);
        Ok(Descriptor {
            media_type: self.media_type,
            digest: self.digest,
            size_bytes: self.size,
            platform: self.platform.map(Platform::from),
            is_attestation: reference_type.as_deref() == Some("attestation-manifest"),
        })
    }
}

impl From<RawPlatform> for Platform {
    fn from(raw: RawPlatform) -> Self {
        Self {
            architecture: raw.architecture,
            os: raw.os,
            os_features: raw.os_features.unwrap_or_default(),
            os_version: raw.os_version.unwrap_or_default(),
            variant: raw.variant.unwrap_or_default(),
        }
    }
}
