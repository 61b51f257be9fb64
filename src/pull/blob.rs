//! A blob: the range, from the file; else the running fill; else a new one.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::flights::Flights;
use super::refusal::{Reason, Refusal};
use super::{Asker, Holder, Pull, place};
use crate::blob::StoredBlob;
use crate::blob::fill::{Broken, Fill, FillReader, Filler, Verify};
use crate::oci::range::RangeRequest;
use crate::oci::{Digest, Registry, Repository};
use crate::upstream::{Answer, Ask, Body, ClientCredential, Method, Resource, Upstream};

/// A request for a blob.
pub struct BlobRequest {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The repository, canonical.
    pub repository: Repository,
    /// The digest.
    pub digest: Digest,
    /// Only the header is wanted.
    pub is_head: bool,
    /// The Range header.
    pub range: Option<String>,
    /// Who asks.
    pub asker: Asker,
}

/// Which part of the blob a reply carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Bytes `first` to `last`, both inclusive, of `size_bytes`.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
        /// The length of the whole blob.
        size_bytes: u64,
    },
    /// The range asked for lies outside the blob.
    Unsatisfiable {
        /// The length of the whole blob.
        size_bytes: u64,
    },
    /// All of it; the length where it is known.
    Whole(Option<u64>),
}

/// The bytes of a reply.
pub enum BlobBody {
    /// None: a HEAD, or a range outside.
    Empty,
    /// A part of a stored, verified file.
    File {
        /// The file.
        file: File,
        /// The first byte.
        first: u64,
        /// How many.
        length: u64,
    },
    /// A reader of a running fill.
    Fill(FillReader),
    /// The upstream's body, hashed on its way, stored nowhere.
    Passing(Box<Verify<Body>>),
}

impl BlobBody {
    /// The next bytes of a body that is not a file.
    pub async fn next(&mut self) -> Option<Result<bytes::Bytes, Broken>> {
        match self {
            Self::Empty | Self::File { .. } => None,
            Self::Fill(reader) => reader.next().await,
            Self::Passing(body) => body.next().await,
        }
    }
}

/// A blob for a client.
pub struct BlobReply {
    /// Its digest.
    pub digest: Digest,
    /// Which part the reply carries.
    pub span: Span,
    /// The bytes.
    pub body: BlobBody,
}

/// What is being filled.
#[derive(Default)]
pub(super) struct Fills {
    opening: Flights<(Arc<str>, Holder, Digest), Result<Source, Refusal>>,
    running: Arc<Mutex<HashMap<(Registry, Digest), Fill>>>,
}

/// Where a blob that is not stored comes from.
#[derive(Clone)]
enum Source {
    Fill(Fill),
    /// The cache takes nothing: one reader, and whoever comes second asks again.
    Passing(Arc<Mutex<Option<Passing>>>),
}

struct Passing {
    body: Body,
    size_bytes: Option<u64>,
}

impl Pull {
    /// Answers a request for a blob.
    pub async fn blob(self: &Arc<Self>, request: BlobRequest) -> Result<BlobReply, Refusal> {
        let BlobRequest { upstream, repository, digest, asker, .. } = &request;
        if self.edges.ledger.is_revoked(digest) {
            return Err(Refusal::revoked(*digest));
        }
        let resource = Resource::Blob(*digest);
        self.permit_resource(upstream, repository, resource, asker).await?;
        let stored = self.open_stored(*digest).await;
        let running = self.running(&upstream.name, digest);
        if stored.is_some() || running.is_some() {
            self.prove_link(&request).await?;
        }
        if let Some(stored) = stored {
            self.edges.metrics.cache_hits.with_label_values(&["blob"]).inc();
            if self.is_wanted(&upstream.name, repository, *digest) {
                self.hold_later(&upstream.name, repository, *digest);
            }
            return Ok(from_file(&request, stored));
        }
        if let Some(fill) = running {
            return Ok(from_fill(&request, &fill));
        }
        self.edges.metrics.cache_misses.with_label_values(&["blob"]).inc();
        if request.is_head {
            return self.head_blob(&request).await;
        }
        self.fill(&request).await
    }

    async fn open_stored(&self, digest: Digest) -> Option<StoredBlob> {
        let store = Arc::clone(&self.edges.store);
        match tokio::task::spawn_blocking(move || store.open(&digest)).await.ok()? {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob could not be opened");
                None
            }
        }
    }

    fn running(&self, registry: &Registry, digest: &Digest) -> Option<Fill> {
        let running = self.memory.fills.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&(registry.clone(), *digest)).cloned()
    }

    /// Bytes are shared between repositories, the permission to see them is not.
    async fn prove_link(&self, request: &BlobRequest) -> Result<(), Refusal> {
        let BlobRequest { upstream, repository, digest, .. } = request;
        if self.edges.links.find(&upstream.name, repository, digest).is_some() {
            return Ok(());
        }
        self.head_blob(request).await.map(drop)
    }

    async fn head_blob(&self, request: &BlobRequest) -> Result<BlobReply, Refusal> {
        let BlobRequest { upstream, repository, digest, .. } = request;
        let answer = self.ask(upstream, question(request, Method::Head)).await?;
        check(&answer, *digest)?;
        self.link(&upstream.name, repository, digest, None);
        let span = Span::Whole(answer.content_length);
        Ok(BlobReply { digest: *digest, span, body: BlobBody::Empty })
    }

    async fn fill(self: &Arc<Self>, request: &BlobRequest) -> Result<BlobReply, Refusal> {
        let BlobRequest { upstream, repository, digest, asker, .. } = request;
        let credential = asker.credential_for(upstream);
        let number = credential.as_ref().map(ClientCredential::key);
        let flight = (place(&upstream.name, repository), number, *digest);
        for _ in 0..2 {
            let opening = Opening {
                pull: Arc::clone(self),
                upstream: Arc::clone(upstream),
                repository: repository.clone(),
                digest: *digest,
                ask: question(request, Method::Get),
            };
            let landed = self.memory.fills.opening.join(flight.clone(), || opening.open()).await;
            let early = || Refusal::new(Reason::Overloaded, "the fetch ended early; try again");
            match landed.unwrap_or_else(|| Err(early()))? {
                Source::Fill(fill) => return Ok(from_fill(request, &fill)),
                Source::Passing(slot) => {
                    let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(passing) = taken {
                        return Ok(from_passing(*digest, passing));
                    }
                }
            }
        }
        Err(Refusal::new(Reason::Overloaded, "the cache is full and many want the same blob"))
    }
}

/// A fill about to begin.
struct Opening {
    pull: Arc<Pull>,
    upstream: Arc<Upstream>,
    repository: Repository,
    digest: Digest,
    ask: Ask,
}

impl Opening {
    async fn open(self) -> Result<Source, Refusal> {
        let Self { pull, upstream, repository, digest, ask } = self;
        // Between the look into the store and this flight another fill may have begun: for
        // another repository, whose permission to see the blob is not this one's.
        if let Some(fill) = pull.running(&upstream.name, &digest)
            && pull.edges.links.find(&upstream.name, &repository, &digest).is_some()
        {
            return Ok(Source::Fill(fill));
        }
        let answer = pull.ask(&upstream, ask).await?;
        check(&answer, digest)?;
        pull.link(&upstream.name, &repository, &digest, None);
        let (size_bytes, body) = (answer.content_length, answer.body);
        let begun = pull
            .edges
            .store
            .stage(&digest, size_bytes)
            .and_then(|staged| Ok(Fill::begin(staged, size_bytes)?));
        match begun {
            Ok((fill, filler)) => {
                let at = (upstream.name.clone(), digest);
                let running = &pull.memory.fills.running;
                let mut map = running.lock().unwrap_or_else(PoisonError::into_inner);
                map.insert(at, fill.clone());
                drop(map);
                tokio::spawn(pull.run_fill(filler, body, upstream, repository, digest));
                Ok(Source::Fill(fill))
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "a blob passes through uncached");
                let passing = Passing { body, size_bytes };
                Ok(Source::Passing(Arc::new(Mutex::new(Some(passing)))))
            }
        }
    }
}

impl Pull {
    async fn run_fill(
        self: Arc<Self>,
        filler: Filler,
        body: Body,
        upstream: Arc<Upstream>,
        repository: Repository,
        digest: Digest,
    ) {
        let begun = Instant::now();
        let result = filler.run(body).await;
        let mut running = self.memory.fills.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&(upstream.name.clone(), digest));
        drop(running);
        let outcome = if result.is_ok() { "complete" } else { "failed" };
        self.edges.metrics.fills.with_label_values(&[outcome]).inc();
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                tracing::info!(upstream = %upstream.name, %repository, %digest, duration_ms,
                    "a blob was fetched");
                if self.is_wanted(&upstream.name, &repository, digest) {
                    self.hold_later(&upstream.name, &repository, digest);
                }
            }
            Err(error) => {
                let why = error_chain(&error);
                tracing::warn!(upstream = %upstream.name, %repository, %digest, duration_ms, why,
                    "a blob was not stored");
            }
        }
    }
}

/// An error and what caused it, on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn question(request: &BlobRequest, method: Method) -> Ask {
    Ask {
        method,
        repository: request.repository.clone(),
        resource: Resource::Blob(request.digest),
        accept: None,
        range_from: None,
        credential: request.asker.credential_for(&request.upstream),
        deadline: None,
    }
}

fn check(answer: &Answer, digest: Digest) -> Result<(), Refusal> {
    match answer.status {
        200 if answer.content_encoded => Err(Refusal::invalid(
            "CONTENT_ENCODING",
            "the upstream sent the blob in a Content-Encoding other than identity",
        )),
        200 => Ok(()),
        404 => {
            let words = format!("the upstream has no blob {digest} in this repository");
            Err(Refusal::new(Reason::BlobUnknown, words))
        }
        status => Err(Refusal::invalid(
            "STATUS",
            format!("the upstream answered {status} where 200 or 404 is due"),
        )),
    }
}

fn span(request: &BlobRequest, size_bytes: u64) -> Span {
    match RangeRequest::parse(request.range.as_deref(), size_bytes) {
        RangeRequest::Whole => Span::Whole(Some(size_bytes)),
        RangeRequest::Single { first, last } => Span::Part { first, last, size_bytes },
        RangeRequest::Unsatisfiable => Span::Unsatisfiable { size_bytes },
    }
}

/// First byte and length of what a span covers.
fn extent(span: Span, size_bytes: u64) -> Option<(u64, u64)> {
    match span {
        Span::Part { first, last, .. } => Some((first, last - first + 1)),
        Span::Unsatisfiable { .. } => None,
        Span::Whole(_) => Some((0, size_bytes)),
    }
}

fn from_file(request: &BlobRequest, stored: StoredBlob) -> BlobReply {
    let span = span(request, stored.size_bytes);
    let body = match extent(span, stored.size_bytes) {
        Some((first, length)) if !request.is_head => {
            BlobBody::File { file: stored.file, first, length }
        }
        _ => BlobBody::Empty,
    };
    BlobReply { digest: request.digest, span, body }
}

fn from_fill(request: &BlobRequest, fill: &Fill) -> BlobReply {
    let digest = request.digest;
    let Some(size_bytes) = fill.size_bytes else {
        let body =
            if request.is_head { BlobBody::Empty } else { BlobBody::Fill(fill.read(0, None)) };
        return BlobReply { digest, span: Span::Whole(None), body };
    };
    let span = span(request, size_bytes);
    let body = match extent(span, size_bytes) {
        Some((first, length)) if !request.is_head => BlobBody::Fill(fill.read(first, Some(length))),
        _ => BlobBody::Empty,
    };
    BlobReply { digest, span, body }
}

fn from_passing(digest: Digest, passing: Passing) -> BlobReply {
    let body = BlobBody::Passing(Box::new(Verify::new(passing.body, digest)));
    BlobReply { digest, span: Span::Whole(passing.size_bytes), body }
}
