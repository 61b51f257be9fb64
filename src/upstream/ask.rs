//! The straight line of one request: a place, an authorization, retries, the answer.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Answer, Ask, Method, Resource, text};
use super::body::{Body, Place};
use super::challenge;
use super::client::{Client, Followed, Observer, Outgoing};
use super::credential::ClientCredential;
use super::error::{Unavailability, UpstreamError};
use super::limit::{LimitObserver, Limits, Reading};
use super::rate::{Flow, Meter};
use super::retry::{
    MAX_RETRIES, PATIENCE, RetryBudget, backoff, rate_limit_wait, read_retry_after,
};
use super::setup::Setup;
use super::token::{Authorization, TokenKey, Tokens, authorize};
use crate::config::{Credentials, UpstreamConfig};
use crate::oci::Registry;
use crate::secret::Secret;

/// Bodies of blobs leave one place in so many to everything else.
const BLOBS_LEAVE: usize = 4;

/// A registry that we may ask. Has connections, health and retries of its own.
pub struct Upstream {
    /// The name that references carry.
    pub name: Registry,
    /// Its configuration; of a built-in one, the defaults.
    pub config: UpstreamConfig,
    client: Client,
    tokens: Tokens,
    places: Arc<Semaphore>,
    /// The places that bodies of blobs may take: they last, and what is small must find one.
    blob_places: Arc<Semaphore>,
    /// As many blobs at most may be on their way into the store.
    fills: Arc<Semaphore>,
    budget: RetryBudget,
    flow: Arc<Flow>,
    limits: Limits,
    limit_observer: LimitObserver,
}

/// Who is told of what happens with an upstream.
#[derive(Clone)]
pub(crate) struct Observers {
    pub(crate) requests: Observer,
    pub(crate) meter: Meter,
    pub(crate) limits: LimitObserver,
}

impl Upstream {
    pub(crate) fn new(name: Registry, setup: Setup, tokens: Tokens, observers: Observers) -> Self {
        let Observers { requests, meter, limits } = observers;
        let config = setup.config.clone();
        let flow = Arc::new(Flow::new(config.max_bytes_per_second, meter(&name)));
        let places = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let for_blobs = || Arc::new(Semaphore::new(places - places / BLOBS_LEAVE));
        Self {
            client: Client::new(name.clone(), setup, requests),
            name,
            config,
            tokens,
            places: Arc::new(Semaphore::new(places)),
            blob_places: for_blobs(),
            fills: for_blobs(),
            budget: RetryBudget::new(),
            flow,
            limits: Limits::default(),
            limit_observer: limits,
        }
    }

    /// How long it wants to be left alone, since it said 429.
    pub fn closed_for(&self) -> Option<Duration> {
        self.limits.closed_for(Instant::now())
    }

    /// How long whoever has no client waiting leaves it alone: it said 429, or so little remains of
    /// its limit that clients may need it.
    pub fn reserved_for(&self) -> Option<Duration> {
        self.limits.reserved_for(Instant::now())
    }

    /// Whether more than half of its limit is left, as far as it says.
    pub fn has_ample_room(&self) -> bool {
        self.limits.is_ample()
    }

    /// Asks, with authorization, redirects and retries.
    ///
    /// Every answer of the registry itself is `Ok`, 404 and 416 too; refused access, rate limits,
    /// failures and answers that break the rules are errors. Dropping the future stops the request.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        let attempts =
            (self.config.connect_timeout + self.config.header_timeout) * (MAX_RETRIES + 1);
        // A blob may take long as long as it comes; what is small must come whole in time, or a byte
        // now and then would keep its client waiting for hours.
        let is_small = !matches!(ask.resource, Resource::Blob(_));
        let whole = is_small.then_some(attempts + self.config.body_idle_timeout);
        let until = ask.deadline.or(whole).map(|deadline| started + deadline);
        let deadline = until.map_or(started + attempts, |until| until.min(started + attempts));
        let place = self.take_place(&ask, deadline).await?;
        self.budget.earn();
        let mut retry = 0;
        let response = loop {
            match self.attempt(&ask, deadline).await {
                Ok(response) => break response,
                Err(error) => {
                    let pause = pause_before(retry, &error).ok_or_else(|| error.clone())?;
                    if Instant::now() + pause >= deadline || !self.budget.spend() {
                        return Err(error);
                    }
                    sleep(pause).await;
                    retry += 1;
                }
            }
        };
        Answer::read(response, ask.range_from, |incoming| {
            let body = Body::new(incoming, self.config.body_idle_timeout, until);
            body.holding(place).in_flow(&self.flow)
        })
    }

    /// Takes one of the retries that this upstream may still be burdened with, if there is one.
    pub fn may_retry(&self) -> bool {
        self.budget.spend()
    }

    /// Waits for leave to store one blob more of this upstream, so that one which hangs does not
    /// take the places of all others; kept until it is stored.
    pub async fn fill_leave(&self) -> OwnedSemaphorePermit {
        self.fills.clone().acquire_owned().await.expect("it is never closed")
    }

    async fn take_place(&self, ask: &Ask, deadline: Instant) -> Result<Place, UpstreamError> {
        let deadline = deadline.min(Instant::now() + self.config.header_timeout);
        let is_blob = matches!((&ask.resource, ask.method), (Resource::Blob(_), Method::Get));
        let take = async {
            let of_blobs =
                if is_blob { Some(self.blob_places.clone().acquire_owned().await?) } else { None };
            Ok((self.places.clone().acquire_owned().await?, of_blobs))
        };
        match timeout_at(deadline, take).await {
            Ok(Ok(place)) => Ok(place),
            Ok::<Result<_, AcquireError>, _>(Err(_)) | Err(_) => {
                Err(UpstreamError::unavailable(Unavailability::Overloaded))
            }
        }
    }

    async fn attempt(
        &self,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let response = self.exchange(ask, deadline).await?;
        // Bodies of blobs come from elsewhere, whose limits are others.
        if !matches!(ask.resource, Resource::Blob(_))
            && let Some(reading) = Reading::read(response.headers())
        {
            self.limits.note(reading, Instant::now());
            (self.limit_observer)(&self.name, reading.limit, reading.remaining);
        }
        let wait = text(response.headers(), RETRY_AFTER.as_str());
        let now = SystemTime::now();
        match response.status().as_u16() {
            status @ (401 | 403) => Err(UpstreamError::Authentication { status }),
            429 => {
                let retry_after = rate_limit_wait(wait.as_deref(), now);
                self.limits.close(retry_after, Instant::now());
                Err(UpstreamError::RateLimited { retry_after })
            }
            status @ 500.. => Err(UpstreamError::Unavailable {
                why: Unavailability::Answers(status),
                retry_after: wait.and_then(|text| read_retry_after(&text, now)),
            }),
            _ => Ok(response),
        }
    }

    /// Asks with the authorization at hand, and once more with a new one if that does not do.
    async fn exchange(
        &self,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let credential = self.credential(ask);
        if let Some(ClientCredential::Bearer(_)) = &credential {
            let header = credential.as_ref().map(ClientCredential::to_header);
            return Ok(self.send(ask, header.as_ref(), deadline).await?.response);
        }
        let key = TokenKey {
            registry: self.name.clone(),
            repository: ask.repository.clone(),
            credential: credential.as_ref().map(ClientCredential::key),
        };
        let known = self.tokens.get(&key).await;
        let first = self.send(ask, header(known.as_ref()), deadline).await?;
        if !first.is_own || first.response.status() != 401 {
            return Ok(first.response);
        }
        if let Some(refused) = &known {
            self.tokens.refused(&key, refused).await;
        }
        let (head, body) = first.response.into_parts();
        self.client.discard(body, deadline).await;
        let headers = head.headers.get_all(WWW_AUTHENTICATE);
        let challenges = challenge::parse(headers.iter().map(hyper::header::HeaderValue::as_bytes));
        let fetch = authorize(&self.client, &challenges, &ask.repository, credential.as_ref());
        let fetch = self.tokens.get_or_fetch(key.clone(), fetch);
        let fresh = timeout_at(deadline, fetch).await.map_err(|_| UpstreamError::Timeout)??;
        let second = self.send(ask, header(Some(&fresh)), deadline).await?;
        if second.is_own && second.response.status() == 401 {
            self.tokens.refused(&key, &fresh).await;
        }
        Ok(second.response)
    }

    async fn send(
        &self,
        ask: &Ask,
        authorization: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Followed, UpstreamError> {
        let path = ask.resource.path(&ask.repository);
        let url = self.client.setup().origin.at(&path);
        let request = Outgoing {
            method: ask.method,
            url: url.ok_or(UpstreamError::Invalid("the request would need a malformed URL"))?,
            accept: ask.accept.as_deref(),
            range_from: ask.range_from,
            authorization,
        };
        self.client.follow(request, deadline).await
    }

    /// Whose credentials this request goes with: design, section 7.
    fn credential(&self, ask: &Ask) -> Option<ClientCredential> {
        match &self.config.credentials {
            Credentials::Client => ask.credential.clone(),
            Credentials::Own { username, password }
                if self.client.setup().covers(&ask.repository) =>
            {
                Some(ClientCredential::Basic {
                    username: username.clone(),
                    password: password.clone(),
                })
            }
            Credentials::None | Credentials::Own { .. } => None,
        }
    }
}

fn header(authorization: Option<&Authorization>) -> Option<&Secret> {
    authorization.map(|authorization| &authorization.header)
}

/// How long to wait before asking again after this error; `None`: not at all.
fn pause_before(retry: u32, error: &UpstreamError) -> Option<Duration> {
    let UpstreamError::Unavailable { why, retry_after } = error else { return None };
    let is_passing = match why {
        Unavailability::Answers(status) => matches!(status, 500 | 502 | 503 | 504),
        Unavailability::CutShort | Unavailability::Proxied | Unavailability::Unreachable => true,
        Unavailability::BreakerOpen | Unavailability::Overloaded => false,
    };
    let jitter = RandomState::new().hash_one(retry).to_le_bytes()[0];
    let pause = retry_after.unwrap_or_default().max(backoff(retry, jitter));
    (is_passing && retry < MAX_RETRIES && pause <= PATIENCE).then_some(pause)
}
