//! What is asked of an upstream and what it answers.

use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LINK,
};

use super::body::Body;
use super::credential::ClientCredential;
use super::error::UpstreamError;
use crate::oci::{Digest, ManifestReference, MediaType, Repository};

/// The verbs that we use upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// With the body.
    Get,
    /// The header alone.
    Head,
}

/// What is asked for, within a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A blob.
    Blob(Digest),
    /// A manifest.
    Manifest(ManifestReference),
    /// The list of what refers to a manifest.
    Referrers {
        /// The manifest.
        digest: Digest,
        /// The query without its `?`; `ns` is left out.
        query: String,
    },
    /// The list of tags.
    Tags {
        /// The query without its `?`; `ns` is left out.
        query: String,
    },
}

/// A request to an upstream.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The verb.
    pub method: Method,
    /// Where.
    pub repository: Repository,
    /// What.
    pub resource: Resource,
    /// The Accept header, if there shall be one.
    pub accept: Option<String>,
    /// Only the bytes from here on (from 0).
    pub range_from: Option<u64>,
    /// The client's own credentials: used if the upstream's `credentials` are `"client"`.
    pub credential: Option<ClientCredential>,
    /// The time for everything, retries and the body included; `None`: for a blob the upstream's
    /// own timeouts alone, else three times connecting and the header, and once a body's idle time.
    pub deadline: Option<Duration>,
}

/// What an upstream answers. All of it is a claim.
pub struct Answer {
    /// The status: 200, 206, 404, 416 or another one that is the registry's own answer.
    pub status: u16,
    /// The Content-Type; `None` if it is missing or no media type.
    pub content_type: Option<MediaType>,
    /// The Content-Length, in bytes.
    pub content_length: Option<u64>,
    /// The Docker-Content-Digest; `None` if it is missing, malformed or of an unknown algorithm.
    pub digest: Option<Digest>,
    /// The body is in a Content-Encoding other than identity, which nobody asked for.
    pub content_encoded: bool,
    /// The Content-Range.
    pub content_range: Option<String>,
    /// The Link header, of a paginated list.
    pub link: Option<String>,
    /// The OCI-Filters-Applied header, of referrers.
    pub filters_applied: Option<String>,
    /// The body.
    pub body: Body,
}

impl Resource {
    /// The path and query below the upstream's origin.
    pub(crate) fn path(&self, repository: &Repository) -> String {
        let with = |path: String, query: &str| {
            let kept: Vec<_> = query.split('&').filter(|pair| is_kept(pair)).collect();
            if kept.is_empty() { path } else { format!("{path}?{}", kept.join("&")) }
        };
        match self {
            Self::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
            Self::Manifest(reference) => format!("/v2/{repository}/manifests/{reference}"),
            Self::Referrers { digest, query } => {
                with(format!("/v2/{repository}/referrers/{digest}"), query)
            }
            Self::Tags { query } => with(format!("/v2/{repository}/tags/list"), query),
        }
    }
}

/// `ns` names the registry to us; no registry has a use for it.
fn is_kept(pair: &str) -> bool {
    !pair.is_empty() && pair.split('=').next() != Some("ns")
}

impl Answer {
    /// Reads an answer that is neither a refusal nor a failure.
    pub(crate) fn read(
        response: Response<Incoming>,
        range_from: Option<u64>,
        body: impl FnOnce(Incoming) -> Body,
    ) -> Result<Self, UpstreamError> {
        let (head, incoming) = response.into_parts();
        let (status, headers) = (head.status.as_u16(), &head.headers);
        let content_range = text(headers, CONTENT_RANGE.as_str());
        match status {
            300..=399 => return Err(UpstreamError::Invalid("it redirects without a target")),
            206 if !starts_at(content_range.as_deref(), range_from) => {
                return Err(UpstreamError::Invalid("it sends another part than was asked for"));
            }
            _ => {}
        }
        let encoding = headers.get_all(CONTENT_ENCODING);
        let parsed = |name| text(headers, name);
        Ok(Self {
            status,
            content_type: parsed(CONTENT_TYPE.as_str()).and_then(|value| value.parse().ok()),
            content_length: parsed(CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok()),
            digest: parsed("docker-content-digest").and_then(|value| value.parse().ok()),
            content_encoded: encoding
                .iter()
                .any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")),
            content_range,
            link: parsed(LINK.as_str()),
            filters_applied: parsed("oci-filters-applied"),
            body: body(incoming),
        })
    }
}

/// Whether a Content-Range (RFC 9110, section 14.4) begins where the request said.
fn starts_at(content_range: Option<&str>, from: Option<u64>) -> bool {
    let first = content_range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split_once('-'))
        .and_then(|(first, _)| first.trim().parse::<u64>().ok());
    from.is_some() && first == from
}

/// A header's value, if it is there once and is text.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification_and_ns_stays_here() {
        let repository: Repository = "library/alpine".parse().unwrap();
        let digest = Digest::sha256([0; 32]);
        let query = "ns=docker.io&n=5&last=a%20b&ns&nsx=1".to_owned();
        for (resource, expected) in [
            (Resource::Blob(digest), format!("/v2/library/alpine/blobs/{digest}")),
            (
                Resource::Manifest(ManifestReference::Tag("3.19".parse().unwrap())),
                "/v2/library/alpine/manifests/3.19".into(),
            ),
            (Resource::Tags { query }, "/v2/library/alpine/tags/list?n=5&last=a%20b&nsx=1".into()),
            (
                Resource::Referrers { digest, query: "ns=x".into() },
                format!("/v2/library/alpine/referrers/{digest}"),
            ),
        ] {
            assert_eq!(resource.path(&repository), expected);
        }
    }

    #[test]
    fn a_part_must_begin_where_it_was_asked_for() {
        for (range, from, expected) in [
            (Some("bytes 5-9/10"), Some(5), true),
            (Some("bytes 4-9/10"), Some(5), false),
            (Some("bytes */10"), Some(5), false),
            (Some("lines 5-9/10"), Some(5), false),
            (None, Some(5), false),
            (Some("bytes 0-9/10"), None, false),
        ] {
            assert_eq!(starts_at(range, from), expected, "{range:?} {from:?}");
        }
    }
}
