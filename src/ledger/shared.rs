//! What the ledger's threads and its callers share.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::ops::compute::Op;

use super::base::Base;
use super::batch::{Hash, LedgerId};
use super::facts::Facts;
use super::place::{Patience, Place, Records, Spot};
use super::scan::{Link, Sealed};
use super::segment::Position;
use super::snapshot::Cut;
use super::{LedgerError, files};
use crate::event::Event;
use crate::oci::Digest;
use crate::pin::{PinKey, TagState};

/// Up to where the log is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) last: Link,
    pub(crate) end: Position,
}

/// The part that the writer changes, all of it at once, when a batch is durable.
pub(crate) struct Memory {
    pub(crate) facts: Facts,
    pub(crate) head: Head,
    /// The segments that are closed, in order; the one of `head` may be among them.
    sealed: Vec<Sealed>,
    /// How many bytes of batches no snapshot covers.
    tail_bytes: u64,
    /// States that the index may not have yet.
    pub(crate) recent: HashMap<PinKey, Arc<TagState>>,
    /// Manifests that the index may not have yet: where their attachments lie.
    pub(crate) recent_manifests: HashMap<Hash, Position>,
}

/// What a batch changes.
pub(crate) struct Change {
    pub(crate) head: Head,
    pub(crate) size_bytes: u64,
    /// Each with the place of its record in the segment.
    pub(crate) events: Vec<(Event, Place)>,
    pub(crate) states: HashMap<PinKey, Arc<TagState>>,
    pub(crate) manifests: Vec<(Hash, Position)>,
}

/// What memory knows of a tag.
pub(crate) struct Look {
    /// The sequence number of its last event; 0 if there certainly is none.
    pub(crate) sequence: u64,
    /// Its state, if it is at hand.
    pub(crate) state: Option<Arc<TagState>>,
    /// Where the record of its only event lies, if it has no other.
    pub(crate) only: Option<Place>,
}

/// Shared by callers, writer, indexer and keeper.
pub(crate) struct Shared {
    pub(crate) id: LedgerId,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    records: Records,
    memory: RwLock<Memory>,
    /// Pins, never absences, and none that [`Memory::facts`] knows to be out of date.
    states: moka::sync::Cache<PinKey, Arc<TagState>>,
    revoked: ArcSwap<HashSet<Digest>>,
    /// How many batches were published.
    version: AtomicU64,
    failure: Mutex<Option<LedgerError>>,
    applied: Mutex<u64>,
    progress: Condvar,
    pub(crate) rebuilding: AtomicBool,
}

/// How many states may wait for the index: sled is slower than group commit, and this many first
/// sights in a row do not wait for it. Each takes about 1 KiB.
const RECENT_LIMIT: usize = 32 << 10;
const CACHE_BYTES: u64 = 8 << 20;

impl Shared {
    /// Puts together what recovery found: the facts up to `head`, of which no snapshot has the
    /// last `tail_bytes`.
    pub(crate) fn new(
        id: LedgerId,
        data_dir: PathBuf,
        facts: Facts,
        head: Head,
        (sealed, tail_bytes): (Vec<Sealed>, u64),
    ) -> Self {
        let revoked = ArcSwap::from_pointee(facts.revoked.clone());
        let states = moka::sync::Cache::builder()
            .weigher(|key: &PinKey, state: &Arc<TagState>| weigh(key, state))
            .max_capacity(CACHE_BYTES)
            .build();
        let (recent, recent_manifests) = (HashMap::new(), HashMap::new());
        let memory = Memory { facts, head, sealed, tail_bytes, recent, recent_manifests };
        let log = super::recover::directory(&data_dir);
        Self {
            id,
            records: Records::new(log.clone()),
            log,
            data_dir,
            memory: RwLock::new(memory),
            states,
            revoked,
            version: AtomicU64::new(0),
            failure: Mutex::new(None),
            applied: Mutex::new(0),
            progress: Condvar::new(),
            rebuilding: AtomicBool::new(true),
        }
    }

    /// Reads the memory; hold it for no longer than a look-up.
    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where the log is durable.
    pub(crate) fn head(&self) -> Head {
        self.memory().head
    }

    /// The state of the tag as far as memory has it, and what it must be otherwise.
    pub(crate) fn look_up(&self, key: &PinKey) -> Look {
        let (entry, recent) = {
            let memory = self.memory();
            let entry = memory.facts.entry(memory.facts.fingerprint(key));
            (entry, memory.recent.get(key).cloned())
        };
        let (sequence, only) = (entry.sequence(), entry.only());
        if sequence == 0 || recent.is_some() {
            return Look { sequence, state: recent, only };
        }
        // An entry may be older than the tag: put in by a slow reader, behind an eviction.
        let state = self.states.get(key).filter(|state| state.sequence >= sequence);
        Look { sequence, state, only }
    }

    /// The event with this sequence number, whose record lies at this place; `None` if something
    /// else does.
    pub(crate) fn record(
        &self,
        sequence: u64,
        place: Place,
        patience: Patience,
    ) -> io::Result<Option<Event>> {
        let segment = {
            let memory = self.memory();
            let current = memory.head.end.segment;
            let closed = memory.sealed.partition_point(|sealed| sealed.first <= sequence);
            let closed = closed.checked_sub(1).and_then(|at| memory.sealed.get(at));
            closed.filter(|_| sequence < current).map_or(current, |sealed| sealed.first)
        };
        self.records.read(segment, place, patience)
    }

    /// Whether memory alone says that the manifest lies there, and will after each start.
    pub(crate) fn finds_manifest(&self, sha256: &Hash, at: Position) -> bool {
        self.memory().facts.manifest(sha256).and_then(Spot::position) == Some(at)
    }

    /// Notes that a segment was closed.
    pub(crate) fn seal(&self, sealed: Sealed) {
        self.memory.write().unwrap_or_else(PoisonError::into_inner).sealed.push(sealed);
    }

    /// Up to where the log is durable, and the segments that are closed.
    pub(crate) fn extent(&self) -> (Head, Vec<Sealed>) {
        let memory = self.memory();
        (memory.head, memory.sealed.clone())
    }

    /// How many bytes of batches a start after a kill would have to read.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.memory().tail_bytes
    }

    /// What a snapshot of now is made of; `None` while one is being made. Whoever takes it calls
    /// [`Shared::settle`], whether the snapshot could be written or not.
    pub(crate) fn cut(&self) -> Option<Cut> {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let (base, fresh) = memory.facts.freeze()?;
        memory.tail_bytes = 0;
        let head = memory.head;
        let mut sealed = memory.sealed.clone();
        sealed.retain(|sealed| sealed.first < head.end.segment);
        let facts = &memory.facts;
        let (key, created_ms, revoked) = (facts.key, facts.created_ms, facts.revoked.clone());
        let (pins, conflicts, id) = (facts.pins, facts.conflicts, self.id);
        Some(Cut { id, head, sealed, key, created_ms, revoked, pins, conflicts, base, fresh })
    }

    /// Puts what a snapshot holds in the place of what it was made of.
    pub(crate) fn settle(&self, base: Arc<Base>) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let old = memory.facts.settle(base);
        drop(memory);
        // A great deal of memory is given back here, which nobody should wait for.
        drop(old);
    }

    /// Puts a state that was read from the index into the cache, unless a later one is there.
    pub(crate) fn cache(&self, key: &PinKey, state: &Arc<TagState>) {
        self.states.entry_by_ref(key).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().sequence >= state.sequence => Op::Nop,
            _ => Op::Put(state.clone()),
        });
    }

    /// Whether a person has denied any digest.
    pub(crate) fn has_revoked(&self) -> bool {
        !self.revoked.load().is_empty()
    }

    /// Whether a person has denied the digest everywhere.
    pub(crate) fn is_revoked(&self, digest: &Digest) -> bool {
        self.revoked.load().contains(digest)
    }

    /// Another number after each batch that became visible.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Makes a durable batch visible, all of it at once.
    pub(crate) fn publish(&self, change: Change) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        let revoked = memory.facts.revoked.len();
        let mut touched = false;
        for (event, place) in &change.events {
            memory.facts.apply(event, *place);
            touched |= event.key.is_none();
        }
        memory.tail_bytes += change.size_bytes;
        for (sha256, position) in change.manifests {
            memory.facts.attach(&sha256, position);
            memory.recent_manifests.insert(sha256, position);
        }
        memory.recent.extend(change.states);
        memory.head = change.head;
        if touched || memory.facts.revoked.len() != revoked {
            self.revoked.store(Arc::new(memory.facts.revoked.clone()));
        }
        // Last, and before anybody else reads: who reads this number reads what it stands for.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Drops from memory what the index now has: everything up to `applied`.
    pub(crate) fn indexed(&self, keys: &[PinKey], manifests: &[Hash], applied: u64) {
        let mut known = Vec::new();
        {
            let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                if memory.recent.get(key).is_some_and(|state| state.sequence <= applied) {
                    known.extend(memory.recent.remove_entry(key));
                }
            }
            for sha256 in manifests {
                memory.recent_manifests.remove(sha256);
            }
        }
        self.remember(known);
        *lock(&self.applied) = applied;
        self.progress.notify_all();
    }

    /// Waits until few enough states wait for the index. After `patience` they are dropped: what
    /// is not cached is then answered with [`LedgerError::Rebuilding`] until the index has it.
    pub(crate) fn wait_for_index(&self, patience: Duration) {
        let is_full = || {
            let memory = self.memory();
            memory.recent.len() > RECENT_LIMIT || memory.recent_manifests.len() > RECENT_LIMIT
        };
        if !is_full() {
            return;
        }
        let applied = lock(&self.applied);
        let rebuilding = self.rebuilding.load(Ordering::Relaxed);
        let patience = if rebuilding { Duration::ZERO } else { patience };
        let waited = self.progress.wait_timeout_while(applied, patience, |_| is_full());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        if is_full() {
            let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
            let known = std::mem::take(&mut memory.recent);
            memory.recent_manifests.clear();
            drop(memory);
            self.remember(known);
        }
    }

    /// Puts states into the cache that were the latest a moment ago. Should one be older than
    /// what is there, [`Shared::look_up`] does not take it.
    fn remember(&self, known: impl IntoIterator<Item = (PinKey, Arc<TagState>)>) {
        for (key, state) in known {
            self.states.insert(key, state);
        }
    }

    /// Notes why nothing can be written. What is final stays.
    pub(crate) fn fail(&self, error: LedgerError) {
        let mut failure = lock(&self.failure);
        if !matches!(*failure, Some(LedgerError::Failed(_))) {
            match &error {
                LedgerError::Failed(_) => tracing::error!("{error}"),
                _ if failure.is_none() => tracing::warn!("{error}"),
                _ => {}
            }
            *failure = Some(error);
        }
    }

    /// Notes that there is space again.
    pub(crate) fn recover(&self) {
        let mut failure = lock(&self.failure);
        if matches!(*failure, Some(LedgerError::Full(_))) {
            tracing::info!("there is disk space for the ledger's records again");
            *failure = None;
        }
    }

    /// Why nothing can be written.
    pub(crate) fn failure(&self) -> Option<LedgerError> {
        lock(&self.failure).clone()
    }

    /// The ledger's id as people read it.
    pub(crate) fn id_text(&self) -> String {
        files::hex(&self.id)
    }
}

/// A mutex whose holder panicked is as good as before: every critical section here is a step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About how many bytes an entry takes.
fn weigh(key: &PinKey, state: &TagState) -> u32 {
    let names = key.registry.as_str().len() + key.repository.as_str().len();
    let size = 600 + names + state.seen.len() * 192 + state.rejected.len() * 72;
    u32::try_from(size).unwrap_or(u32::MAX)
}
