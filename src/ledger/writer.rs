//! The one writer: takes what waits, decides it, writes one batch, syncs, answers.

mod bulk;

pub(crate) use bulk::{Bulk, BulkOutcome, Item};

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::batch::{self, Builder, Hash};
use super::indexer::Indexer;
use super::log::{Log, RotateError};
use super::segment::Position;
use super::shared::{Change, Head, Look, Shared};
use super::{LedgerError, Outcome, StoredManifest, record};
use crate::clock::Clock;
use crate::event::{Draft, Event};
use crate::pin::{PinKey, TagState};

/// What is asked of the writer.
pub(crate) enum Request {
    /// An event about a tag.
    Append(Box<Append>),
    /// Events about many tags.
    Bulk(Bulk),
    /// An event without a tag.
    Global(Box<Draft>, oneshot::Sender<Result<Event, LedgerError>>),
    /// Look for space again.
    Nudge,
}

/// A compare-and-set write.
pub(crate) struct Append {
    pub(crate) key: PinKey,
    pub(crate) draft: Draft,
    pub(crate) expected: u64,
    /// The tag's state as the caller found it.
    pub(crate) known: Option<Arc<TagState>>,
    pub(crate) manifest: Option<StoredManifest>,
    /// `None` as an answer: `known` is out of date and memory has no newer one; ask again.
    pub(crate) reply: oneshot::Sender<Result<Option<Outcome>, LedgerError>>,
}

/// The writer's thread owns this.
pub(crate) struct Writer {
    pub(crate) log: Log,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) indexer: Arc<Indexer>,
    /// When space was refused last, and why.
    pub(crate) refused: Option<(Instant, String)>,
    /// When a new segment was refused last: this one goes on meanwhile.
    pub(crate) unrotated: Option<Instant>,
}

/// What becomes one batch, and who waits for it.
struct Round {
    builder: Builder,
    next: u64,
    events: Vec<Event>,
    states: HashMap<PinKey, Arc<TagState>>,
    attached: HashSet<Hash>,
    answers: Vec<Answer>,
}

enum Answer {
    Append(oneshot::Sender<Result<Option<Outcome>, LedgerError>>, Option<Outcome>),
    Bulk(oneshot::Sender<Result<BulkOutcome, LedgerError>>, BulkOutcome),
    Global(oneshot::Sender<Result<Event, LedgerError>>, Box<Event>),
}

/// No more is taken into a batch of this size or with so many answers.
const ROUND_BYTES: usize = 1 << 20;
const ROUND_ANSWERS: usize = 1024;
/// What is reserved before anything is taken: most batches need no more.
const AHEAD_BYTES: u64 = 256 << 10;
/// How often a refused reservation is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the writer waits for an index that is slower than it.
const INDEX_PATIENCE: Duration = Duration::from_secs(2);
/// What people or upstreams wrote is kept up to this length, in bytes.
pub(super) const TEXT_BYTES: usize = 4096;

impl Writer {
    /// Serves until nobody is left to ask.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            self.make_ready();
            let Some(first) = requests.blocking_recv() else { break };
            let mut round = Round::behind(self.log.last().sequence);
            let mut next = Some(first);
            while let Some(request) = next {
                self.take(request, &mut round);
                next = if round.is_full() { None } else { requests.try_recv().ok() };
            }
            self.finish(round);
        }
        if self.shared.failure().is_none() {
            // Space that is not given back is only not given back.
            let _ = self.log.finish();
        }
    }

    /// Space first: what is taken afterwards finds it reserved.
    fn make_ready(&mut self) {
        if matches!(self.shared.failure(), Some(LedgerError::Failed(_))) {
            return;
        }
        self.shared.wait_for_index(INDEX_PATIENCE);
        if self.log.is_full() && self.unrotated.is_none_or(|at| at.elapsed() >= RETRY) {
            match self.log.rotate() {
                Ok(sealed) => {
                    self.unrotated = None;
                    self.shared.seal(sealed);
                }
                Err(RotateError::Begin(error)) => {
                    tracing::warn!("the ledger's next segment cannot be made yet: {error}");
                    self.unrotated = Some(Instant::now());
                }
                Err(RotateError::Close(error)) => drop(self.fail(&error)),
            }
        }
        let _ = self.reserve(AHEAD_BYTES);
    }

    fn take(&mut self, request: Request, round: &mut Round) {
        match request {
            Request::Append(append) => self.take_append(*append, round),
            Request::Bulk(bulk) => self.take_bulk(bulk, round),
            Request::Global(draft, reply) => self.take_global(*draft, reply, round),
            Request::Nudge => {}
        }
    }

    fn take_append(&mut self, append: Append, round: &mut Round) {
        let Append { key, draft, expected, known, manifest, reply } = append;
        let Some(state) = self.current(&key, known, round) else {
            round.answers.push(Answer::Append(reply, None));
            return;
        };
        if state.sequence != expected {
            round.answers.push(Answer::Append(reply, Some(Outcome::Raced(state))));
            return;
        }
        let manifest = manifest.filter(|manifest| !self.holds(manifest, round));
        let event = self.place(draft, round);
        let bytes = record::encode(&event);
        if let Err(error) = self.fit(&bytes, manifest.as_ref(), round) {
            let _ = reply.send(Err(error));
            return;
        }
        round.builder.record(&bytes);
        if let Some(manifest) = manifest {
            let sha256 = sha256(&manifest);
            round.builder.attach(sha256, &manifest.content.media_type, &manifest.bytes);
            round.attached.insert(sha256);
        }
        let mut state = state;
        Arc::make_mut(&mut state).apply(&event);
        round.states.insert(key, state.clone());
        round.put(event);
        round.answers.push(Answer::Append(reply, Some(Outcome::Written(state))));
    }

    fn take_global(
        &mut self,
        draft: Draft,
        reply: oneshot::Sender<Result<Event, LedgerError>>,
        round: &mut Round,
    ) {
        let event = self.place(draft, round);
        let bytes = record::encode(&event);
        if let Err(error) = self.fit(&bytes, None, round) {
            let _ = reply.send(Err(error));
            return;
        }
        round.builder.record(&bytes);
        round.put(event.clone());
        round.answers.push(Answer::Global(reply, Box::new(event)));
    }

    /// The tag's state with everything that is decided so far. That there is none is decided by
    /// the fingerprints alone; `None` if there is one that neither memory nor the caller has.
    fn current(
        &self,
        key: &PinKey,
        known: Option<Arc<TagState>>,
        round: &Round,
    ) -> Option<Arc<TagState>> {
        if let Some(state) = round.states.get(key) {
            return Some(state.clone());
        }
        let Look { sequence, state, .. } = self.shared.look_up(key);
        if sequence == 0 {
            return Some(Arc::default());
        }
        state.or(known).filter(|state| state.sequence == sequence)
    }

    /// Whether the manifest lies in the log for certain, or will with this batch.
    fn holds(&self, manifest: &StoredManifest, round: &Round) -> bool {
        let sha256 = sha256(manifest);
        round.attached.contains(&sha256)
            || self.shared.memory().recent_manifests.contains_key(&sha256)
    }

    fn place(&self, mut draft: Draft, round: &Round) -> Event {
        for text in [&mut draft.who, &mut draft.why, &mut draft.rule] {
            clip(text);
        }
        draft.at(round.next, self.clock.wall_ms())
    }

    /// Makes sure that the batch with this in it lies in reserved space.
    fn fit(
        &mut self,
        record: &[u8],
        manifest: Option<&StoredManifest>,
        round: &Round,
    ) -> Result<(), LedgerError> {
        if let Some(failure @ LedgerError::Failed(_)) = self.shared.failure() {
            return Err(failure);
        }
        let attached = manifest.map_or(0, |manifest| {
            batch::attachment_size(&manifest.content.media_type, manifest.bytes.len())
        });
        let size = round.builder.size() + 4 + record.len() + attached;
        if size > batch::MAX_SIZE {
            return Err(LedgerError::Full("the manifest is larger than any batch".into()));
        }
        self.reserve(size as u64)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), LedgerError> {
        if self.log.room() >= bytes {
            return Ok(());
        }
        if self.may_try() {
            match self.log.reserve(bytes) {
                Ok(()) => {
                    self.refused = None;
                    self.shared.recover();
                    return Ok(());
                }
                Err(error) => self.refuse(&error),
            }
        }
        let why = self.refused.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
        Err(LedgerError::Full(why))
    }

    fn may_try(&self) -> bool {
        self.refused.as_ref().is_none_or(|(at, _)| at.elapsed() >= RETRY)
    }

    fn refuse(&mut self, error: &io::Error) {
        self.refused = Some((Instant::now(), error.to_string()));
        self.shared.fail(LedgerError::Full(error.to_string()));
    }

    fn fail(&mut self, error: &io::Error) -> LedgerError {
        let failure = LedgerError::Failed(error.to_string());
        self.shared.fail(failure.clone());
        failure
    }

    /// Writes the batch, and only then tells anybody.
    fn finish(&mut self, round: Round) {
        let Round { builder, events, states, answers, .. } = round;
        if builder.is_empty() {
            // Nothing here rests on what is not durable yet.
            answers.into_iter().for_each(Answer::give);
            return;
        }
        let appended = match self.log.append(builder) {
            Ok(appended) => appended,
            Err(error) => {
                let failure = self.fail(&error);
                for answer in answers {
                    answer.refuse(&failure);
                }
                return;
            }
        };
        let segment = appended.at.segment;
        let place = |at: usize| Position { segment, offset: appended.at.offset + at as u64 };
        let attachments = appended.built.attachments.iter();
        let manifests = attachments.map(|found| (found.sha256, place(found.at))).collect();
        let head = Head { last: appended.last, end: appended.end };
        let size_bytes = appended.built.bytes.len() as u64;
        let places = appended.built.places.iter().map(|it| it.behind(appended.at.offset));
        let events = events.into_iter().zip(places).collect();
        // A crash from here on leaves a durable batch that some were not told of.
        self.shared.publish(Change { head, size_bytes, events, states, manifests });
        answers.into_iter().for_each(Answer::give);
        self.indexer.wake();
    }
}

impl Round {
    fn behind(last: u64) -> Self {
        Self {
            builder: Builder::new(),
            next: last + 1,
            events: Vec::new(),
            states: HashMap::new(),
            attached: HashSet::new(),
            answers: Vec::new(),
        }
    }

    fn put(&mut self, event: Event) {
        self.next += 1;
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.builder.size() >= ROUND_BYTES || self.answers.len() >= ROUND_ANSWERS
    }
}

impl Answer {
    fn give(self) {
        // Whoever went away in the meantime finds the event in the ledger.
        match self {
            Self::Append(reply, outcome) => drop(reply.send(Ok(outcome))),
            Self::Bulk(reply, outcome) => drop(reply.send(Ok(outcome))),
            Self::Global(reply, event) => drop(reply.send(Ok(*event))),
        }
    }

    fn refuse(self, failure: &LedgerError) {
        match self {
            Self::Append(reply, _) => drop(reply.send(Err(failure.clone()))),
            Self::Bulk(reply, _) => drop(reply.send(Err(failure.clone()))),
            Self::Global(reply, _) => drop(reply.send(Err(failure.clone()))),
        }
    }
}

/// Pins are SHA-256 always.
pub(crate) fn sha256(manifest: &StoredManifest) -> Hash {
    manifest.content.digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn clip(text: &mut String) {
    let mut end = TEXT_BYTES;
    if text.len() > end {
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}
