//! Authorizations: the token of a Bearer challenge, or Basic, and how long they are kept.
//!
//! Source: the distribution project's "Token Authentication Specification".

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;

use super::answer::{Method, text};
use super::body::Body;
use super::challenge::Challenge;
use super::client::{Client, Outgoing};
use super::credential::{ClientCredential, CredentialKey};
use super::error::{Unavailability, UpstreamError};
use super::retry::{rate_limit_wait, read_retry_after};
use super::url::Url;
use crate::config::Credentials;
use crate::oci::{Registry, Repository};
use crate::secret::Secret;

/// A token endpoint's answer is at most this long, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Tokens kept at most, over all upstreams.
const MAX_TOKENS: u64 = 10_000;

/// Bounds of a token's lifetime, in seconds; the specification's default is the lower one.
const MIN_LIFETIME: u64 = 60;
const MAX_LIFETIME: u64 = 3600;

/// A token is given up so much before its end, in seconds.
const MARGIN: u64 = 10;

/// A client's own token is asked for anew after this, in seconds, whatever its lifetime: who was
/// locked out there is to be locked out here.
const CLIENT_LIFETIME: u64 = 60;

/// What an authorization is good for: never another upstream, repository or person.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) registry: Registry,
    pub(crate) repository: Repository,
    pub(crate) credential: Option<CredentialKey>,
}

/// The value of an Authorization header, and how long it is kept.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: Secret,
    lifetime: Duration,
}

/// The authorizations of all upstreams.
#[derive(Clone)]
pub(crate) struct Tokens {
    cache: Cache<TokenKey, Authorization>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let cache = Cache::builder().max_capacity(MAX_TOKENS).expire_after(ByLifetime).build();
        Self { cache }
    }

    pub(crate) async fn get(&self, key: &TokenKey) -> Option<Authorization> {
        self.cache.get(key).await
    }

    /// Gives up an authorization that the upstream refused, unless it was replaced meanwhile.
    pub(crate) async fn refused(&self, key: &TokenKey, refused: &Authorization) {
        let current = self.cache.get(key).await;
        if current.is_some_and(|current| current.header == refused.header) {
            self.cache.invalidate(key).await;
        }
    }

    /// The authorization for `key`; of those who want it at once, one fetches it.
    pub(crate) async fn get_or_fetch(
        &self,
        key: TokenKey,
        fetch: impl Future<Output = Result<Authorization, UpstreamError>>,
    ) -> Result<Authorization, UpstreamError> {
        let fetched = self.cache.try_get_with(key, fetch).await;
        fetched.map_err(|error: Arc<UpstreamError>| (*error).clone())
    }
}

struct ByLifetime;

impl Expiry<TokenKey, Authorization> for ByLifetime {
    fn expire_after_create(
        &self,
        _: &TokenKey,
        value: &Authorization,
        _: Instant,
    ) -> Option<Duration> {
        Some(value.lifetime)
    }
}

/// Answers the challenges of a 401 with the strongest that is allowed: Bearer before Basic, the
/// first of a kind.
///
/// Nothing is sent to a realm that is not the upstream's own or among its `auth-hosts`; user name
/// and password go to the realm, or with Basic to the upstream itself.
pub(crate) async fn authorize(
    client: &Client,
    challenges: &[Challenge],
    repository: &Repository,
    credential: Option<&ClientCredential>,
) -> Result<Authorization, UpstreamError> {
    let mut refusal = UpstreamError::Authentication { status: 401 };
    for challenge in challenges {
        let Challenge::Bearer { realm, service } = challenge else { continue };
        match Url::parse(realm).filter(|url| client.setup().allows_realm(url.origin())) {
            Some(url) => {
                let url = token_url(&url, service.as_deref(), repository)?;
                return fetch(client, url, credential).await;
            }
            None => refusal = UpstreamError::RealmNotAllowed,
        }
    }
    match credential {
        Some(credential) if challenges.contains(&Challenge::Basic) => Ok(Authorization {
            header: credential.to_header(),
            lifetime: Duration::from_secs(MAX_LIFETIME),
        }),
        _ => Err(refusal),
    }
}

fn token_url(
    realm: &Url,
    service: Option<&str>,
    repository: &Repository,
) -> Result<Url, UpstreamError> {
    let scope = format!("repository:{repository}:pull");
    let mut pairs = vec![("scope", scope.as_str())];
    pairs.extend(service.map(|service| ("service", service)));
    realm.with_query(&pairs).ok_or(UpstreamError::Invalid("its token realm is too long"))
}

async fn fetch(
    client: &Client,
    url: Url,
    credential: Option<&ClientCredential>,
) -> Result<Authorization, UpstreamError> {
    let config = &client.setup().config;
    let deadline = tokio::time::Instant::now() + config.connect_timeout + config.header_timeout;
    let header = credential.map(ClientCredential::to_header);
    let request = Outgoing {
        method: Method::Get,
        url,
        accept: None,
        range_from: None,
        authorization: header.as_ref(),
    };
    let response = client.send(&request, deadline).await?;
    let wait = text(response.headers(), "retry-after");
    let now = std::time::SystemTime::now();
    match response.status().as_u16() {
        200 => {}
        status @ (401 | 403) => return Err(UpstreamError::Authentication { status }),
        429 => {
            let retry_after = rate_limit_wait(wait.as_deref(), now);
            return Err(UpstreamError::RateLimited { retry_after });
        }
        300..=399 => return Err(UpstreamError::RedirectNotAllowed),
        status @ 500.. => {
            return Err(UpstreamError::Unavailable {
                why: Unavailability::Answers(status),
                retry_after: wait.and_then(|text| read_retry_after(&text, now)),
            });
        }
        _ => return Err(UpstreamError::Invalid("its token endpoint gives no token")),
    }
    let body = Body::new(response.into_body(), config.body_idle_timeout, Some(deadline));
    let json = body.collect(MAX_ANSWER).await.map_err(|error| match error {
        UpstreamError::TooLarge { .. } => UpstreamError::Invalid("its token answer is too large"),
        error => error,
    })?;
    let mut authorization = read_token(&json)?;
    if credential.is_some() && config.credentials == Credentials::Client {
        let most = Duration::from_secs(CLIENT_LIFETIME - MARGIN);
        authorization.lifetime = authorization.lifetime.min(most);
    }
    Ok(authorization)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

fn read_token(json: &[u8]) -> Result<Authorization, UpstreamError> {
    let answer: TokenAnswer = serde_json::from_slice(json)
        .map_err(|_| UpstreamError::Invalid("its token answer is not JSON"))?;
    let usable = |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let tokens = [answer.token, answer.access_token];
    let token = tokens.into_iter().flatten().find(usable);
    let token = token.ok_or(UpstreamError::Invalid("its token answer has no token"))?;
    let seconds = answer.expires_in.as_u64().unwrap_or(MIN_LIFETIME);
    Ok(Authorization {
        header: Secret::new(format!("Bearer {token}")),
        lifetime: Duration::from_secs(seconds.clamp(MIN_LIFETIME, MAX_LIFETIME) - MARGIN),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_and_its_lifetime_clamped() {
        for (json, expected) in [
            (r#"{"token":"a"}"#, Some(("Bearer a", 50))),
            (r#"{"access_token":"b","expires_in":300}"#, Some(("Bearer b", 290))),
            (r#"{"token":"a","access_token":"b"}"#, Some(("Bearer a", 50))),
            (r#"{"token":"","access_token":"b"}"#, Some(("Bearer b", 50))),
            (r#"{"token":"a","expires_in":-1}"#, Some(("Bearer a", 50))),
            (r#"{"token":"a","expires_in":1}"#, Some(("Bearer a", 50))),
            (r#"{"token":"a","expires_in":1000000000000000000}"#, Some(("Bearer a", 3590))),
            (r#"{"token":"a","expires_in":1e400}"#, None),
            (r#"{"token":"a","expires_in":"x"}"#, Some(("Bearer a", 50))),
            (r#"{"token":"a","expires_in":null}"#, Some(("Bearer a", 50))),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":"a\r\nX: y"}"#, None),
            (r#"{"token":7}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            let read = read_token(json.as_bytes()).ok();
            let read = read.as_ref().map(|read| (read.header.expose(), read.lifetime.as_secs()));
            assert_eq!(read, expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_token_never_panics(json in ".*") {
            read_token(json.as_bytes()).ok();
        }
    }
}
