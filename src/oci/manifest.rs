//! Manifests, parsed strictly over their raw bytes.

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
