//! One receiver's HTTP client: sends a message once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{self, Client as Http};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::fault::DeliveryFault;
use super::notice::Notice;
use super::sign::Keys;
use super::{cloud_event, slack};
use crate::config::{WebhookConfig, WebhookFormat};
use crate::upstream::{
    Connector, Guard, Proxy, SetupProblem, Trust, Url, Way, find_fault, read_retry_after,
};

/// The read buffer of a connection, which bounds an answer's header too, in bytes.
const MAX_BUFFER: usize = 16 << 10;

/// Of an answer's body, so much is read before it is dropped, in bytes.
const MAX_DISCARD: usize = 4 << 10;

/// And for so long.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A webhook that cannot be used.
#[derive(Debug, Error)]
#[error("webhook {name}: {problem}")]
pub struct WebhookSetupError {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub problem: SetupProblem,
}

/// Somebody who is told.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Sends a message once; the status of an answer that took it. After an error it may have
    /// arrived all the same: it is sent again under the same id.
    async fn deliver(&self, notice: &Notice, now: SystemTime) -> Result<u16, DeliveryFault>;
}

/// A receiver.
pub struct Webhook {
    http: Http<Connector, Full<Bytes>>,
    url: Url,
    proxy: Arc<Proxy>,
    format: WebhookFormat,
    keys: Keys,
    timeout: Duration,
}

impl Webhook {
    /// A client for a receiver. Nothing is sent yet.
    pub fn new(config: &WebhookConfig) -> Result<Self, WebhookSetupError> {
        Self::check(config)
            .map_err(|problem| WebhookSetupError { name: config.name.clone(), problem })
    }

    fn check(config: &WebhookConfig) -> Result<Self, SetupProblem> {
        let url = Url::parse(config.url.expose()).ok_or(SetupProblem::SpoilsWebhook)?;
        let guard = Guard { allow_private: config.allow_private };
        if !url.origin().is_https() && !config.plain_http {
            return Err(SetupProblem::LacksPlainHttp);
        }
        if !guard.allows_host(url.origin().host()) {
            return Err(SetupProblem::LacksAllowPrivate);
        }
        let proxy = match &config.proxy {
            None => Proxy::from_environment(),
            Some(text) => Proxy::fixed(text),
        };
        let proxy = Arc::new(proxy.ok_or(SetupProblem::SpoilsProxy)?);
        let trust = config.ca_file.as_deref().map_or(Ok(Trust::system()), Trust::with_file)?;
        let (trust, timeout) = (Arc::new(trust), config.timeout);
        let way = Way { guard, proxy: Arc::clone(&proxy), trust, timeout };
        let http = Http::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A connection for each message: hours may pass between two.
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(MAX_BUFFER)
            .build(Connector::new(way));
        let keys = Keys::new(&config.secrets);
        Ok(Self { http, url, proxy, format: config.format, keys, timeout })
    }

    fn request(&self, notice: &Notice, now: SystemTime) -> Request<Full<Bytes>> {
        const AGENT: &str = concat!("immutag/", env!("CARGO_PKG_VERSION"));
        let (body, media_type) = match self.format {
            WebhookFormat::Cloudevents => (cloud_event::body(notice), cloud_event::MEDIA_TYPE),
            WebhookFormat::Slack => (slack::body(notice), slack::MEDIA_TYPE),
        };
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut fields = vec![
            (HeaderName::from_static("webhook-id"), notice.id.clone()),
            (HeaderName::from_static("webhook-timestamp"), seconds.to_string()),
        ];
        let signature = self.keys.signature(&notice.id, seconds, &body);
        let name = HeaderName::from_static("webhook-signature");
        fields.extend(signature.map(|value| (name, value)));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        for (name, value) in fields {
            let value = HeaderValue::from_str(&value).expect("ids, times and base64 are ASCII");
            headers.insert(name, value);
        }
        if let Some(value) = self.proxy.authorization(self.url.uri()) {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        request
    }
}

#[async_trait]
impl Notifier for Webhook {
    async fn deliver(&self, notice: &Notice, now: SystemTime) -> Result<u16, DeliveryFault> {
        let deadline = Instant::now() + self.timeout;
        let sending = self.http.request(self.request(notice, now));
        let response = match timeout_at(deadline, sending).await {
            Ok(response) => response.map_err(|error| explain(&error))?,
            Err(_) => return Err(DeliveryFault::Timeout),
        };
        let outcome = judge(&response, now);
        discard(response.into_body(), deadline).await;
        outcome
    }
}

fn judge(response: &Response<Incoming>, now: SystemTime) -> Result<u16, DeliveryFault> {
    let status = response.status();
    if status.is_success() {
        return Ok(status.as_u16());
    }
    if status.is_redirection() {
        return Err(DeliveryFault::Redirects(status.as_u16()));
    }
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|text| read_retry_after(text, now));
    Err(DeliveryFault::Refuses { status: status.as_u16(), retry_after })
}

/// Reads a short body to its end, so that the receiver sees an orderly one; a long one is dropped.
async fn discard(mut body: Incoming, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + DISCARD_TIME);
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_DISCARD {
            return;
        }
    }
}

fn explain(error: &legacy::Error) -> DeliveryFault {
    match find_fault(error) {
        Some(fault) => fault.into(),
        None if error.is_connect() => DeliveryFault::Unreachable,
        None => DeliveryFault::CutShort,
    }
}
