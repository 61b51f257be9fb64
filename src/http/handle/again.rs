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
use hyper::header::{self, GetAll, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus::{Histogram, IntCounter};

use super::super::body::Body;
use super::super::head::check_head;
use super::Registry;
use super::shelf::Shelf;
use crate::journal::Subject;
use crate::metrics::Metrics;
use crate::pull::Standing;

/// Answers by what was asked.
#[derive(Default)]
pub(super) struct Answers {
    shelf: Shelf<Kept>,
    hasher: RandomState,
}

/// An answer, and all of its request that it depends on.
struct Kept {
    target: Box<str>,
    accept: Box<[HeaderValue]>,
    headers: HeaderMap,
    bytes: Bytes,
    standing: Standing,
    /// What the journal writes of it.
    noted: Option<Arc<Subject>>,
}

impl Answers {
    /// Keeps the answer to a request, what it rests on, and what the journal writes of it.
    pub(super) fn keep(
        &self,
        request: &Request<Incoming>,
        response: &Response<Body>,
        bytes: Bytes,
        (standing, noted): (Standing, Option<Arc<Subject>>),
    ) {
        let lines = request.headers().get_all(header::ACCEPT);
        // The request's own values are parts of its whole head.
        let accept = lines.iter().filter_map(|it| HeaderValue::from_bytes(it.as_bytes()).ok());
        let (accept, target) = (accept.collect(), target(request).into());
        let headers = response.headers().clone();
        let kept = Kept { target, accept, headers, bytes, standing, noted };
        let size_bytes = kept.size_bytes();
        self.shelf.put(self.key(request, &lines), Arc::new(kept), size_bytes);
    }

    /// What was kept for a request that asks for the very same.
    fn find(&self, request: &Request<Incoming>) -> Option<Arc<Kept>> {
        let accept = request.headers().get_all(header::ACCEPT);
        let kept = self.shelf.get(self.key(request, &accept))?;
        (*kept.target == *target(request) && accept.iter().eq(&kept.accept)).then_some(kept)
    }

    /// What is found by it is compared, so of `Accept` the lengths will do.
    fn key(&self, request: &Request<Incoming>, accept: &GetAll<'_, HeaderValue>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(target(request).as_bytes());
        accept.iter().for_each(|line| hasher.write_usize(line.len()));
        hasher.finish()
    }
}

impl Kept {
    /// About what it takes.
    fn size_bytes(&self) -> usize {
        const OVERHEAD: usize = 1 << 10;
        let accept = self.accept.iter().map(|line| line.len() + size_of::<HeaderValue>());
        self.target.len() + accept.sum::<usize>() + self.bytes.len() + OVERHEAD
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
            let stands = self.pull.stands(&kept.standing, peer.ip());
            stands.then(|| {
                self.noting.note_again(kept.noted.as_ref(), peer.ip(), request.method());
                kept
            })
        });
        let response = catch_unwind(find).ok().flatten()?.to_response();
        self.count(request.method(), response.status(), begun);
        tracing::debug!(listener = self.config.kind.name(), method = %request.method(),
            path = request.uri().path(), "answered again");
        Some(response)
    }

    /// Counts an answer.
    pub(super) fn count(&self, method: &Method, status: StatusCode, begun: Instant) {
        match (method, status) {
            (&Method::GET, StatusCode::OK) => self.counted.get_ok.inc(),
            (&Method::HEAD, StatusCode::OK) => self.counted.head_ok.inc(),
            _ => {
                let method = match *method {
                    Method::GET => "GET",
                    Method::HEAD => "HEAD",
                    _ => "other",
                };
                let labels = [self.config.kind.name(), method, status.as_str()];
                self.pull.edges().metrics.requests.with_label_values(&labels).inc();
            }
        }
        self.counted.seconds.observe(begun.elapsed().as_secs_f64());
    }
}
