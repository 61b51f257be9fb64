//! Manifests, parsed strictly over their raw bytes.
//!
//! Go clients take a key in any case and the last of two equal keys; others do not. A covered
//! tag's manifest must read the same to all of them, so whatever could be read in two ways is
//! refused. The bytes are parsed, never written anew.
//!
//! Source: OCI image-spec, manifest.md and image-index.md; Docker's "Image Manifest V 2, Schema 2".

mod error;
mod extends;
mod raw;
mod walk;

pub use error::ManifestError;

use super::descriptor::Descriptor;
use super::digest::Digest;
use super::media_type::MediaType;
use raw::Raw;
use walk::Present;

/// The largest manifest of a covered tag, in bytes (4 MiB, as distribution-spec 1.1 recommends).
pub const MANIFEST_LIMIT: usize = 4 << 20;

/// The most children of an index, and the most layers of an image.
pub const ENTRY_LIMIT: usize = 10_000;

/// The `Accept` that every covered tag is asked for with. No wildcard: a registry must say what
/// it has, not what it thinks we can read.
pub const CANONICAL_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The four kinds of manifest that a covered tag may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// A Docker manifest list.
    DockerList,
    /// A Docker image manifest, schema 2.
    DockerManifest,
    /// An OCI image index.
    OciIndex,
    /// An OCI image manifest.
    OciManifest,
}

impl ManifestKind {
    /// All kinds, in the order in which the canonical Accept lists them.
    pub const ALL: [Self; 4] =
        [Self::OciIndex, Self::DockerList, Self::OciManifest, Self::DockerManifest];

    /// The media type's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    /// Whether it lists other manifests.
    pub const fn is_index(self) -> bool {
        matches!(self, Self::DockerList | Self::OciIndex)
    }
}

/// What a manifest says. All of it is a claim, and foreign layers' `urls` are not even kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The kind.
    pub kind: ManifestKind,
    /// The media type of `kind`.
    pub media_type: MediaType,
    /// The manifests that an index lists, in its order; empty for an image.
    pub children: Vec<Descriptor>,
    /// The configuration of an image; always there for one.
    pub config: Option<Descriptor>,
    /// The layers of an image, in its order; empty for an index.
    pub layers: Vec<Descriptor>,
    /// What it refers to, if it is a referrer.
    pub subject: Option<Descriptor>,
    /// The type of artifact, if it says one.
    pub artifact_type: Option<String>,
}

impl Manifest {
    /// Parses the body of an answer that came with `content_type`.
    ///
    /// Without a Content-Type the body's `mediaType` decides; without either, the fields do, and
    /// only for the OCI kinds, since Docker's require `mediaType`.
    ///
    /// # Errors
    /// Whatever two clients could read differently, and whatever is not one of the four kinds.
    pub fn parse(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_LIMIT {
            return Err(ManifestError::ExceedsLimit);
        }
        if content_type.is_some_and(|claim| is_schema1(claim.as_str())) {
            return Err(ManifestError::IsSchema1);
        }
        let text = std::str::from_utf8(bytes).map_err(ManifestError::spoils_utf8)?;
        let present = walk::walk(text)?;
        let raw: Raw<'_> =
            serde_json::from_str(text).map_err(|error| ManifestError::from_json(&error))?;
        check_schema_version(&raw)?;
        let kind = decide_kind(raw.media_type.as_deref(), content_type, present)?;
        raw.into_manifest(kind)
    }

    /// The first child for a platform that is an image and no attestation.
    pub fn child(&self, os: &str, architecture: &str) -> Option<&Descriptor> {
        self.children.iter().find(|child| {
            let platform = child.platform.as_ref();
            !child.is_attestation
                && child.media_type.manifest_kind().is_some_and(|kind| !kind.is_index())
                && platform.is_some_and(|it| it.os == os && it.architecture == architecture)
        })
    }

    /// Whether `digest` is a child of this index.
    pub fn names(&self, digest: &Digest) -> bool {
        self.children.iter().any(|child| child.digest == *digest)
    }

    /// Whether `digest` is that of an image in this index, or of this image's config: what clients
    /// call a tag's digest is sometimes one of these. What stands there as an attestation runs on
    /// no client, and bears nothing out.
    pub fn bears_out(&self, digest: &Digest) -> bool {
        let is_it = |child: &Descriptor| child.digest == *digest && !child.is_attestation;
        self.children.iter().any(is_it)
            || self.config.as_ref().is_some_and(|it| it.digest == *digest)
    }

    /// Whether it has layers that are called an image's. What is called otherwise may be one all the
    /// same: some clients unpack whatever is listed.
    pub fn has_image_layers(&self) -> bool {
        const LAYERS: [&str; 2] = ["application/vnd.oci.image.", "application/vnd.docker."];
        let is_layer = |it: &str| LAYERS.iter().any(|prefix| it.starts_with(prefix));
        self.layers.iter().any(|layer| is_layer(layer.media_type.as_str()))
    }

    /// Everything that this manifest needs to be whole: children, or config and layers. The
    /// subject is not among them.
    pub fn digests(&self) -> impl Iterator<Item = &Descriptor> {
        self.children.iter().chain(&self.config).chain(&self.layers)
    }

    /// Whether this index is `pinned` with platforms or attestations added, so that no client
    /// for which `pinned` had something can now get something else.
    ///
    /// Both are indexes of one media type; each child of `pinned` is still there, as it was and in
    /// the same order; each other child is an image for an (os, architecture) that `pinned` had in
    /// no spelling, or an attestation that no platform's client would take for an image. An index
    /// with the same children is an extension, too.
    pub fn extends(&self, pinned: &Self) -> bool {
        extends::extends(self, pinned)
    }
}

fn check_schema_version(raw: &Raw<'_>) -> Result<(), ManifestError> {
    match raw.schema_version {
        _ if raw.media_type.as_deref().is_some_and(is_schema1) => Err(ManifestError::IsSchema1),
        Some(1) => Err(ManifestError::IsSchema1),
        Some(2) => Ok(()),
        Some(version) => Err(ManifestError::NamesOtherSchemaVersion { version }),
        None => Err(ManifestError::MissesField { field: "schemaVersion" }),
    }
}

/// Old registries send schema 1 as `text/plain`, too: then the body tells.
fn is_schema1(media_type: &str) -> bool {
    media_type
        .strip_prefix("application/vnd.docker.distribution.manifest.v1+")
        .is_some_and(|format| matches!(format, "json" | "prettyjws"))
}

fn decide_kind(
    body: Option<&str>,
    content_type: Option<&MediaType>,
    present: Present,
) -> Result<ManifestKind, ManifestError> {
    let is_image = present.config || present.layers;
    if present.manifests && is_image {
        return Err(ManifestError::ContradictsKind);
    }
    let kind = match (body, content_type) {
        (Some(body), Some(content_type)) if body != content_type.as_str() => {
            return Err(ManifestError::claims_other(body, content_type));
        }
        (Some(text), _) => kind_of(text)?,
        (None, Some(content_type)) => match kind_of(content_type.as_str())? {
            ManifestKind::DockerList | ManifestKind::DockerManifest => {
                return Err(ManifestError::MissesField { field: "mediaType" });
            }
            kind => kind,
        },
        (None, None) if present.manifests => ManifestKind::OciIndex,
        (None, None) if is_image => ManifestKind::OciManifest,
        (None, None) => return Err(ManifestError::MissesField { field: "mediaType" }),
    };
    let (field, is_there, contradicts) = if kind.is_index() {
        ("manifests", present.manifests, is_image)
    } else {
        ("layers", present.layers, present.manifests)
    };
    match (contradicts, is_there) {
        (true, _) => Err(ManifestError::ContradictsKind),
        (false, true) => Ok(kind),
        (false, false) => Err(ManifestError::MissesField { field }),
    }
}

/// By the exact text: Go clients compare so.
fn kind_of(text: &str) -> Result<ManifestKind, ManifestError> {
    ManifestKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| ManifestError::unsupported(text))
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
