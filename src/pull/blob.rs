//! A blob: the range, from the file; else from the running fill; else from a new one.

use std::sync::Arc;

use bytes::Bytes;

use super::asking::Origin;
use super::filling::{Filling, Passing, Source};
use super::leads::Sought;
use super::refusal::{Reason, Refusal};
use super::resume::Arriving;
use super::{Asker, Pull};
use crate::blob::StoredBlob;
use crate::blob::extent::Extent;
use crate::blob::fill::{Fill, FillReader, Verify};
use crate::blob::opened::AtHand;
use crate::ledger::LedgerStore;
use crate::oci::range::RangeRequest;
use crate::oci::{ComputedDigest, Digest, Repository};
use crate::upstream::{Answer, Method, Resource, Upstream};

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

impl BlobRequest {
    fn origin(&self) -> Origin {
        self.asker.origin(&self.upstream, &self.repository)
    }
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
    /// Small content from memory.
    Bytes(Bytes),
    /// None: a HEAD, or a range outside.
    Empty,
    /// A part of a stored, verified file.
    File(Extent),
    /// A reader of a running fill.
    Fill(FillReader),
    /// The upstream's body, hashed on its way, stored nowhere.
    Passing(Box<Verify<Arriving>>),
}

/// A blob for a client.
pub struct BlobReply {
    /// Its digest.
    pub digest: Digest,
    /// Which part the reply carries.
    pub span: Span,
    /// The bytes.
    pub body: BlobBody,
    /// Kept until the body is gone, where it takes its time.
    pub on_its_way: Option<OnItsWay>,
}

/// Content that goes to a client. A revocation does not call it back, but it is told.
pub struct OnItsWay {
    ledger: Arc<dyn LedgerStore>,
    digest: Digest,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if self.ledger.has_revoked() && self.ledger.is_revoked(&self.digest) {
            tracing::warn!(
                digest = %self.digest,
                "content was revoked while it was sent: a pull that ran before went on to its end"
            );
        }
    }
}

impl Pull {
    /// Answers a request for a blob.
    pub async fn blob(self: &Arc<Self>, request: BlobRequest) -> Result<BlobReply, Refusal> {
        let digest = request.digest;
        let mut reply = self.find_blob(request).await?;
        if matches!(reply.body, BlobBody::File(_) | BlobBody::Fill(_) | BlobBody::Passing(_)) {
            let ledger = Arc::clone(&self.edges.ledger);
            reply.on_its_way = Some(OnItsWay { ledger, digest });
        }
        Ok(reply)
    }

    async fn find_blob(self: &Arc<Self>, request: BlobRequest) -> Result<BlobReply, Refusal> {
        let BlobRequest { upstream, repository, asker, .. } = &request;
        let digest = request.digest;
        if self.edges.ledger.is_revoked(&digest) {
            return Err(Refusal::revoked(digest));
        }
        self.pass(&request.asker, &request.origin(), digest, Sought::Content).await?;
        let resource = Resource::Blob(digest);
        self.permit_resource(upstream, repository, resource, asker).await?;
        // In this order: a fill is committed before it ends.
        let running = self.running_fill(&upstream.name, &digest);
        let stored = self.stored_blob(digest).await;
        if stored.is_some() || running.is_some() {
            self.prove_link(&request).await?;
        }
        if let Some(stored) = stored {
            self.edges.metrics.cache_hits.with_label_values(&["blob"]).inc();
            if self.is_wanted(&upstream.name, repository, digest) {
                self.hold_later(&upstream.name, repository, digest);
            }
            return Ok(from_store(&request, stored));
        }
        if let Some(fill) = running {
            self.hold_filled(&request.origin(), digest, &fill);
            return Ok(from_fill(&request, &fill));
        }
        self.edges.metrics.cache_misses.with_label_values(&["blob"]).inc();
        if request.is_head {
            let span = Span::Whole(self.head_blob(&request.origin(), digest).await?);
            return Ok(BlobReply { digest, span, body: BlobBody::Empty, on_its_way: None });
        }
        self.fill(&request).await
    }

    /// Stored content, at once if it is at hand.
    async fn stored_blob(&self, digest: Digest) -> Option<AtHand> {
        let at_hand = self.edges.store.at_hand(&digest);
        if at_hand.is_some() {
            return at_hand;
        }
        let store = Arc::clone(&self.edges.store);
        match tokio::task::spawn_blocking(move || store.take_in_hand(&digest)).await.ok()? {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob could not be opened");
                None
            }
        }
    }

    pub(super) async fn open_stored(&self, digest: Digest) -> Option<StoredBlob> {
        let store = Arc::clone(&self.edges.store);
        match tokio::task::spawn_blocking(move || store.open(&digest)).await.ok()? {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob could not be opened");
                None
            }
        }
    }

    /// Bytes are shared between repositories, the permission to see them is not.
    async fn prove_link(&self, request: &BlobRequest) -> Result<(), Refusal> {
        let BlobRequest { upstream, repository, digest, .. } = request;
        if self.edges.links.find(&upstream.name, repository, digest).is_some() {
            return Ok(());
        }
        self.head_blob(&request.origin(), *digest).await.map(drop)
    }

    /// Asks the upstream by HEAD whether it has a blob in this repository; gives the length in
    /// bytes, where it says one.
    pub(super) async fn head_blob(
        &self,
        origin: &Origin,
        digest: Digest,
    ) -> Result<Option<u64>, Refusal> {
        let Origin { upstream, repository, .. } = origin;
        let answer = self.ask(upstream, origin.blob(digest, Method::Head)).await?;
        check(&answer, digest)?;
        self.link(&upstream.name, repository, &digest, None);
        Ok(answer.content_length.filter(|length| *length > 0 || is_empty(&digest)))
    }

    async fn fill(self: &Arc<Self>, request: &BlobRequest) -> Result<BlobReply, Refusal> {
        let filling =
            Filling { pull: Arc::clone(self), origin: request.origin(), digest: request.digest };
        Ok(match filling.source().await? {
            Source::Fill(fill) => {
                self.hold_filled(&request.origin(), request.digest, &fill);
                from_fill(request, &fill)
            }
            Source::Passing(passing) => from_passing(request, passing),
            Source::Stored(stored) => from_store(request, AtHand::File(stored)),
        })
    }
}

pub(super) fn check(answer: &Answer, digest: Digest) -> Result<(), Refusal> {
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

/// Whether it is the digest of no bytes.
pub(super) fn is_empty(digest: &Digest) -> bool {
    ComputedDigest::of(b"", Some(digest)).supports(digest)
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

fn from_store(request: &BlobRequest, stored: AtHand) -> BlobReply {
    let size_bytes = stored.size_bytes();
    let span = span(request, size_bytes);
    let body = match extent(span, size_bytes) {
        Some((first, length)) if !request.is_head => part_of(stored, first, length),
        _ => BlobBody::Empty,
    };
    BlobReply { digest: request.digest, span, body, on_its_way: None }
}

fn part_of(stored: AtHand, first: u64, length: u64) -> BlobBody {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    match stored {
        AtHand::Bytes(bytes) => BlobBody::Bytes(bytes.slice(index(first)..index(first + length))),
        AtHand::File(StoredBlob { file, .. }) => {
            BlobBody::File(Extent { file, at: first, end: first + length })
        }
    }
}

fn from_fill(request: &BlobRequest, fill: &Fill) -> BlobReply {
    let digest = request.digest;
    let Some(size_bytes) = fill.size_bytes else {
        let body =
            if request.is_head { BlobBody::Empty } else { BlobBody::Fill(fill.read(0, None)) };
        return BlobReply { digest, span: Span::Whole(None), body, on_its_way: None };
    };
    let span = span(request, size_bytes);
    let body = match extent(span, size_bytes) {
        Some((first, length)) if !request.is_head => BlobBody::Fill(fill.read(first, Some(length))),
        _ => BlobBody::Empty,
    };
    BlobReply { digest, span, body, on_its_way: None }
}

fn from_passing(request: &BlobRequest, passing: Passing) -> BlobReply {
    let Passing { body, size_bytes } = passing;
    let digest = request.digest;
    let span = size_bytes.map_or(Span::Whole(None), |size_bytes| span(request, size_bytes));
    let body = Verify::new(body, digest);
    let body = match span {
        Span::Part { first, last, .. } => body.part(first, last - first + 1),
        Span::Unsatisfiable { .. } => {
            return BlobReply { digest, span, body: BlobBody::Empty, on_its_way: None };
        }
        Span::Whole(_) => body,
    };
    BlobReply { digest, span, body: BlobBody::Passing(Box::new(body)), on_its_way: None }
}
