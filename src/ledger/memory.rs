//! A ledger that lives as long as its process: for a job that has its pins from a lock file, and
//! for tests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::shared::lock;
use super::{
    Entry, LedgerError, LedgerStatus, LedgerStore, Lock, OpenError, Outcome, StoredManifest,
    Verified, files,
};
use crate::clock::Clock;
use crate::event::{Draft, Event, EventKind};
use crate::oci::{ComputedDigest, Digest};
use crate::pin::{PinKey, TagState};

/// The ledger in memory.
pub struct MemoryLedger {
    id: String,
    clock: Arc<dyn Clock>,
    content: Mutex<Content>,
    /// The data directory, where it has one: one process owns cache, socket and journal.
    lock: Mutex<Option<Lock>>,
}

#[derive(Default)]
struct Content {
    events: Vec<Event>,
    tags: BTreeMap<Vec<u8>, Tag>,
    manifests: HashMap<Digest, StoredManifest>,
    /// Which event brought which manifest.
    brought: HashMap<u64, Digest>,
    revoked: HashSet<Digest>,
    /// How many writes there were: each is what a batch is elsewhere.
    writes: u64,
    pins: u64,
    conflicts: u64,
}

struct Tag {
    key: PinKey,
    state: Arc<TagState>,
    /// The sequence numbers of its events.
    events: Vec<u64>,
}

/// How many entries are read at once.
const PAGE: usize = 500;

/// A page is full when its manifests have so many bytes.
const PAGE_BYTES: usize = 1 << 20;

impl MemoryLedger {
    /// An empty ledger; its first event is its creation.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with(files::hex(&[0; 16]), clock, None)
    }

    /// An empty ledger of a process that owns `data_dir`, with an id that no other one has. What
    /// lies in the directory's `ledger/` is neither read nor touched.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process owns the directory.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let lock = Lock::take(data_dir)?;
        let random = files::random::<16>();
        let random = random.map_err(|error| OpenError::io(Path::new("/dev/urandom"), error))?;
        Ok(Self::with(files::hex(&random), clock, Some(lock)))
    }

    fn with(id: String, clock: Arc<dyn Clock>, data_dir: Option<Lock>) -> Self {
        let ledger = Self { id, clock, content: Mutex::default(), lock: Mutex::new(data_dir) };
        let created = Draft { why: ledger.id.clone(), ..Draft::new(EventKind::Created, None) };
        ledger.write(&mut lock(&ledger.content), created);
        ledger
    }

    /// Lets the data directory go.
    pub fn close(&self) {
        drop(lock(&self.lock).take());
    }

    /// The entries from sequence `from` on, at least one of them; none behind the last.
    pub fn entries(&self, from: u64) -> Vec<Entry> {
        let content = lock(&self.content);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for event in content.from(from).iter().take(PAGE) {
            let brought = content.brought.get(&event.sequence);
            let manifest = brought.and_then(|digest| content.manifests.get(digest)).cloned();
            bytes += manifest.as_ref().map_or(0, |manifest| manifest.bytes.len());
            let manifests = manifest.into_iter().collect();
            entries.push(Entry { event: event.clone(), manifests });
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        entries
    }

    /// Hashes every manifest again.
    ///
    /// # Errors
    /// The digest of the first that is not what it was.
    pub fn verify(&self) -> Result<Verified, Digest> {
        let content = lock(&self.content);
        let is_sound = |manifest: &StoredManifest| {
            let claim = &manifest.content.digest;
            ComputedDigest::of(&manifest.bytes, Some(claim)).supports(claim)
        };
        if let Some(bad) = content.manifests.values().find(|manifest| !is_sound(manifest)) {
            return Err(bad.content.digest);
        }
        Ok(Verified {
            id: self.id.clone(),
            sequence: content.events.len() as u64,
            head: String::new(),
            pins: content.pins,
            tags: content.tags.len(),
            manifests: content.manifests.len() as u64,
            batches: content.writes,
        })
    }

    fn write(&self, content: &mut Content, draft: Draft) -> Event {
        let event = draft.at(content.events.len() as u64 + 1, self.clock.wall_ms());
        content.events.push(event.clone());
        event
    }

    /// Writes an event about a tag; gives the tag's state with it.
    fn write_at(&self, content: &mut Content, key: &PinKey, draft: Draft) -> Arc<TagState> {
        let event = self.write(content, draft);
        let new = || Tag { key: key.clone(), state: Arc::default(), events: Vec::new() };
        let tag = content.tags.entry(key.to_bytes()).or_insert_with(new);
        let counts = |state: &TagState| {
            (u64::from(state.pin.is_some()), u64::from(state.conflict.is_some()))
        };
        let before = counts(&tag.state);
        Arc::make_mut(&mut tag.state).apply(&event);
        tag.events.push(event.sequence);
        let after = counts(&tag.state);
        content.pins = content.pins + after.0 - before.0;
        content.conflicts = content.conflicts + after.1 - before.1;
        Arc::clone(&tag.state)
    }
}

impl Content {
    fn state(&self, key: &PinKey) -> Option<&Arc<TagState>> {
        self.tags.get(&key.to_bytes()).map(|tag| &tag.state)
    }

    /// The events from sequence `from` on: they are numbered from 1 without gaps.
    fn from(&self, from: u64) -> &[Event] {
        let skipped = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        self.events.get(skipped..).unwrap_or_default()
    }
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn state(&self, key: &PinKey) -> Result<Option<Arc<TagState>>, LedgerError> {
        Ok(lock(&self.content).state(key).cloned())
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
        let mut content = lock(&self.content);
        let state = content.state(&key).cloned().unwrap_or_default();
        if state.sequence != expected {
            return Ok(Outcome::Raced(state));
        }
        drop(state);
        content.writes += 1;
        let new = manifest.filter(|it| !content.manifests.contains_key(&it.content.digest));
        let state = self.write_at(&mut content, &key, draft);
        if let Some(manifest) = new {
            content.brought.insert(state.sequence, manifest.content.digest);
            content.manifests.insert(manifest.content.digest, manifest);
        }
        Ok(Outcome::Written(state))
    }

    async fn append_all(&self, drafts: Vec<(Draft, u64)>) -> Result<Option<u64>, LedgerError> {
        super::check_bulk(&drafts)?;
        let mut content = lock(&self.content);
        let is_old = |(draft, expected): &(Draft, u64)| {
            let state = draft.key.as_ref().and_then(|key| content.state(key));
            state.map_or(0, |state| state.sequence) != *expected
        };
        if drafts.iter().any(is_old) {
            return Ok(None);
        }
        content.writes += 1;
        for (draft, _) in drafts {
            let Some(key) = draft.key.clone() else { continue };
            self.write_at(&mut content, &key, draft);
        }
        Ok(Some(content.events.len() as u64))
    }

    async fn append_global(&self, draft: Draft) -> Result<Event, LedgerError> {
        if draft.key.is_some() {
            return Err(LedgerError::Refused("an event about everything must not name a tag"));
        }
        let mut content = lock(&self.content);
        content.writes += 1;
        let event = self.write(&mut content, draft);
        match (event.kind, event.pinned) {
            (EventKind::Revoked, Some(digest)) => drop(content.revoked.insert(digest)),
            (EventKind::Unrevoked, Some(digest)) => drop(content.revoked.remove(&digest)),
            _ => {}
        }
        Ok(event)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Option<StoredManifest>, LedgerError> {
        Ok(lock(&self.content).manifests.get(digest).cloned())
    }

    fn has_revoked(&self) -> bool {
        !lock(&self.content).revoked.is_empty()
    }

    fn is_revoked(&self, digest: &Digest) -> bool {
        lock(&self.content).revoked.contains(digest)
    }

    fn version(&self) -> Option<u64> {
        Some(lock(&self.content).events.len() as u64)
    }

    async fn history(&self, key: &PinKey) -> Result<Vec<Event>, LedgerError> {
        let content = lock(&self.content);
        let tag = content.tags.get(&key.to_bytes());
        let sequences = tag.map(|tag| tag.events.as_slice()).unwrap_or_default();
        let event = |sequence: &u64| content.from(*sequence).first().cloned();
        Ok(sequences.iter().filter_map(event).collect())
    }

    async fn list(
        &self,
        after: Option<&PinKey>,
        limit: usize,
    ) -> Result<Vec<(PinKey, Arc<TagState>)>, LedgerError> {
        let after = after.map(PinKey::to_bytes);
        let content = lock(&self.content);
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tags = content.tags.range((behind, Bound::Unbounded)).take(limit);
        Ok(tags.map(|(_, tag)| (tag.key.clone(), Arc::clone(&tag.state))).collect())
    }

    async fn events(&self, from: u64, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let content = lock(&self.content);
        Ok(content.from(from).iter().take(limit).cloned().collect())
    }

    fn status(&self) -> LedgerStatus {
        let content = lock(&self.content);
        LedgerStatus {
            id: self.id.clone(),
            created_ms: content.events.first().map_or(0, |event| event.time_ms),
            sequence: content.events.len() as u64,
            pins: content.pins,
            conflicts: content.conflicts,
            ..LedgerStatus::default()
        }
    }
}
