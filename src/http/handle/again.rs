//! The short way of a manifest: the answer that was given the last time, as long as it stands.
//!
//! Whether it does is the pull path's to say ([`Pull::stands`](crate::pull::Pull::stands)); that
//! it is the answer to this very request is seen here.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus::{Histogram, IntCounter};

use super::super::body::Body;
use super::super::head::check_head;
use super::Registry;
use crate::metrics::Metrics;
use crate::pull::Standing;

/// The most that the answers of one listener may take, in bytes.
const CAPACITY: u64 = 16 << 20;

/// About what an answer takes beside its texts and bytes, in bytes.
const OVERHEAD: usize = 1 << 10;

/// Answers by what was asked.
pub(super) struct Answers {
    kept: moka::sync::Cache<u64, Arc<Kept>>,
    hasher: RandomState,
}

/// An answer, and all of its request that it depends on.
struct Kept {
    target: Box<str>,
    accept: Box<[HeaderValue]>,
    headers: HeaderMap,
    bytes: Bytes,
    standing: Standing,
}

impl Default for Answers {
    fn default() -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_: &u64, kept: &Arc<Kept>| kept.size_bytes())
            .build();
        Self { kept, hasher: RandomState::new() }
    }
}

impl Answers {
    /// Keeps the answer to a request.
    pub(super) fn keep(
        &self,
        request: &Request<Incoming>,
        response: &Response<Body>,
        bytes: Bytes,
        standing: Standing,
    ) {
        let target = target(request);
        let accept: Box<[_]> = request.headers().get_all(header::ACCEPT).iter().cloned().collect();
        // A header's value may be a part of a larger buffer.
        let accept = accept.iter().filter_map(|it| HeaderValue::from_bytes(it.as_bytes()).ok());
        let headers = response.headers().clone();
        let kept =
            Kept { target: target.into(), accept: accept.collect(), headers, bytes, standing };
        self.kept.insert(self.key(request), Arc::new(kept));
    }

    /// What was kept for a request that asks for the very same.
    fn find(&self, request: &Request<Incoming>) -> Option<Arc<Kept>> {
        let kept = self.kept.get(&self.key(request))?;
        let accept = request.headers().get_all(header::ACCEPT).iter();
        (*kept.target == *target(request) && accept.eq(&kept.accept)).then_some(kept)
    }

    /// Two requests with one key are compared, so of `Accept` the lengths will do.
    fn key(&self, request: &Request<Incoming>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(target(request).as_bytes());
        for line in request.headers().get_all(header::ACCEPT) {
            hasher.write_usize(line.len());
        }
        hasher.finish()
    }
}

impl Kept {
    fn size_bytes(&self) -> u32 {
        let accept = self.accept.iter().map(|line| line.len() + size_of::<HeaderValue>());
        let size = self.target.len() + accept.sum::<usize>() + self.bytes.len() + OVERHEAD;
        u32::try_from(size).unwrap_or(u32::MAX)
    }

    fn to_response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.bytes.clone()));
        *response.headers_mut() = self.headers.clone();
        response
    }
}

fn target(request: &Request<Incoming>) -> &str {
    request.uri().path_and_query().map_or("", |target| target.as_str())
}

/// The counters of a listener's answers that are found once.
pub(super) struct Counted {
    get_ok: IntCounter,
    head_ok: IntCounter,
    seconds: Histogram,
}

impl Counted {
    pub(super) fn new(metrics: &Metrics, listener: &str) -> Self {
        let ok = |method| metrics.requests.with_label_values(&[listener, method, "200"]);
        Self {
            get_ok: ok("GET"),
            head_ok: ok("HEAD"),
            seconds: metrics.request_seconds.with_label_values(&[listener]),
        }
    }
}

impl Registry {
    /// The answer to a request, if it is one that was given and still stands; else `None`, and
    /// [`Registry::call`] answers.
    pub fn call_again(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Option<Response<Body>> {
        let begun = Instant::now();
        if !matches!(*request.method(), Method::GET | Method::HEAD) || check_head(request).is_err()
        {
            return None;
        }
        // A connection that breaks off sends a client to the real registry: the long way refuses.
        let find = AssertUnwindSafe(|| {
            let kept = self.answers.find(request)?;
            self.pull.stands(&kept.standing, peer.ip()).then_some(kept)
        });
        let response = catch_unwind(find).ok().flatten()?.to_response();
        self.count(request.method(), request.uri().path(), &response, begun);
        Some(response)
    }

    /// Counts an answer, and tells of it where that is wanted.
    pub(super) fn count(
        &self,
        method: &Method,
        path: &str,
        response: &Response<Body>,
        begun: Instant,
    ) {
        let listener = self.config.kind.name();
        let status = response.status();
        match (method, status) {
            (&Method::GET, StatusCode::OK) => self.counted.get_ok.inc(),
            (&Method::HEAD, StatusCode::OK) => self.counted.head_ok.inc(),
            _ => {
                let method = match *method {
                    Method::GET => "GET",
                    Method::HEAD => "HEAD",
                    _ => "other",
                };
                let labels = [listener, method, status.as_str()];
                self.pull.edges().metrics.requests.with_label_values(&labels).inc();
            }
        }
        self.counted.seconds.observe(begun.elapsed().as_secs_f64());
        tracing::debug!(listener, %method, path, status = status.as_u16(), "answered");
    }
}
