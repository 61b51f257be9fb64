//! Fetching a blob that is not stored: one fill for everybody, which outlives who began it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::asking::Origin;
use super::blob::{check, is_empty};
use super::flights::Flights;
use super::refusal::{Reason, Refusal};
use super::{Holder, Pull};
use crate::blob::StoredBlob;
use crate::blob::fill::{Fill, Filler};
use crate::oci::{Digest, Registry};
use crate::upstream::{Body, Method};

/// What is being filled.
#[derive(Default)]
pub(super) struct Fills {
    opening: Flights<(Arc<str>, Holder, Digest), Result<Opened, Refusal>>,
    running: Mutex<HashMap<(Registry, Digest), Fill>>,
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
    pub(super) body: Body,
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
    /// The running fill, unless it broke and is about to go.
    pub(super) fn running_fill(&self, registry: &Registry, digest: &Digest) -> Option<Fill> {
        let running = self.memory.fills.running();
        running.get(&(registry.clone(), *digest)).filter(|fill| !fill.is_broken()).cloned()
    }
}

impl Fills {
    fn running(&self) -> MutexGuard<'_, HashMap<(Registry, Digest), Fill>> {
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
                Source::Passing(match first {
                    Some(passing) => passing,
                    None => self.fetch().await?,
                })
            }
            Opened::Stored => {
                Source::Stored(self.pull.open_stored(self.digest).await.ok_or_else(early)?)
            }
        })
    }

    async fn open(self) -> Result<Opened, Refusal> {
        // Since somebody looked another fill may have begun, or ended. Only a link lets this
        // repository have of it.
        let is_linked = self.is_linked();
        if let Some(fill) = self.running().filter(|_| is_linked) {
            return Ok(Opened::Fill(fill));
        }
        if is_linked && self.pull.open_stored(self.digest).await.is_some() {
            return Ok(Opened::Stored);
        }
        let Passing { body, size_bytes } = self.fetch().await?;
        if let Some(fill) = self.running() {
            return Ok(Opened::Fill(fill));
        }
        let store = &self.pull.edges.store;
        let staged = store.stage(&self.digest, size_bytes);
        match staged.and_then(|staged| Ok(Fill::begin(staged, size_bytes)?)) {
            Ok((fill, filler)) => {
                let at = (self.origin.upstream.name.clone(), self.digest);
                self.pull.memory.fills.running().insert(at, fill.clone());
                tokio::spawn(self.run(fill.clone(), filler, body));
                Ok(Opened::Fill(fill))
            }
            Err(error) => {
                tracing::warn!(digest = %self.digest, %error, "a blob passes through uncached");
                let passing = Passing { body, size_bytes };
                Ok(Opened::Passing(Arc::new(Mutex::new(Some(passing)))))
            }
        }
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
        Ok(Passing { body: answer.body, size_bytes: answer.content_length })
    }

    fn running(&self) -> Option<Fill> {
        self.pull.running_fill(&self.origin.upstream.name, &self.digest)
    }

    /// Whether this repository may see what is stored.
    fn is_linked(&self) -> bool {
        let Origin { upstream, repository, .. } = &self.origin;
        self.pull.edges.links.find(&upstream.name, repository, &self.digest).is_some()
    }

    async fn run(self, fill: Fill, filler: Filler, body: Body) {
        let begun = Instant::now();
        let result = filler.run(body).await;
        self.take_off(&fill);
        let Self { pull, origin, digest } = self;
        let place = (origin.circle().0, digest);
        let Origin { upstream, repository, .. } = origin;
        let outcome = if result.is_ok() { "complete" } else { "failed" };
        pull.edges.metrics.fills.with_label_values(&[outcome]).inc();
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                pull.memory.spoilt.invalidate(&place);
                tracing::info!(upstream = %upstream.name, %repository, %digest, duration_ms,
                    "a blob was fetched");
                if pull.is_wanted(&upstream.name, &repository, digest) {
                    pull.hold_later(&upstream.name, &repository, digest);
                }
            }
            Err(error) => {
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
    fn take_off(&self, fill: &Fill) {
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
