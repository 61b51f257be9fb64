//! One request on a registry listener, from its head to its answer.

mod again;
mod lost;
mod noting;
mod shelf;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Version};

use super::answer;
use super::body::Body;
use super::head::{check_head, has_body};
use super::links::{next_page, upstream_query};
use super::route::{Resource, Route, RouteError, route};
use super::tombstone::Tombstone;
use crate::config::{Credentials, ListenerConfig, ListenerKind};
use crate::oci::{Accept, Digest, ManifestReference, Registry as Name, Repository};
use crate::pull::{Asker, BlobRequest, ListRequest, ManifestRequest, Pull, Reason, Refusal, Span};
use crate::upstream::{ClientCredential, Upstream};
use again::{Answers, Counted};

pub use noting::Noting;

/// A registry listener's service.
pub struct Registry {
    pull: Arc<Pull>,
    config: ListenerConfig,
    /// Tombstones by their digest, and by the digest of the blob that must never be had.
    tombstones: moka::sync::Cache<Digest, Tombstone>,
    /// Hosts that nobody configured, told once each.
    told: moka::sync::Cache<String, ()>,
    /// Answers that may be given again.
    answers: Answers,
    counted: Counted,
    noting: Noting,
    next_request: AtomicU64,
    /// Sets its request ids apart from those of other listeners and other runs: in a container
    /// every process has the same id.
    run: u64,
}

/// What a request asks for, located.
struct Located {
    upstream: Arc<Upstream>,
    repository: Repository,
    asker: Asker,
    /// The registry as `ns` gave it, to be echoed.
    ns: Option<Name>,
}

impl Registry {
    /// A listener's service.
    pub fn new(pull: Arc<Pull>, config: ListenerConfig, noting: Noting) -> Self {
        let counted = Counted::new(&pull.edges().metrics, config.kind.name());
        Self {
            pull,
            config,
            tombstones: moka::sync::Cache::builder()
                .max_capacity(20_000)
                .time_to_live(Duration::from_hours(24))
                .build(),
            told: moka::sync::Cache::new(1000),
            answers: Answers::default(),
            counted,
            noting,
            next_request: AtomicU64::new(0),
            run: RandomState::new().hash_one("run"),
        }
    }

    /// Answers a request.
    pub async fn call(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let begun = Instant::now();
        let method = request.method().clone();
        let is_head = method == Method::HEAD;
        let path = request.uri().path().to_owned();
        let checked = check_head(&request);
        // The rest of such a request is not read: the connection cannot be used again.
        let closes = checked.is_err() || has_body(&request);
        let answered = match checked {
            Ok(()) => self.answer_or_fail(&request, peer).await,
            Err(refusal) => Err(refusal),
        };
        let answered = answered.map_err(|refusal| self.as_not_understood(refusal, &path));
        let mut response = match answered {
            Ok(response) => response,
            Err(refusal) => self.refuse(&refusal, is_head, &path, peer),
        };
        if closes && request.version() != Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.count(&method, response.status(), begun);
        tracing::debug!(listener = self.config.kind.name(), %method, path,
            status = response.status().as_u16(), "answered");
        response
    }

    async fn answer(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let is_head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => return Err(read_only()),
        };
        let (path, query) = (request.uri().path(), request.uri().query());
        let route = route(self.config.kind, path, query).map_err(|error| self.unrouted(error))?;
        let Route::Resource { registry, repository, resource, by_ns, query } = route else {
            return Ok(answer::ping(self.config.kind, self.wants_credentials(request)));
        };
        let name = registry.unwrap_or_else(|| self.config.default_upstream.clone());
        let located = self
            .locate(request, peer, name.clone(), &repository, by_ns)
            .map_err(|refusal| self.as_held(refusal, &name, &repository, &resource));
        if let (Err(refusal), Resource::Manifest(text)) = (&located, &resource) {
            self.noting.note_unlocated((&name, &repository, text), peer.ip(), is_head, refusal);
        }
        let located = located?;
        let ns = located.ns.clone();
        let mut response = match resource {
            Resource::Manifest(text) => {
                return self.manifest(request, located, &text, is_head).await;
            }
            Resource::Blob(text) => self.blob(request, located, &text, is_head).await?,
            Resource::Tags => self.list(located, None, path, &query).await?,
            Resource::Referrers(text) => {
                let digest = parse_digest(&text)?;
                self.list(located, Some(digest), path, &query).await?
            }
            Resource::Upload => return Err(read_only()),
        };
        echo(ns.as_ref(), &mut response);
        Ok(response)
    }

    fn locate(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
        name: Name,
        repository: &str,
        by_ns: bool,
    ) -> Result<Located, Refusal> {
        let canary = self.pull.canary_upstream(repository);
        let upstream = canary.or_else(|| self.pull.settings().upstreams.locate(&name));
        let upstream = upstream.ok_or_else(|| self.unknown(name.as_str()))?;
        let repository = name
            .repository(repository)
            .map_err(|error| Refusal::new(Reason::NameInvalid, error.to_string()))?;
        // On a mirror a client may send credentials meant for the real registry: dropped.
        let credential = (self.config.kind == ListenerKind::Direct)
            .then(|| request.headers().get(header::AUTHORIZATION))
            .flatten()
            .and_then(|value| value.to_str().ok())
            .and_then(ClientCredential::from_header);
        let asker = Asker { listener: self.config.kind, client: peer.ip(), credential };
        Ok(Located { upstream, repository, asker, ns: by_ns.then_some(name) })
    }

    async fn manifest(
        &self,
        request: &Request<Incoming>,
        located: Located,
        text: &str,
        is_head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let reference: ManifestReference = text.parse().map_err(bad_reference)?;
        if let ManifestReference::Digest(digest) = &reference
            && let Some(tombstone) = self.tombstones.get(digest)
            && tombstone.digest == *digest
        {
            let mut response = answer::block(&tombstone, is_head);
            echo(located.ns.as_ref(), &mut response);
            return Ok(response);
        }
        let accepts = request.headers().get_all(header::ACCEPT);
        let lines: Vec<_> = accepts.iter().filter_map(|line| line.to_str().ok()).collect();
        let (client, asked) = (located.asker.client, self.noting.asked(&located, &reference));
        let replied = self
            .pull
            .manifest(ManifestRequest {
                upstream: located.upstream,
                repository: located.repository,
                reference,
                is_head,
                accept: Accept::parse(accepts.iter()),
                accept_text: Some(lines.join(", ")).filter(|text| !text.is_empty()),
                asker: located.asker,
            })
            .await;
        let noted = self.noting.note(asked, client, is_head, &replied);
        let mut reply = replied?;
        let again = reply.standing.take().zip(reply.bytes.clone());
        let mut response = answer::manifest(reply);
        echo(located.ns.as_ref(), &mut response);
        if let Some((standing, bytes)) = again {
            self.answers.keep(request, &response, bytes, (standing, noted));
        }
        Ok(response)
    }

    async fn blob(
        &self,
        request: &Request<Incoming>,
        located: Located,
        text: &str,
        is_head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let digest = parse_digest(text)?;
        if let Some(tombstone) = self.tombstones.get(&digest) {
            // Clients that stop only here print this, if anything.
            let words = format!("a blocked tag has no blobs; {}", tombstone.reason);
            return Err(Refusal::new(Reason::BlobUnknown, words));
        }
        let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
        let reply = self
            .pull
            .blob(BlobRequest {
                upstream: located.upstream,
                repository: located.repository,
                digest,
                is_head,
                range: range.filter(|_| !is_head).map(str::to_owned),
                asker: located.asker,
            })
            .await?;
        if reply.span == Span::Whole(None) && !is_head && request.version() < Version::HTTP_11 {
            return Err(endless());
        }
        Ok(answer::blob(reply, is_head, self.pull.edges().metrics.sent_bytes.clone()))
    }

    async fn list(
        &self,
        located: Located,
        referrers_of: Option<Digest>,
        path: &str,
        query: &str,
    ) -> Result<Response<Body>, Refusal> {
        let query = upstream_query(query)
            .ok_or_else(|| Refusal::new(Reason::NameInvalid, "the query is not valid"))?;
        let Located { upstream, repository, asker, ns } = located;
        let origin = upstream.config.url.clone();
        let asked = query.clone();
        let request = ListRequest { upstream, repository, referrers_of, query, asker };
        let mut reply = self.pull.list(request).await?;
        let ns = ns.as_ref().map(Name::as_str);
        let link = reply.link.take();
        let link = link.and_then(|link| next_page(&link, &origin, path, &asked, ns));
        Ok(answer::list(reply, link))
    }

    /// The form that the listener needs, one log line and one count.
    fn refuse(
        &self,
        refusal: &Refusal,
        is_head: bool,
        path: &str,
        peer: SocketAddr,
    ) -> Response<Body> {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("{:08x}-{number:x}", self.run >> 32);
        let is_mirror = self.config.kind == ListenerKind::Mirror;
        let is_denied = matches!(refusal.reason, Reason::DigestRevoked | Reason::PinRequired);
        let is_covered = refusal.key.is_some() || is_denied;
        let blocks = is_mirror && is_covered && refusal.reason.is_ours();
        self.tell(refusal, &request_id, path, peer);
        if blocks {
            self.pull.arm(peer.ip(), refusal);
            let tombstone = Tombstone::of(refusal);
            let mut response = answer::block(&tombstone, is_head);
            answer::add_retry_after(&mut response, refusal);
            self.tombstones.insert(tombstone.blob, tombstone.clone());
            self.tombstones.insert(tombstone.digest, tombstone);
            return response;
        }
        if is_mirror && is_covered && refusal.reason != Reason::ManifestUnknown {
            self.pull.edges().metrics.possible_bypass.inc();
        }
        let mut response = answer::refuse(refusal, &request_id);
        if is_covered && refusal.reason.is_ours() {
            answer::add_phrase(&mut response, &Tombstone::of(refusal).reason);
        }
        if refusal.reason == Reason::UpstreamAuth && !is_mirror && !refusal.is_forbidden {
            answer::add_challenge(&mut response);
        }
        response
    }

    fn tell(&self, refusal: &Refusal, request_id: &str, path: &str, peer: SocketAddr) {
        let reason = refusal.reason;
        if matches!(reason, Reason::BlobUnknown | Reason::ManifestUnknown) {
            // The upstream's own answer, passed on.
            tracing::debug!(request_id, reason = reason.name(), path, "not found");
            return;
        }
        self.pull.edges().metrics.refusals.with_label_values(&[reason.name()]).inc();
        let path: String = path.chars().take(300).collect();
        tracing::warn!(
            request_id,
            reason = reason.name(),
            sub_reason = refusal.sub_reason,
            listener = self.config.kind.name(),
            client = %peer.ip(),
            path = ?path,
            pinned = refusal.pinned.map(|digest| digest.to_string()),
            observed = refusal.observed.map(|digest| digest.to_string()),
            message = refusal.message,
            "refused"
        );
    }

    fn unrouted(&self, error: RouteError) -> Refusal {
        match error {
            RouteError::Escapes => Refusal::new(Reason::NameInvalid, error.to_string()),
            RouteError::NotFound => Refusal {
                help: "registry paths begin with /v2/".into(),
                ..Refusal::new(Reason::UpstreamUnknown, error.to_string())
            },
            RouteError::UnknownRegistry(name) => self.unknown(&name),
        }
    }

    /// Whether `/v2/` must challenge, so that clients with credentials send them.
    fn wants_credentials(&self, request: &Request<Incoming>) -> bool {
        self.config.kind == ListenerKind::Direct
            && !request.headers().contains_key(header::AUTHORIZATION)
            && self.pull.settings().upstreams.any_takes(&Credentials::Client)
    }
}

/// Gives `ns` back, where the request named the registry by it.
fn echo(ns: Option<&Name>, response: &mut Response<Body>) {
    if let Some(value) = ns.and_then(|ns| HeaderValue::from_str(ns.as_str()).ok()) {
        response.headers_mut().insert("oci-namespace", value);
    }
}

fn read_only() -> Refusal {
    Refusal::new(Reason::ReadOnly, "this listener is read-only; push to the registry itself")
}

/// For HTTP/1.0 what has no length ends with the connection: a blob that broke off would look whole.
/// What is fetched now has a length once it is stored.
fn endless() -> Refusal {
    let words =
        "the upstream does not say how long this blob is, and by HTTP/1.0 nobody sees a cut";
    Refusal { help: "ask by HTTP/1.1".into(), ..Refusal::new(Reason::Overloaded, words) }
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse::<Digest>()
        .map_err(|error| Refusal::new(Reason::DigestUnsupported, error.to_string()))
}

fn bad_reference(error: crate::oci::ReferenceError) -> Refusal {
    let reason = match &error {
        crate::oci::ReferenceError::SpoilsDigest(_) => Reason::DigestUnsupported,
        _ => Reason::ReferenceInvalid,
    };
    Refusal::new(reason, error.to_string())
}
