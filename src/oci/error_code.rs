//! The error envelope.
//!
//! Source: OCI distribution-spec 1.1, "Error Codes".

use serde::Serialize;

/// The specification's error codes: nothing else goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// `BLOB_UNKNOWN`
    BlobUnknown,
    /// `BLOB_UPLOAD_INVALID`
    BlobUploadInvalid,
    /// `BLOB_UPLOAD_UNKNOWN`
    BlobUploadUnknown,
    /// `DENIED`
    Denied,
    /// `DIGEST_INVALID`
    DigestInvalid,
    /// `MANIFEST_BLOB_UNKNOWN`
    ManifestBlobUnknown,
    /// `MANIFEST_INVALID`
    ManifestInvalid,
    /// `MANIFEST_UNKNOWN`
    ManifestUnknown,
    /// `NAME_INVALID`
    NameInvalid,
    /// `NAME_UNKNOWN`
    NameUnknown,
    /// `SIZE_INVALID`
    SizeInvalid,
    /// `TOOMANYREQUESTS`
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// `UNAUTHORIZED`
    Unauthorized,
    /// `UNSUPPORTED`
    Unsupported,
}

/// The body of an error answer: `{"errors":[…]}`, here always with one error.
#[derive(Debug, Serialize)]
pub struct Envelope<D: Serialize> {
    errors: [Entry<D>; 1],
}

#[derive(Debug, Serialize)]
struct Entry<D: Serialize> {
    code: ErrorCode,
    message: String,
    detail: D,
}

impl<D: Serialize> Envelope<D> {
    /// An envelope around one error.
    pub fn new(code: ErrorCode, message: String, detail: D) -> Self {
        Self { errors: [Entry { code, message, detail }] }
    }

    /// The JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_has_the_form_of_the_specification() {
        let envelope = Envelope::new(ErrorCode::TooManyRequests, "immutag: slow".into(), ());
        assert_eq!(
            String::from_utf8(envelope.to_json()).unwrap(),
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"immutag: slow","detail":null}]}"#
        );
    }
}
