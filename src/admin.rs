//! The admin listener: metrics and health, GET only. It changes nothing.

pub mod socket;
pub mod user;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::http::body::Body;
use crate::ledger::LedgerStatus;
use crate::metrics::Metrics;
use crate::pull::Pull;

/// The admin listener's service.
pub struct Admin {
    pull: Arc<Pull>,
    hosts: Vec<String>,
    observe_cache: Box<dyn Fn() + Send + Sync>,
}

/// What `/readyz` says.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Readiness {
    /// `ready`, `degraded` (pinned tags go on, new ones are refused) or `unready`.
    status: &'static str,
    ledger: String,
    sequence: u64,
    pins: u64,
    open_conflicts: u64,
    offline: bool,
}

impl Admin {
    /// The service; `hosts` are names, beside addresses and localhost, that requests may carry;
    /// `observe_cache` takes over into the metrics how much is stored.
    pub fn new(
        pull: Arc<Pull>,
        hosts: Vec<String>,
        observe_cache: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { pull, hosts, observe_cache }
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if !self.knows_host(request) {
            // A page of another origin that resolves its name to us gets nothing (DNS rebinding).
            return text(StatusCode::MISDIRECTED_REQUEST, "this name is not configured here\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "the admin listener reads\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "live\n"),
            "/metrics" => self.metrics(),
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /livez and /readyz\n"),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let edges = self.pull.edges();
        observe_ledger(&edges.metrics, &edges.ledger.status());
        (self.observe_cache)();
        typed(StatusCode::OK, "text/plain; version=0.0.4", edges.metrics.render())
    }

    fn readiness(&self) -> Response<Body> {
        let LedgerStatus { sequence, pins, conflicts, failure, rebuilding, .. } =
            self.pull.edges().ledger.status();
        let (code, status, ledger) = match (failure, rebuilding) {
            (Some(why), _) => (StatusCode::SERVICE_UNAVAILABLE, "unready", why),
            (None, true) => (StatusCode::OK, "degraded", "its index is being rebuilt".to_owned()),
            (None, false) => (StatusCode::OK, "ready", "ok".to_owned()),
        };
        let offline = self.pull.settings().offline;
        let readiness =
            Readiness { status, ledger, sequence, pins, open_conflicts: conflicts, offline };
        typed(code, "application/json", serde_json::to_vec(&readiness).unwrap_or_default())
    }

    fn knows_host(&self, request: &Request<Incoming>) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next())
        else {
            return false;
        };
        let name = without_port(host);
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Takes over into the metrics how the ledger is, right before a scrape.
fn observe_ledger(metrics: &Metrics, status: &LedgerStatus) {
    let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    metrics.conflicts_open.set(clamp(status.conflicts));
    metrics.ledger.failed.set(i64::from(status.failure.is_some()));
    metrics.ledger.rebuilding.set(i64::from(status.rebuilding));
    metrics.ledger.sequence.set(clamp(status.sequence));
    metrics.pins.set(clamp(status.pins));
    let created = std::time::Duration::from_millis(status.created_ms);
    metrics.ledger.created.set(created.as_secs_f64());
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", words.into())
}

fn typed(status: StatusCode, media_type: &'static str, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
