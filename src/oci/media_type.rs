//! Media types.
//!
//! Source: OCI image-spec, media-types.md; RFC 9110, section 8.3.1.

mod accept;

pub use accept::{Accept, Representation};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::manifest::ManifestKind;

/// A media type without parameters, lower case: `type/subtype`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

/// A text is no media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a media type is type/subtype, at most 255 characters")]
pub struct MediaTypeError;

impl MediaType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `application/octet-stream`: content of which nothing is known.
    pub fn octet_stream() -> Self {
        Self("application/octet-stream".into())
    }

    /// The kind of manifest that this media type names, if it is one that a tag may be pinned to.
    pub fn manifest_kind(&self) -> Option<ManifestKind> {
        ManifestKind::ALL.into_iter().find(|kind| kind.as_str() == &*self.0)
    }
}

impl From<ManifestKind> for MediaType {
    fn from(kind: ManifestKind) -> Self {
        Self(kind.as_str().into())
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    /// Parses a Content-Type or `mediaType` value; parameters are dropped.
    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
        let token = |part: &str| !part.is_empty() && part.bytes().all(is_token_byte);
        match essence.split_once('/') {
            Some((kind, subtype)) if token(kind) && token(subtype) && essence.len() <= 255 => {
                if essence.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Ok(Self(essence.to_ascii_lowercase().into()));
                }
                Ok(Self(essence.into()))
            }
            _ => Err(MediaTypeError),
        }
    }
}

/// Whether a byte may stand in a token: RFC 9110, section 5.6.2.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::deserialize(deserializer)
    }
}
