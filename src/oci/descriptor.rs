//! Descriptors: what a manifest says of other content. All of it is a claim.
//!
//! Source: OCI image-spec, descriptor.md; image-index.md, "platform".

use std::fmt;

use super::digest::Digest;
use super::media_type::MediaType;

/// A claim that some content exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: MediaType,
    /// The digest claimed.
    pub digest: Digest,
    /// The length claimed, in bytes.
    pub size_bytes: u64,
    /// The platform, in an index.
    pub platform: Option<Platform>,
    /// Whether it says that it is an attestation in an index (`BuildKit`'s
    /// `vnd.docker.reference.type: attestation-manifest`). An honest one is for
    /// [an unknown platform](Platform::is_unknown), too.
    pub is_attestation: bool,
}

/// The platform of an index's child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `GOARCH`.
    pub architecture: String,
    /// `GOOS`.
    pub os: String,
    /// `os.features`, empty if none.
    pub os_features: Vec<String>,
    /// `os.version`, empty if none: it tells Windows' children apart.
    pub os_version: String,
    /// The variant, empty if none.
    pub variant: String,
}

impl Platform {
    /// Whether it is `unknown/unknown`, which no client runs: `BuildKit`'s mark of an attestation.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// `os/architecture`, and the variant if there is one. It is a stranger's text: escape it.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}
