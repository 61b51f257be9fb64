//! What the ledger's threads and its callers share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::ops::compute::Op;

use super::batch::{Hash, LedgerId};
use super::facts::Facts;
use super::scan::Link;
use super::segment::Position;
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
    /// States that the index may not have yet.
    pub(crate) recent: HashMap<PinKey, Arc<TagState>>,
    /// Manifests that the index may not have yet: where their attachments lie.
    pub(crate) recent_manifests: HashMap<Hash, Position>,
}

/// What a batch changes.
pub(crate) struct Change {
    pub(crate) head: Head,
    pub(crate) events: Vec<Event>,
    pub(crate) states: HashMap<PinKey, Arc<TagState>>,
    pub(crate) manifests: Vec<(Hash, Position)>,
}

/// Shared by callers, writer, indexer and keeper.
pub(crate) struct Shared {
    pub(crate) id: LedgerId,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
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
    /// Puts together what recovery found.
    pub(crate) fn new(id: LedgerId, data_dir: PathBuf, facts: Facts, head: Head) -> Self {
        let revoked = ArcSwap::from_pointee(facts.revoked.clone());
        let states = moka::sync::Cache::builder()
            .weigher(|key: &PinKey, state: &Arc<TagState>| weigh(key, state))
            .max_capacity(CACHE_BYTES)
            .build();
        let memory =
            Memory { facts, head, recent: HashMap::new(), recent_manifests: HashMap::new() };
        Self {
            id,
            log: super::recover::directory(&data_dir),
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

    /// The state of the tag as far as memory has it, and the sequence number that it must have.
    pub(crate) fn look_up(&self, key: &PinKey) -> (u64, Option<Arc<TagState>>) {
        let (sequence, recent) = {
            let memory = self.memory();
            let sequence = memory.facts.sequence(memory.facts.fingerprint(key));
            (sequence, memory.recent.get(key).cloned())
        };
        if sequence == 0 || recent.is_some() {
            return (sequence, recent);
        }
        // An entry may be older than the tag: put in by a slow reader, behind an eviction.
        (sequence, self.states.get(key).filter(|state| state.sequence >= sequence))
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
        for event in &change.events {
            memory.facts.apply(event);
            touched |= event.key.is_none();
        }
        for (sha256, position) in change.manifests {
            memory.facts.attach(&sha256);
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
