//! Fetching a blob that is not stored: one fill for everybody, which outlives who began it.

mod again;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use self::again::Again;
use super::asking::Origin;
use super::blob::{check, is_empty};
use super::flights::Flights;
use super::places::{Place, Places};
use super::refusal::{Reason, Refusal};
use super::resume::{Arriving, resuming};
use super::{Holder, Pull};
use crate::blob::fill::{Fill, FillError, Filler, RunningFill};
use crate::blob::{BlobError, StoredBlob};
use crate::oci::{Digest, Registry};
use crate::upstream::{Method, UpstreamError};

/// When to come back after all places were taken.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is being filled.
pub(super) struct Fills {
    opening: Flights<(Arc<str>, Holder, Digest), Result<Opened, Refusal>>,
    running: Mutex<HashMap<(Registry, Digest), RunningFill>>,
    places: Places,
}

/// Where a blob comes from that was not stored when somebody looked.
pub(super) enum Source {
    Fill(Fill),
    /// The cache takes nothing.
    Passing(Passing),
    /// Another fill ended in between.
    Stored(StoredBlob),
}

/// An upstream's body that is stored nowhere.
pub(super) struct Passing {
    pub(super) body: Arriving,
    /// The length that the upstream announced, in bytes.
    pub(super) size_bytes: Option<u64>,
}

/// What those who asked together got.
#[derive(Clone)]
enum Opened {
    Fill(Fill),
    /// For one reader; whoever comes second asks for itself.
    Passing(Arc<Mutex<Option<Passing>>>),
    Stored,
}

/// A blob that is to be fetched, and for whom.
#[derive(Clone)]
pub(super) struct Filling {
    pub(super) pull: Arc<Pull>,
    pub(super) origin: Origin,
    pub(super) digest: Digest,
}

impl Pull {
    /// The running fill, unless it broke or was stopped, and is about to go.
    pub(super) fn running_fill(&self, registry: &Registry, digest: &Digest) -> Option<Fill> {
        self.memory.fills.running().get(&(registry.clone(), *digest))?.join()
    }
}

impl Fills {
    /// None yet, and never more than `max_fills` at once.
    pub(super) fn new(max_fills: usize) -> Self {
        let (opening, running) = (Flights::default(), Mutex::default());
        Self { opening, running, places: Places::new(max_fills) }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<(Registry, Digest), RunningFill>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filling {
    /// Joins those who ask for the same, or begins.
    pub(super) async fn source(self) -> Result<Source, Refusal> {
        let (at, holder) = self.origin.circle();
        let flight = (at, holder, self.digest);
        let opening = &self.pull.memory.fills.opening;
        let landed = opening.join(flight, || self.clone().open()).await;
        let early = || Refusal::new(Reason::Overloaded, "the fetch ended early; try again");
        Ok(match landed.unwrap_or_else(|| Err(early()))? {
            Opened::Fill(fill) => Source::Fill(fill),
            Opened::Passing(slot) => {
                let first = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                let passing = match first {
                    Some(passing) => passing,
                    None => self.fetch().await?,
                };
                self.pull.edges.metrics.fills.ended.with_label_values(&["uncached"]).inc();
                Source::Passing(passing)
            }
            Opened::Stored => {
                Source::Stored(self.pull.open_stored(self.digest).await.ok_or_else(early)?)
            }
        })
    }

    /// Fetches the blob for no client, among at most half of all fills, and waits until it is
    /// stored.
    pub(super) async fn complete(self) -> Result<(), Refusal> {
        let pull = Arc::clone(&self.pull);
        let _place = pull.memory.fills.places.background().await;
        match self.source().await? {
            Source::Fill(fill) if !fill.settled().await => {
                Err(Refusal::new(Reason::UpstreamUnavailable, "the upstream's bytes broke off"))
            }
            Source::Passing(_) => {
                Err(Refusal::new(Reason::Overloaded, "the cache takes nothing more"))
            }
            Source::Fill(_) | Source::Stored(_) => Ok(()),
        }
    }

    async fn open(self) -> Result<Opened, Refusal> {
        // Since somebody looked another fill may have begun, or ended; again while it waited.
        if let Some(opened) = self.at_hand().await {
            return Ok(opened);
        }
        let place = self.place().await?;
        if let Some(opened) = self.at_hand().await {
            return Ok(opened);
        }
        let passing = self.fetch().await?;
        let size_bytes = passing.size_bytes;
        match self.stage(size_bytes).await {
            Ok((fill, filler)) => Ok(Opened::Fill(self.begin(fill, filler, passing.body, place))),
            Err(error) => {
                // That the store is full it tells by itself, once.
                tracing::debug!(digest = %self.digest, %error, "a blob passes through uncached");
                Ok(Opened::Passing(Arc::new(Mutex::new(Some(passing)))))
            }
        }
    }

    /// Room in the store; what was used least recently may have to make it.
    async fn stage(&self, size_bytes: Option<u64>) -> Result<(Fill, Filler), BlobError> {
        let (store, digest) = (Arc::clone(&self.pull.edges.store), self.digest);
        let stage = move || Ok(Fill::begin(store.stage(&digest, size_bytes)?, size_bytes)?);
        let staged = tokio::task::spawn_blocking(stage).await;
        let staged = staged.unwrap_or(Err(BlobError::Full("the process is stopping")));
        if let Err(BlobError::Io(error)) = &staged {
            tracing::warn!(%digest, %error, "the store takes nothing");
        }
        staged
    }

    /// What needs no upstream. Only a link lets this repository have of it.
    async fn at_hand(&self) -> Option<Opened> {
        if !self.is_linked() {
            return None;
        }
        if let Some(fill) = self.running() {
            return Some(Opened::Fill(fill));
        }
        self.pull.open_stored(self.digest).await.map(|_| Opened::Stored)
    }

    async fn place(&self) -> Result<Place, Refusal> {
        let upstream = &self.origin.upstream;
        let patience = upstream.config.header_timeout;
        let metrics = &self.pull.edges.metrics.fills;
        let places = &self.pull.memory.fills.places;
        let place = places.take(upstream.fill_leave(), patience, metrics).await;
        place.map_err(|_| Refusal {
            retry_after: Some(RETRY_AFTER),
            ..Refusal::new(Reason::Overloaded, "too many blobs are being fetched at once")
        })
    }

    /// Starts the fill, unless somebody else did meanwhile: this repository may have that one too,
    /// for the upstream just gave the blob for it.
    fn begin(self, fill: Fill, filler: Filler, body: Arriving, place: Place) -> Fill {
        let at = (self.origin.upstream.name.clone(), self.digest);
        let pull = Arc::clone(&self.pull);
        let mut running = pull.memory.fills.running();
        if let Some(other) = running.get(&at).and_then(RunningFill::join) {
            return other;
        }
        running.insert(at, fill.running().clone());
        // As with flights: a runtime that ends drops what it is given at once.
        drop(running);
        tokio::spawn(self.run(fill.running().clone(), filler, body, place));
        fill
    }

    /// Asks the upstream for the blob's bytes.
    async fn fetch(&self) -> Result<Passing, Refusal> {
        let Origin { upstream, repository, .. } = &self.origin;
        let ask = self.origin.blob(self.digest, Method::Get);
        let answer = self.pull.ask(upstream, ask).await?;
        check(&answer, self.digest)?;
        if answer.content_length == Some(0) && !is_empty(&self.digest) {
            // Nothing would be left to hold back until the digest agreed.
            let words = format!("the upstream sent no bytes where it claims {}", self.digest);
            return Err(Refusal::new(Reason::UpstreamDigestMismatch, words));
        }
        self.pull.link(&upstream.name, repository, &self.digest, None);
        let size_bytes = answer.content_length;
        let body =
            resuming(answer.body.boxed(), size_bytes, Again { of: self.clone(), size_bytes });
        Ok(Passing { body, size_bytes })
    }

    fn running(&self) -> Option<Fill> {
        self.pull.running_fill(&self.origin.upstream.name, &self.digest)
    }

    /// Whether this repository may see what is stored.
    fn is_linked(&self) -> bool {
        let Origin { upstream, repository, .. } = &self.origin;
        self.pull.edges.links.find(&upstream.name, repository, &self.digest).is_some()
    }

    async fn run(self, fill: RunningFill, filler: Filler, body: Arriving, place: Place) {
        let begun = Instant::now();
        let finish_from = self.pull.settings.load().finish_from;
        let result = tokio::select! {
            result = filler.run(body) => Some(result),
            () = fill.deserted(|size_bytes| finish_from.of(size_bytes)) => None,
        };
        self.take_off(&fill);
        drop((fill, place));
        self.tell(result, begun);
    }

    fn tell(self, result: Option<Result<(), FillError<UpstreamError>>>, begun: Instant) {
        let Self { pull, origin, digest } = self;
        let place = (origin.circle().0, digest);
        let Origin { upstream, repository, .. } = origin;
        let outcome = match &result {
            None => "abandoned",
            Some(Ok(())) => "complete",
            Some(Err(_)) => "failed",
        };
        pull.edges.metrics.fills.ended.with_label_values(&[outcome]).inc();
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            None => tracing::info!(upstream = %upstream.name, %repository, %digest, duration_ms,
                "a fetch was stopped: nobody reads the blob any more"),
            Some(Ok(())) => {
                pull.memory.spoilt.invalidate(&place);
                tracing::info!(upstream = %upstream.name, %repository, %digest, duration_ms,
                    "a blob was fetched");
                if pull.is_wanted(&upstream.name, &repository, digest) {
                    pull.hold_later(&upstream.name, &repository, digest);
                }
            }
            Some(Err(error)) => {
                if error.is_theirs() {
                    pull.memory.spoilt.insert(place, ());
                }
                let why = error_chain(&error);
                tracing::warn!(upstream = %upstream.name, %repository, %digest, duration_ms, why,
                    "a blob was not stored");
            }
        }
    }

    /// After a broken fill the next may already run under the same name: that one stays.
    fn take_off(&self, fill: &RunningFill) {
        let at = (self.origin.upstream.name.clone(), self.digest);
        let mut running = self.pull.memory.fills.running();
        if running.get(&at).is_some_and(|other| other.is_same(fill)) {
            running.remove(&at);
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
