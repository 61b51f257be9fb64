//! What a request's head must be before anything is read out of it.

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Version};

use crate::pull::{Reason, Refusal};

/// The most that a request's header fields may have, in bytes: hyper's own limit is above it, and
/// somewhere in between it depends on how the bytes come in.
const FIELDS_LIMIT: usize = 64 << 10;

/// What hyper lets pass and no registry client sends.
pub(super) fn check_head(request: &Request<Incoming>) -> Result<(), Refusal> {
    match request.version() {
        Version::HTTP_2 => check_target_2(request)?,
        _ => check_target_1(request)?,
    }
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if request.headers().iter().map(field).sum::<usize>() > FIELDS_LIMIT {
        let words = "the request's header fields are larger than any client's";
        return Err(Refusal::new(Reason::HeadTooLarge, words));
    }
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if reading && has_body(request) {
        return Err(Refusal::new(Reason::BodyNotAllowed, "the request must not have a body"));
    }
    Ok(())
}

/// HTTP/1.1: the target is a path, and one Host goes with it.
fn check_target_1(request: &Request<Incoming>) -> Result<(), Refusal> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let needs_host = request.version() != Version::HTTP_10;
    if request.uri().authority().is_some() || request.method() == Method::CONNECT {
        return Err(Refusal::new(Reason::NameInvalid, "the request target must be a path"));
    }
    if hosts > 1 || (needs_host && hosts == 0) {
        return Err(Refusal::new(Reason::NameInvalid, "the request must have one Host"));
    }
    Ok(())
}

/// HTTP/2: the target is a path, and `:authority` stands for Host (RFC 9113, 8.3.1). Where both
/// are, they must say the same; which of them counts would be anybody's guess.
fn check_target_2(request: &Request<Incoming>) -> Result<(), Refusal> {
    let uri = request.uri();
    if request.method() == Method::CONNECT || !uri.path().starts_with('/') {
        return Err(Refusal::new(Reason::NameInvalid, "the request target must be a path"));
    }
    let authority = uri.authority().map(Authority::as_str);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let agrees = match (authority, host) {
        (Some(authority), None) => !authority.contains('@'),
        (None, Some(_)) => true,
        (Some(authority), Some(host)) => {
            host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) && !authority.contains('@')
        }
        (None, None) => false,
    };
    if more.is_some() || !agrees {
        let words = "the request must have one :authority, and no Host that differs from it";
        return Err(Refusal::new(Reason::NameInvalid, words));
    }
    Ok(())
}

/// Whether a body follows the head.
pub(super) fn has_body(request: &Request<Incoming>) -> bool {
    !hyper::body::Body::is_end_stream(request.body())
        || request.headers().contains_key(header::TRANSFER_ENCODING)
}
