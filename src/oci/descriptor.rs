//! Descriptors: what a manifest says of other content. All of it is a claim.
//!
//! Source: OCI image-spec, descriptor.md; image-index.md, "platform".

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
    /// Whether it is an attestation in an index (`BuildKit`'s
    /// `vnd.docker.reference.type: attestation-manifest`).
    pub is_attestation: bool,
}

/// The platform of an index's child.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `GOARCH`.
    pub architecture: String,
    /// `GOOS`.
    pub os: String,
    /// The variant, empty if none.
    pub variant: String,
}
