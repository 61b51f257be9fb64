//! The one map from what happened to what a client reads.
//!
//! Names, addresses and tokens of our network never get here: a [`Refusal`] carries words that
//! were made for a client.

use std::time::Duration;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::tombstone::Tombstone;
use crate::config::ListenerKind;
use crate::oci::{Digest, Envelope, ErrorCode};
use crate::pull::{BlobReply, ListReply, ManifestReply, Reason, Refusal, Span};

/// The longest value of the Warning headers of one answer, in bytes (clients.md, 4).
const WARNING_LIMIT: usize = 4000;

static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
static LISTENER: HeaderName = HeaderName::from_static("immutag-listener");
static REASON: HeaderName = HeaderName::from_static("immutag-reason");
static FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Status and code of a refusal: the table of the documentation.
pub fn status_of(refusal: &Refusal) -> (StatusCode, ErrorCode) {
    use ErrorCode as Code;
    use StatusCode as Status;
    match refusal.reason {
        Reason::AddressNotAllowed | Reason::RealmNotAllowed | Reason::RedirectNotAllowed => {
            (Status::BAD_GATEWAY, Code::Denied)
        }
        Reason::BlobUnknown => (Status::NOT_FOUND, Code::BlobUnknown),
        Reason::BodyNotAllowed => (Status::PAYLOAD_TOO_LARGE, Code::SizeInvalid),
        Reason::DigestChanged
        | Reason::DigestRevoked
        | Reason::Offline
        | Reason::PinPending
        | Reason::PinRequired => (Status::FORBIDDEN, Code::ManifestInvalid),
        Reason::DigestUnsupported => (Status::BAD_REQUEST, Code::DigestInvalid),
        Reason::HeadTooLarge => (Status::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::SizeInvalid),
        Reason::LedgerUnavailable => (Status::SERVICE_UNAVAILABLE, Code::ManifestInvalid),
        Reason::ManifestUnknown | Reason::PinnedContentGone => {
            (Status::NOT_FOUND, Code::ManifestUnknown)
        }
        Reason::NameInvalid => (Status::BAD_REQUEST, Code::NameInvalid),
        Reason::Overloaded => (Status::SERVICE_UNAVAILABLE, Code::TooManyRequests),
        Reason::ReadOnly => (Status::METHOD_NOT_ALLOWED, Code::Unsupported),
        Reason::ReferenceInvalid => (Status::BAD_REQUEST, Code::ManifestInvalid),
        Reason::UpstreamAuth if refusal.is_forbidden => (Status::FORBIDDEN, Code::Denied),
        Reason::UpstreamAuth => (Status::UNAUTHORIZED, Code::Unauthorized),
        Reason::UpstreamDigestMismatch => (Status::BAD_GATEWAY, Code::DigestInvalid),
        Reason::UpstreamInvalid => (Status::BAD_GATEWAY, Code::ManifestInvalid),
        Reason::UpstreamRateLimited => (Status::TOO_MANY_REQUESTS, Code::TooManyRequests),
        Reason::UpstreamTimeout => (Status::GATEWAY_TIMEOUT, Code::Unsupported),
        Reason::UpstreamTooLarge => (Status::BAD_GATEWAY, Code::SizeInvalid),
        Reason::UpstreamUnavailable => (Status::BAD_GATEWAY, Code::Unsupported),
        Reason::UpstreamUnknown => (Status::NOT_FOUND, Code::NameUnknown),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Detail<'a> {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<Digest>,
    #[serde(skip_serializing_if = "str::is_empty")]
    help: &'a str,
    request_id: &'a str,
}

/// A refusal as a plain status with the specification's envelope.
pub fn refuse(refusal: &Refusal, request_id: &str) -> Response<Body> {
    let (status, code) = status_of(refusal);
    let detail = Detail {
        reason: refusal.reason.name(),
        sub_reason: refusal.sub_reason,
        pinned: refusal.pinned,
        observed: refusal.observed,
        help: &refusal.help,
        request_id,
    };
    // Clients print the message and nothing else: what to do next belongs into it, too.
    let next = if refusal.help.is_empty() { "" } else { "; " };
    let message = format!("immutag: {}{next}{}", refusal.message, refusal.help);
    let envelope = Envelope::new(code, message, detail);
    let mut response = answer(status, Body::full(envelope.to_json()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REASON.clone(), HeaderValue::from_static(refusal.reason.name()));
    if refusal.reason == Reason::ReadOnly {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    add_retry_after(&mut response, refusal);
    response
}

/// Says when to come again, where that is known.
pub fn add_retry_after(response: &mut Response<Body>, refusal: &Refusal) {
    if let Some(wait) = retry_after(refusal) {
        let value = HeaderValue::from(wait.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
}

fn retry_after(refusal: &Refusal) -> Option<Duration> {
    let retried = matches!(
        refusal.reason,
        Reason::Overloaded | Reason::UpstreamTimeout | Reason::UpstreamUnavailable
    );
    refusal.retry_after.or(retried.then_some(crate::ledger::RETRY_AFTER))
}

/// A refusal in the form that no client gets round (mirror listeners only): HEAD is a 300 whose
/// reason phrase says why, GET is the tombstone.
pub fn block(tombstone: &Tombstone, is_head: bool) -> Response<Body> {
    let mut response = answer(StatusCode::OK, Body::full(tombstone.bytes.clone()));
    if is_head {
        *response.status_mut() = StatusCode::MULTIPLE_CHOICES;
        add_phrase(&mut response, &tombstone.reason);
    }
    let headers = response.headers_mut();
    let media_type = crate::oci::ManifestKind::OciManifest.as_str();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_DIGEST.clone(), digest_value(&tombstone.digest));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says it in the reason phrase, too: of a refused HEAD containerd and `BuildKit` print nothing else,
/// and of a 5xx no client does.
pub fn add_phrase(response: &mut Response<Body>, words: &str) {
    if let Ok(phrase) = hyper::ext::ReasonPhrase::try_from(words.to_owned()) {
        response.extensions_mut().insert(phrase);
    }
}

/// A manifest. For a HEAD hyper sends the length and leaves the body out.
pub fn manifest(reply: ManifestReply) -> Response<Body> {
    let relayed_size = reply.size_bytes.filter(|_| reply.bytes.is_none());
    let mut response = answer(StatusCode::OK, reply.bytes.map_or_else(Body::empty, Body::full));
    let headers = response.headers_mut();
    if let Some(media_type) = &reply.media_type {
        insert_text(headers, header::CONTENT_TYPE, media_type.as_str());
    }
    if let Some(digest) = &reply.digest {
        headers.insert(CONTENT_DIGEST.clone(), digest_value(digest));
    }
    // Only a relayed HEAD has no bytes: hyper cannot know the length there.
    if let Some(size_bytes) = relayed_size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size_bytes));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    let mut room = WARNING_LIMIT;
    for warning in &reply.warnings {
        let text = quoted(warning);
        if text.len() <= room
            && let Ok(value) = HeaderValue::from_str(&text)
        {
            room -= text.len();
            headers.append(header::WARNING, value);
        }
    }
    response
}

/// RFC 7234, section 5.5: `299 - "text"`.
fn quoted(text: &str) -> String {
    let safe = |character: char| match character {
        '"' | '\\' => '\'',
        ' '..='~' => character,
        _ => '?',
    };
    format!("299 - \"{}\"", text.chars().map(safe).collect::<String>())
}

/// A blob, or the part of it that was asked for.
pub fn blob(reply: BlobReply, is_head: bool, sent: prometheus::IntCounter) -> Response<Body> {
    let (status, length, range) = match reply.span {
        Span::Whole(size_bytes) => (StatusCode::OK, size_bytes, None),
        Span::Part { first, last, size_bytes } => {
            let range = crate::oci::range::content_range(first, last, size_bytes);
            (StatusCode::PARTIAL_CONTENT, Some(last - first + 1), Some(range))
        }
        Span::Unsatisfiable { size_bytes } => {
            let range = crate::oci::range::unsatisfied_content_range(size_bytes);
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(0), Some(range))
        }
    };
    let mut response =
        answer(status, Body::blob(reply.body, length, sent).telling(reply.on_its_way));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DIGEST.clone(), digest_value(&reply.digest));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(range) = range {
        insert_text(headers, header::CONTENT_RANGE, &range);
    }
    if is_head && let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A page of a list; `link` is already the client's.
pub fn list(reply: ListReply, link: Option<String>) -> Response<Body> {
    let mut response = answer(StatusCode::OK, Body::full(reply.bytes));
    let headers = response.headers_mut();
    let media_type = reply.media_type.as_ref().map_or("application/json", |kind| kind.as_str());
    insert_text(headers, header::CONTENT_TYPE, media_type);
    if let Some(link) = link {
        insert_text(headers, header::LINK, &link);
    }
    if reply.filters_applied.as_deref() == Some("artifactType") {
        headers.insert(FILTERS_APPLIED.clone(), HeaderValue::from_static("artifactType"));
    }
    response
}

/// `/v2/`: we speak the protocol, on a listener of this kind. With `challenge`, clients that have
/// credentials send them.
pub fn ping(kind: ListenerKind, challenge: bool) -> Response<Body> {
    let mut response = answer(StatusCode::OK, Body::full("{}"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(LISTENER.clone(), HeaderValue::from_static(kind.name()));
    if challenge {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        add_challenge(&mut response);
    }
    response
}

/// Our challenge: Basic, whatever the upstream asked for; we do the token exchange.
pub fn add_challenge(response: &mut Response<Body>) {
    let challenge = HeaderValue::from_static("Basic realm=\"immutag\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert(API_VERSION.clone(), version);
    response
}

fn digest_value(digest: &Digest) -> HeaderValue {
    HeaderValue::from_str(&digest.to_string()).expect("a digest is printable ASCII")
}

/// Inserts a text that was checked when it was parsed; one that is no header value is left out.
fn insert_text(headers: &mut hyper::HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a row of the documentation's table must say of a refusal.
    fn row(refusal: &Refusal) -> String {
        let (status, code) = status_of(refusal);
        let code = serde_json::to_value(code).unwrap();
        let (reason, code) = (refusal.reason.name(), code.as_str().unwrap());
        let block = if refusal.reason.is_ours() { "yes" } else { "" };
        format!("| `{reason}` | {} | `{code}` | {block} |", status.as_u16()).replace("|  |", "| |")
    }

    #[test]
    fn the_documented_table_of_refusals_is_the_one_that_answers() {
        let mut expected: Vec<String> =
            Reason::ALL.map(|reason| row(&Refusal::new(reason, ""))).into();
        let auth = Refusal::new(Reason::UpstreamAuth, "");
        expected.push(row(&Refusal { is_forbidden: true, ..auth }));
        let documented: Vec<&str> = include_str!("../../docs/api.md")
            .lines()
            .filter(|line| {
                Reason::ALL.iter().any(|it| line.starts_with(&format!("| `{}` |", it.name())))
            })
            .collect();
        for row in &expected {
            assert!(documented.iter().any(|line| line.starts_with(row)), "{row} is not there");
        }
        assert_eq!(documented.len(), expected.len());
    }
}
