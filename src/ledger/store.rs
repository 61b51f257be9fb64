//! The ledger on this machine's disk: the log is the truth, the index answers.

mod manifests;
mod upkeep;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::ask::{Answer, Query};
use super::indexer::Indexer;
use super::keeper::{Keeper, take_snapshot, write_anchor};
use super::lock::Lock;
use super::open::{OpenError, OpenOptions};
use super::place::{Patience, Place};
use super::recover::recover;
use super::shared::{Head, Look, Shared, lock};
use super::verify;
use super::writer::{Append, Bulk, BulkOutcome, Item, Request, Writer};
use super::{LedgerError, LedgerStatus, LedgerStore, Outcome, StoredManifest, files};
use crate::clock::Clock;
use crate::event::{Draft, Event};
use crate::oci::{ComputedDigest, Digest};
use crate::pin::{PinKey, TagState};

/// The ledger in a data directory. One process has it at a time.
///
/// Dropping it closes it.
pub struct FileLedger {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    indexer: Arc<Indexer>,
    keeper: Keeper,
    least_snapshot_bytes: u64,
    requests: RwLock<Option<mpsc::Sender<Request>>>,
    stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

/// How many requests may wait for the writer.
const QUEUE: usize = 4096;

impl FileLedger {
    /// Opens the ledger, or makes one where none ever was.
    ///
    /// Returns as soon as pins can be written; the index may still catch up.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing was changed on disk then.
    pub fn open(options: &OpenOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let recovered = recover(options, &*clock)?;
        let log = recovered.log;
        let head = Head { last: log.last(), end: log.end() };
        let data_dir = options.data_dir.clone();
        let grown = (recovered.sealed, recovered.tail_bytes);
        let shared = Arc::new(Shared::new(*log.id(), data_dir, recovered.facts, head, grown));
        for (key, state) in recovered.states {
            shared.cache(&key, &Arc::new(state));
        }
        let indexer = Indexer::start(shared.clone(), options.index_patience);
        let (keeper, jobs) = Keeper::new(options.snapshot_after_bytes);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let unread = recovered.unread;
        let writer = Writer {
            log,
            shared: shared.clone(),
            clock,
            indexer: indexer.clone(),
            refused: None,
            unrotated: None,
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let io = |error| OpenError::io(Path::new("a thread of the ledger"), error);
        let threads = vec![
            spawn("ledger-writer", move || writer.run(receiver)).map_err(io)?,
            jobs.start(shared.clone(), indexer.clone(), sender.downgrade()).map_err(io)?,
            verify::in_background(shared.clone(), unread, stopping.clone()).map_err(io)?,
        ];
        let (threads, lock) = (Mutex::new(threads), Mutex::new(Some(recovered.lock)));
        let requests = RwLock::new(Some(sender));
        let inner = Inner {
            shared,
            indexer,
            keeper,
            least_snapshot_bytes: options.snapshot_after_bytes / 8,
            requests,
            stopping,
            threads,
            lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes what waits, the index and the anchor, and lets the data directory go. Everything
    /// asked afterwards is refused with [`LedgerError::Closed`], or answered from memory.
    pub async fn close(&self) {
        let inner = self.inner.clone();
        // It only fails if the runtime is going down, and then `drop` does it.
        let _ = tokio::task::spawn_blocking(move || inner.shut_down()).await;
    }

    async fn submit<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Request,
    ) -> Result<T, LedgerError> {
        let requests = self.inner.requests.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (reply, answer) = oneshot::channel();
        let Some(requests) = requests else { return Err(LedgerError::Closed) };
        requests.send(request(reply)).await.map_err(|_| LedgerError::Closed)?;
        drop(requests);
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// The only event of a tag, read where its record lies. `None`: ask the index, and find out
    /// there what is wrong.
    async fn only_event(&self, key: &PinKey, sequence: u64, at: Option<Place>) -> Option<Event> {
        let (shared, at) = (&self.inner.shared, at?);
        let read = match shared.record(sequence, at, Patience::None) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let shared = Arc::clone(shared);
                let read = move || shared.record(sequence, at, Patience::Endless);
                tokio::task::spawn_blocking(read).await.ok()?
            }
            read => read,
        };
        let is_it = |event: &Event| event.sequence == sequence && event.key.as_ref() == Some(key);
        read.ok().flatten().filter(is_it)
    }
}

#[async_trait]
impl LedgerStore for FileLedger {
    async fn state(&self, key: &PinKey) -> Result<Option<Arc<TagState>>, LedgerError> {
        let (shared, indexer) = (&self.inner.shared, &self.inner.indexer);
        let Look { sequence, state, only } = shared.look_up(key);
        if sequence == 0 || state.is_some() {
            return Ok(state);
        }
        if let Some(event) = self.only_event(key, sequence, only).await {
            let state = fold(&[event]);
            shared.cache(key, &state);
            return Ok(Some(state));
        }
        let reply = indexer.ask(Query::Events(key.clone()), 0, false).await?;
        let Answer::Events(events) = reply.answer else { return Err(LedgerError::Rebuilding) };
        let state = fold(&events);
        if state.sequence >= sequence {
            shared.cache(key, &state);
            return Ok(Some(state));
        }
        if reply.applied >= sequence {
            indexer.doubt("it does not know a tag that the log has");
        }
        Err(LedgerError::Rebuilding)
    }

    async fn append(
        &self,
        draft: Draft,
        expected: u64,
        manifest: Option<StoredManifest>,
    ) -> Result<Outcome, LedgerError> {
        let Some(key) = draft.key.clone() else {
            return Err(LedgerError::Refused("an event about a tag must name the tag"));
        };
        let hashes = |given: &StoredManifest| {
            ComputedDigest::of(&given.bytes, None).digest() == given.content.digest
        };
        if !manifest.as_ref().is_none_or(hashes) {
            return Err(LedgerError::Refused("the manifest does not hash to its digest"));
        }
        let mut manifest = manifest;
        if let Some(given) = &manifest
            && self.holds(given).await
        {
            manifest = None;
        }
        loop {
            let known = self.state(&key).await?;
            if known.as_ref().map_or(0, |state| state.sequence) != expected {
                return Ok(Outcome::Raced(known.unwrap_or_default()));
            }
            let (key, draft, manifest) = (key.clone(), draft.clone(), manifest.clone());
            let answer = self.submit(|reply| {
                Request::Append(Box::new(Append { key, draft, expected, known, manifest, reply }))
            });
            if let Some(outcome) = answer.await? {
                return Ok(outcome);
            }
        }
    }

    async fn append_all(&self, drafts: Vec<(Draft, u64)>) -> Result<Option<u64>, LedgerError> {
        super::check_bulk(&drafts)?;
        if drafts.is_empty() {
            return Ok(Some(self.inner.shared.head().last.sequence));
        }
        loop {
            let mut items = Vec::with_capacity(drafts.len());
            for (draft, expected) in &drafts {
                let Some(key) = draft.key.clone() else { continue };
                let known = self.state(&key).await?;
                items.push(Item { key, draft: draft.clone(), expected: *expected, known });
            }
            match self.submit(|reply| Request::Bulk(Bulk { items, reply })).await? {
                BulkOutcome::Again => {}
                BulkOutcome::Raced => return Ok(None),
                BulkOutcome::Written(sequence) => return Ok(Some(sequence)),
            }
        }
    }

    async fn append_global(&self, draft: Draft) -> Result<Event, LedgerError> {
        if draft.key.is_some() {
            return Err(LedgerError::Refused("an event about everything must not name a tag"));
        }
        self.submit(|reply| Request::Global(Box::new(draft), reply)).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Option<StoredManifest>, LedgerError> {
        self.read_manifest(digest).await
    }

    fn has_revoked(&self) -> bool {
        self.inner.shared.has_revoked()
    }

    fn is_revoked(&self, digest: &Digest) -> bool {
        self.inner.shared.is_revoked(digest)
    }

    fn version(&self) -> Option<u64> {
        Some(self.inner.shared.version())
    }

    async fn history(&self, key: &PinKey) -> Result<Vec<Event>, LedgerError> {
        let sequence = self.inner.shared.look_up(key).sequence;
        if sequence == 0 {
            return Ok(Vec::new());
        }
        let reply = self.inner.indexer.ask(Query::Events(key.clone()), sequence, false).await?;
        let Answer::Events(events) = reply.answer else { return Err(LedgerError::Rebuilding) };
        if events.last().is_none_or(|event| event.sequence < sequence) {
            self.inner.indexer.doubt("it does not know all events of a tag");
            return Err(LedgerError::Rebuilding);
        }
        Ok(events)
    }

    async fn list(
        &self,
        after: Option<&PinKey>,
        limit: usize,
    ) -> Result<Vec<(PinKey, Arc<TagState>)>, LedgerError> {
        let head = self.inner.shared.head().last.sequence;
        let query = Query::Tags(after.cloned(), limit);
        let reply = self.inner.indexer.ask(query, head, false).await?;
        let Answer::Tags(tags) = reply.answer else { return Err(LedgerError::Rebuilding) };
        let states = tags.into_iter().map(|(key, events)| (key, fold(&events))).collect::<Vec<_>>();
        let memory = self.inner.shared.memory();
        let is_old = |(key, state): &(PinKey, Arc<TagState>)| {
            let sequence = memory.facts.sequence(memory.facts.fingerprint(key));
            reply.applied >= sequence && state.sequence < sequence
        };
        if states.iter().any(is_old) {
            self.inner.indexer.doubt("it does not know all events of a tag");
            return Err(LedgerError::Rebuilding);
        }
        Ok(states)
    }

    async fn events(&self, from: u64, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let shared = self.inner.shared.clone();
        let read = tokio::task::spawn_blocking(move || verify::events(&shared, from, limit));
        read.await.map_err(|error| LedgerError::Failed(error.to_string()))?
    }

    fn status(&self) -> LedgerStatus {
        let shared = &self.inner.shared;
        let memory = shared.memory();
        LedgerStatus {
            id: shared.id_text(),
            created_ms: memory.facts.created_ms,
            sequence: memory.head.last.sequence,
            head: files::hex(&memory.head.last.hash),
            pins: memory.facts.pins,
            conflicts: memory.facts.conflicts,
            failure: shared.failure().map(|failure| failure.to_string()),
            rebuilding: shared.rebuilding.load(Ordering::SeqCst),
        }
    }
}

impl Inner {
    /// Ends all threads, writer first, and lets the lock go last. Does nothing the second time.
    fn shut_down(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.keeper.stop();
        drop(self.requests.write().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger panicked");
            }
        }
        self.indexer.stop();
        if self.shared.tail_bytes() >= self.least_snapshot_bytes {
            take_snapshot(&self.shared);
        }
        write_anchor(&self.shared);
        drop(lock(&self.lock).take());
    }
}

impl Drop for FileLedger {
    fn drop(&mut self) {
        self.inner.shut_down();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// The state that a tag's events come to.
fn fold(events: &[Event]) -> Arc<TagState> {
    let mut state = TagState::default();
    for event in events {
        state.apply(event);
    }
    Arc::new(state)
}
