//! References: what people type, and what stands at the end of a manifest's URL.
//!
//! Source: OCI distribution-spec 1.1, "Pulling manifests"; Docker's reference library for what
//! `alpine` stands for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::digest::{Digest, DigestError};
use super::name::{NameError, Registry, Repository, Tag};

/// The `<reference>` of `/v2/<name>/manifests/<reference>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestReference {
    /// By content.
    Digest(Digest),
    /// By name.
    Tag(Tag),
}

/// A repository at its registry, with the tag and the digest that were named, if any.
///
/// Printing gives the full form, `docker.io/library/alpine:3.19@sha256:…`, which parses back to
/// the same value. A tag that was not typed is not printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry.
    pub registry: Registry,
    /// The repository, with `library/` where docker.io wants it.
    pub repository: Repository,
    /// The tag, if one was typed.
    pub tag: Option<Tag>,
    /// The digest, if one was typed. It decides what is pulled, whatever the tag says.
    pub digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// What stands behind the `@`, or a manifest's reference with a colon, is no digest.
    #[error("the reference's digest is not usable: {0}")]
    SpoilsDigest(DigestError),
    /// What stands before the first `/` looks like a registry and is none.
    #[error("the reference's registry is not usable: {0}")]
    SpoilsRegistry(NameError),
    /// The repository is no repository.
    #[error("the reference's repository is not usable: {0}")]
    SpoilsRepository(NameError),
    /// The tag is no tag.
    #[error("the reference's tag is not usable: {0}")]
    SpoilsTag(NameError),
}

impl FromStr for ManifestReference {
    type Err = ReferenceError;

    /// A text with a colon can only be meant as a digest: no tag has one.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(ReferenceError::SpoilsDigest)
        } else {
            text.parse().map(Self::Tag).map_err(ReferenceError::SpoilsTag)
        }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl Reference {
    /// The tag, `latest` if none was typed.
    ///
    /// A reference with a digest and no tag has no tag at all: ask [`Reference::digest`] first.
    ///
    /// # Panics
    /// Never.
    pub fn tag_or_latest(&self) -> Tag {
        self.tag.clone().unwrap_or_else(|| "latest".parse().expect("`latest` is a tag"))
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn manifest_reference(&self) -> ManifestReference {
        match self.digest {
            Some(digest) => ManifestReference::Digest(digest),
            None => ManifestReference::Tag(self.tag_or_latest()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let digest = digest.map(str::parse).transpose().map_err(ReferenceError::SpoilsDigest)?;
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if names_registry(first) => {
                (first.parse().map_err(ReferenceError::SpoilsRegistry)?, path)
            }
            _ => (Registry::docker_io(), name),
        };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        Ok(Self {
            repository: registry.repository(path).map_err(ReferenceError::SpoilsRepository)?,
            tag: tag.map(str::parse).transpose().map_err(ReferenceError::SpoilsTag)?,
            registry,
            digest,
        })
    }
}

/// Whether the first component of a name is a registry rather than the begin of a repository on
/// docker.io.
fn names_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, tag, digest } = self;
        // `host:443/x` is canonical as `host`, which alone would read as a part of docker.io.
        let port = if names_registry(registry.as_str()) { "" } else { ":443" };
        write!(f, "{registry}{port}/{repository}")?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
