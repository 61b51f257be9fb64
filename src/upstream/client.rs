//! One upstream's HTTP client: sends a request and follows redirects, within the rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
    RANGE, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{self, Client as Http};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::answer::{Method, text};
use super::body::Body;
use super::breaker::{Breaker, Leave};
use super::connect::{ConnectFault, Connector, find_fault};
use super::error::{Unavailability, UpstreamError};
use super::setup::Setup;
use super::url::Url;
use crate::oci::Registry;
use crate::secret::Secret;

/// Redirects followed for one request, at most.
const MAX_REDIRECTS: usize = 5;

/// Of a body that nobody wants, so much is read to keep its connection, in bytes.
const MAX_DISCARD: usize = 64 << 10;

/// The read buffer of a connection, which bounds an answer's header too, in bytes.
const MAX_BUFFER: usize = 128 << 10;

/// Told of every request: the upstream, the status (0: no answer) and how long the header took.
pub type Observer = Arc<dyn Fn(&Registry, u16, Duration) + Send + Sync>;

pub(crate) struct Client {
    http: Http<Connector, Empty<Bytes>>,
    name: Registry,
    setup: Setup,
    breaker: Breaker,
    observer: Observer,
}

/// A request: nothing else goes into its header.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: Option<&'a str>,
    pub(crate) range_from: Option<u64>,
    pub(crate) authorization: Option<&'a Secret>,
}

/// An answer that is no redirect.
pub(crate) struct Followed {
    pub(crate) response: Response<Incoming>,
    /// The upstream itself answered, not somebody it sent us to.
    pub(crate) is_own: bool,
}

impl Client {
    pub(crate) fn new(name: Registry, setup: Setup, observer: Observer) -> Self {
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .pool_max_idle_per_host(setup.config.max_connections)
            .http1_max_buf_size(MAX_BUFFER)
            .build(Connector::new(setup.way()));
        Self { http, name, setup, breaker: Breaker::new(), observer }
    }

    pub(crate) const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Sends a request to the upstream and follows its redirects.
    ///
    /// The authorization goes to the upstream's own origin only, and not even there once a redirect
    /// led away from it.
    pub(crate) async fn follow(
        &self,
        mut request: Outgoing<'_>,
        deadline: Instant,
    ) -> Result<Followed, UpstreamError> {
        let leave = self.breaker.admit(std::time::Instant::now()).map_err(|wait| {
            UpstreamError::Unavailable {
                why: Unavailability::BreakerOpen,
                retry_after: Some(wait.max(Duration::from_secs(1))),
            }
        })?;
        let first = self.send(&request, deadline).await;
        settle(leave, &first);
        let mut response = first?;
        let mut seen = vec![request.url.clone()];
        let mut is_own = true;
        while is_redirect(response.status()) {
            let next = self.next_hop(&request.url, response.headers())?;
            if seen.len() > MAX_REDIRECTS || seen.contains(&next) {
                return Err(UpstreamError::RedirectNotAllowed);
            }
            if next.origin() != request.url.origin() {
                request.authorization = None;
                is_own = false;
            }
            self.discard(response.into_body(), deadline).await;
            seen.push(next.clone());
            request.url = next;
            response = self.send(&request, deadline).await?;
        }
        Ok(Followed { response, is_own })
    }

    fn next_hop(&self, from: &Url, headers: &HeaderMap) -> Result<Url, UpstreamError> {
        let next = text(headers, LOCATION.as_str())
            .and_then(|location| from.join(&location))
            .ok_or(UpstreamError::RedirectNotAllowed)?;
        let is_downgrade = !next.origin().is_https()
            && (from.origin().is_https() || !self.setup.config.plain_http);
        // The connector holds the address guard, for literals too.
        if is_downgrade { Err(UpstreamError::RedirectNotAllowed) } else { Ok(next) }
    }

    /// Sends one request; the answer may be anything, a redirect too.
    pub(crate) async fn send(
        &self,
        request: &Outgoing<'_>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let started = Instant::now();
        let config = &self.setup.config;
        let deadline = deadline.min(started + config.connect_timeout + config.header_timeout);
        let sending = self.http.request(self.build(request)?);
        let result = match timeout_at(deadline, sending).await {
            Ok(result) => result.map_err(|error| explain(&error)),
            Err(_) => Err(UpstreamError::Timeout),
        };
        let status = result.as_ref().map_or(0, |response| response.status().as_u16());
        (self.observer)(&self.name, status, started.elapsed());
        result
    }

    fn build(&self, request: &Outgoing<'_>) -> Result<Request<Empty<Bytes>>, UpstreamError> {
        const AGENT: &str = concat!("immutag/", env!("CARGO_PKG_VERSION"));
        let mut built = Request::new(Empty::new());
        *built.uri_mut() = request.url.uri().clone();
        *built.method_mut() = match request.method {
            Method::Get => hyper::Method::GET,
            Method::Head => hyper::Method::HEAD,
        };
        let headers = built.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = request.accept {
            headers.insert(ACCEPT, header_value(accept)?);
        }
        if let Some(from) = request.range_from {
            headers.insert(RANGE, header_value(&format!("bytes={from}-"))?);
        }
        if let Some(authorization) = request.authorization {
            let mut value = header_value(authorization.expose())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(value) = self.setup.proxy.authorization(request.url.uri()) {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        Ok(built)
    }

    /// Reads a short body to its end, so that its connection can be used again.
    pub(crate) async fn discard(&self, incoming: Incoming, deadline: Instant) {
        let idle = self.setup.config.body_idle_timeout;
        let soon = Instant::now() + Duration::from_secs(1);
        let body = Body::new(incoming, idle, Some(deadline.min(soon)));
        // Whatever comes of it: the body is not wanted, at worst the connection closes.
        drop(body.collect(MAX_DISCARD).await);
    }
}

fn header_value(text: &str) -> Result<HeaderValue, UpstreamError> {
    HeaderValue::from_str(text)
        .map_err(|_| UpstreamError::Invalid("the request would need a malformed header"))
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Tells the breaker how the upstream's own answer was.
fn settle(leave: Leave<'_>, result: &Result<Response<Incoming>, UpstreamError>) {
    match result {
        Ok(response) if response.status().is_server_error() => {
            leave.failed(std::time::Instant::now());
        }
        Ok(_) => leave.succeeded(),
        Err(UpstreamError::Timeout | UpstreamError::Tls(_) | UpstreamError::Unavailable { .. }) => {
            leave.failed(std::time::Instant::now());
        }
        Err(_) => drop(leave),
    }
}

fn explain(error: &legacy::Error) -> UpstreamError {
    match find_fault(error) {
        Some(ConnectFault::AddressNotAllowed) => return UpstreamError::AddressNotAllowed,
        Some(ConnectFault::Proxied) => {
            return UpstreamError::unavailable(Unavailability::Proxied);
        }
        Some(ConnectFault::Timeout) => return UpstreamError::Timeout,
        Some(ConnectFault::Tls(fault)) => return UpstreamError::Tls(fault),
        Some(ConnectFault::Unreachable) | None => {}
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    if cause.is_some_and(hyper::Error::is_parse) {
        UpstreamError::Invalid("it is not HTTP/1.1, or its header is too large")
    } else if error.is_connect() {
        UpstreamError::unavailable(Unavailability::Unreachable)
    } else {
        UpstreamError::unavailable(Unavailability::CutShort)
    }
}
