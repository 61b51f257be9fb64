//! Why a manifest is refused.

use thiserror::Error;

use super::{ENTRY_LIMIT, MANIFEST_LIMIT};
use crate::oci::media_type::MediaType;

/// Why the body of an answer is no manifest that a covered tag may stand for.
///
/// Texts of the body stand in it escaped and cut short.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// It is not one JSON text: malformed, a byte order mark, not UTF-8, data behind its end,
    /// nested too deep.
    #[error("the manifest is not valid JSON: {detail}")]
    BreaksJson {
        /// What and where.
        detail: String,
    },
    /// Its `mediaType` is not the Content-Type.
    #[error("the manifest calls itself {body}, the answer's Content-Type is {content_type}")]
    ClaimsOtherMediaType {
        /// The body's `mediaType`, quoted.
        body: String,
        /// The answer's Content-Type.
        content_type: MediaType,
    },
    /// It has the fields of an index and of an image, or those of the one and the type of the
    /// other.
    #[error("the manifest can be read as an index and as an image")]
    ContradictsKind,
    /// More than [`ENTRY_LIMIT`] children or layers, or keys in one object.
    #[error("the manifest lists more than {ENTRY_LIMIT} children, layers or keys")]
    ExceedsEntries,
    /// More than [`MANIFEST_LIMIT`] bytes.
    #[error("the manifest is larger than {MANIFEST_LIMIT} bytes")]
    ExceedsLimit,
    /// It has no bytes.
    #[error("the manifest is empty")]
    IsEmpty,
    /// It is a Docker manifest of schema 1, signed or not.
    #[error(
        "the manifest has the obsolete schema 1, whose digest does not cover what it names; push the image again with a current client"
    )]
    IsSchema1,
    /// A field is missing that its kind requires.
    #[error("the manifest misses `{field}`")]
    MissesField {
        /// The field.
        field: &'static str,
    },
    /// Its `schemaVersion` is neither 1 nor 2.
    #[error("the manifest has schemaVersion {version}; 2 is supported")]
    NamesOtherSchemaVersion {
        /// What it says.
        version: u64,
    },
    /// It is none of the four kinds.
    #[error("the manifest's media type {media_type} is not supported for a tag")]
    NamesUnsupportedMediaType {
        /// The media type, quoted.
        media_type: String,
    },
    /// An object has a key twice.
    #[error("the manifest has the key {key} twice in one object")]
    RepeatsKey {
        /// The key, quoted.
        key: String,
    },
    /// A field has a value that it cannot have.
    #[error("the manifest has a field that is not usable: {detail}")]
    SpoilsField {
        /// What and where.
        detail: String,
    },
    /// A key differs from a known one only in case, which Go clients take for the known one.
    #[error("the manifest has the key {key}, which some clients read as `{known}`")]
    VariesKeyCase {
        /// The key, quoted.
        key: String,
        /// The known key.
        known: &'static str,
    },
}

impl ManifestError {
    /// The stable code of the reason, for the envelope's detail and the metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::BreaksJson { .. } => "INVALID_JSON",
            Self::ClaimsOtherMediaType { .. } => "MEDIATYPE_MISMATCH",
            Self::ContradictsKind => "AMBIGUOUS",
            Self::ExceedsEntries => "TOO_MANY_ENTRIES",
            Self::ExceedsLimit => "TOO_LARGE",
            Self::IsEmpty => "EMPTY",
            Self::IsSchema1 => "SCHEMA1",
            Self::MissesField { .. } => "MISSING_FIELD",
            Self::NamesOtherSchemaVersion { .. } => "SCHEMA_VERSION",
            Self::NamesUnsupportedMediaType { .. } => "UNSUPPORTED_MEDIATYPE",
            Self::RepeatsKey { .. } => "DUPLICATE_KEY",
            Self::SpoilsField { .. } => "INVALID_FIELD",
            Self::VariesKeyCase { .. } => "KEY_CASE",
        }
    }

    /// The difference between broken JSON and a value of the wrong type is `serde_json`'s own.
    pub(super) fn from_json(error: &serde_json::Error) -> Self {
        let detail = shorten(&error.to_string());
        if error.is_data() { Self::SpoilsField { detail } } else { Self::BreaksJson { detail } }
    }

    pub(super) fn spoils_utf8(error: std::str::Utf8Error) -> Self {
        Self::BreaksJson { detail: error.to_string() }
    }

    pub(super) fn claims_other(body: &str, content_type: &MediaType) -> Self {
        Self::ClaimsOtherMediaType { body: quote(body), content_type: content_type.clone() }
    }

    pub(super) fn unsupported(media_type: &str) -> Self {
        Self::NamesUnsupportedMediaType { media_type: quote(media_type) }
    }
}

/// A text of the body as a message may carry it: quoted, escaped, at most some 80 characters.
pub(super) fn quote(text: &str) -> String {
    shorten(&format!("{:?}", text.chars().take(80).collect::<String>()))
}

/// The begin and the end, where `serde_json` says line and column.
fn shorten(text: &str) -> String {
    const KEPT: usize = 100;
    let count = text.chars().count();
    if count <= 2 * KEPT {
        return text.into();
    }
    let end: String = text.chars().skip(count - KEPT).collect();
    format!("{}…{end}", text.chars().take(KEPT).collect::<String>())
}
