//! A ledger that lives as long as its process: for tests and demonstrations.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::shared::lock;
use super::{LedgerError, LedgerStatus, LedgerStore, Outcome, StoredManifest};
use crate::clock::Clock;
use crate::event::{Draft, Event, EventKind};
use crate::oci::Digest;
use crate::pin::{PinKey, TagState};

/// The ledger in memory.
pub struct MemoryLedger {
    clock: Arc<dyn Clock>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    events: Vec<Event>,
    states: BTreeMap<Vec<u8>, (PinKey, Arc<TagState>)>,
    manifests: HashMap<Digest, StoredManifest>,
    revoked: HashSet<Digest>,
}

/// It has no log whose id could be random.
const ID: &str = "00000000000000000000000000000000";

impl MemoryLedger {
    /// An empty ledger; its first event is its creation.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let ledger = Self { clock, content: Mutex::default() };
        let created = Draft { why: ID.into(), ..Draft::new(EventKind::Created, None) };
        ledger.write(&mut lock(&ledger.content), created);
        ledger
    }

    fn write(&self, content: &mut Content, draft: Draft) -> Event {
        let event = draft.at(content.events.len() as u64 + 1, self.clock.wall_ms());
        content.events.push(event.clone());
        event
    }
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn state(&self, key: &PinKey) -> Result<Option<Arc<TagState>>, LedgerError> {
        Ok(lock(&self.content).states.get(&key.to_bytes()).map(|(_, state)| state.clone()))
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
        let state = content.states.get(&key.to_bytes()).map(|(_, state)| state.clone());
        let mut state = state.unwrap_or_default();
        if state.sequence != expected {
            return Ok(Outcome::Raced(state));
        }
        if let Some(manifest) = manifest {
            content.manifests.entry(manifest.content.digest).or_insert(manifest);
        }
        let event = self.write(&mut content, draft);
        Arc::make_mut(&mut state).apply(&event);
        content.states.insert(key.to_bytes(), (key, state.clone()));
        Ok(Outcome::Written(state))
    }

    async fn append_all(&self, drafts: Vec<(Draft, u64)>) -> Result<Option<u64>, LedgerError> {
        super::check_bulk(&drafts)?;
        let mut content = lock(&self.content);
        let sequence = |content: &Content, draft: &Draft| {
            let name = draft.key.as_ref().map(PinKey::to_bytes).unwrap_or_default();
            content.states.get(&name).map_or(0, |(_, state)| state.sequence)
        };
        if drafts.iter().any(|(draft, expected)| sequence(&content, draft) != *expected) {
            return Ok(None);
        }
        for (draft, _) in drafts {
            let Some(key) = draft.key.clone() else { continue };
            let event = self.write(&mut content, draft);
            let entry = content.states.entry(key.to_bytes()).or_insert((key, Arc::default()));
            Arc::make_mut(&mut entry.1).apply(&event);
        }
        Ok(Some(content.events.len() as u64))
    }

    async fn append_global(&self, draft: Draft) -> Result<Event, LedgerError> {
        if draft.key.is_some() {
            return Err(LedgerError::Refused("an event about everything must not name a tag"));
        }
        let mut content = lock(&self.content);
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
        let events = content.events.iter();
        Ok(events.filter(|event| event.key.as_ref() == Some(key)).cloned().collect())
    }

    async fn list(
        &self,
        after: Option<&PinKey>,
        limit: usize,
    ) -> Result<Vec<(PinKey, Arc<TagState>)>, LedgerError> {
        let after = after.map(PinKey::to_bytes);
        let content = lock(&self.content);
        let states = content.states.iter();
        let behind = states.filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
        Ok(behind.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn events(&self, from: u64, limit: usize) -> Result<Vec<Event>, LedgerError> {
        let content = lock(&self.content);
        let events = content.events.iter().filter(|event| event.sequence >= from);
        Ok(events.take(limit).cloned().collect())
    }

    fn status(&self) -> LedgerStatus {
        let content = lock(&self.content);
        let count = |has: fn(&TagState) -> bool| {
            content.states.values().filter(|(_, state)| has(state)).count() as u64
        };
        LedgerStatus {
            id: ID.into(),
            created_ms: content.events.first().map_or(0, |event| event.time_ms),
            sequence: content.events.len() as u64,
            pins: count(|state| state.pin.is_some()),
            conflicts: count(|state| state.conflict.is_some()),
            ..LedgerStatus::default()
        }
    }
}
