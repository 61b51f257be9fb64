//! Manifests for the tests of this and other modules.

use super::{Manifest, ManifestKind};

/// A digest's text, all of one digit.
pub(crate) fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// A child for `os/architecture`, its digest all of `digit`.
pub(crate) fn child(digit: char, platform: &str) -> String {
    let (os, architecture) = platform.split_once('/').unwrap();
    format!(
        r#"{{"mediaType":"{}","digest":"{}","size":7,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#,
        ManifestKind::OciManifest.as_str(),
        digest(digit),
    )
}

/// An attestation as `BuildKit` lists it.
pub(crate) fn attestation(digit: char) -> String {
    let mark = r#""annotations":{"vnd.docker.reference.type":"attestation-manifest"},"#;
    child(digit, "unknown/unknown").replacen("\"size\"", &format!("{mark}\"size\""), 1)
}

/// An index with these children.
pub(crate) fn index_json(children: &[String]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        ManifestKind::OciIndex.as_str(),
        children.join(",")
    )
}

/// An index with these children, parsed.
pub(crate) fn index_of(children: &[String]) -> Manifest {
    Manifest::parse(index_json(children).as_bytes(), None).unwrap()
}

/// An index with linux/arm64, linux/amd64 and an attestation.
pub(crate) fn index() -> Manifest {
    index_of(&[child('1', "linux/arm64"), child('2', "linux/amd64"), attestation('3')])
}

/// An image of one layer.
pub(crate) fn image_json() -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        ManifestKind::OciManifest.as_str(),
        blob('c', "application/vnd.oci.image.config.v1+json"),
        blob('1', "application/vnd.oci.image.layer.v1.tar+gzip"),
    )
}

/// A descriptor of a blob.
pub(crate) fn blob(digit: char, media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":42}}"#, digest(digit))
}

/// An image of one layer, parsed.
pub(crate) fn image() -> Manifest {
    Manifest::parse(image_json().as_bytes(), None).unwrap()
}
