//! What the ledger keeps in memory of every tag: that it is there, and how recent it is.
//!
//! Absence is decided here and nowhere else. A tag is a 64-bit keyed fingerprint of its key with
//! the sequence number of its last event, so an index that answers something older is caught too.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use super::batch::Hash;
use crate::event::{Event, EventKind};
use crate::oci::{Digest, ManifestKind};
use crate::pin::{Content, OpenConflict, Pin, PinKey, Provenance, TagState};

/// The key of the fingerprints: random, so that nobody can make two tags collide.
pub(crate) type FingerprintKey = [u8; 16];

/// The fold of the whole log, at a few bytes for each tag and manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) key: FingerprintKey,
    pub(crate) created_ms: u64,
    /// By fingerprint: sequence number of the last event, and two flags below it.
    pub(crate) tags: HashMap<u64, u64, BuildHasherDefault<AsIs>>,
    /// The first four bytes of every manifest's digest: what is not here is not in the log.
    pub(crate) manifests: HashSet<u32, BuildHasherDefault<AsIs>>,
    pub(crate) revoked: HashSet<Digest>,
    pub(crate) pins: u64,
    pub(crate) conflicts: u64,
}

const HAS_PIN: u64 = 1;
const HAS_CONFLICT: u64 = 2;

impl Facts {
    /// The facts of an empty ledger.
    pub(crate) fn new(key: FingerprintKey) -> Self {
        Self {
            key,
            created_ms: 0,
            tags: HashMap::default(),
            manifests: HashSet::default(),
            revoked: HashSet::new(),
            pins: 0,
            conflicts: 0,
        }
    }

    /// The fingerprint of a tag.
    pub(crate) fn fingerprint(&self, key: &PinKey) -> u64 {
        let hash = Sha256::new()
            .chain_update(self.key)
            .chain_update(key.registry.as_str())
            .chain_update([0])
            .chain_update(key.repository.as_str())
            .chain_update([0])
            .chain_update(key.tag.as_str())
            .finalize();
        hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    /// The sequence number of the tag's last event; 0 if there certainly is none.
    pub(crate) fn sequence(&self, fingerprint: u64) -> u64 {
        self.tags.get(&fingerprint).map_or(0, |entry| entry >> 2)
    }

    /// Whether the log may hold this manifest; `false` is certain.
    pub(crate) fn may_hold(&self, sha256: &[u8]) -> bool {
        self.manifests.contains(&prefix(sha256))
    }

    /// Takes the next event in.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event.kind {
            EventKind::Created => self.created_ms = event.time_ms,
            EventKind::Revoked => self.revoked.extend(event.pinned),
            EventKind::Unrevoked => {
                event.pinned.map(|digest| self.revoked.remove(&digest));
            }
            _ => {}
        }
        if let Some(key) = &event.key {
            self.apply_to(self.fingerprint(key), event);
        }
    }

    /// Takes note of a manifest that is in the log.
    pub(crate) fn attach(&mut self, sha256: &Hash) {
        self.manifests.insert(prefix(sha256));
    }

    /// Puts a tag in, as a snapshot has it.
    pub(crate) fn restore(&mut self, fingerprint: u64, entry: u64) {
        self.pins += u64::from(entry & HAS_PIN != 0);
        self.conflicts += u64::from(entry & HAS_CONFLICT != 0);
        self.tags.insert(fingerprint, entry);
    }

    /// Folds the event into a stand-in that has a pin and a conflict where the tag has: which of
    /// both is there afterwards depends on nothing else.
    fn apply_to(&mut self, fingerprint: u64, event: &Event) {
        let entry = self.tags.entry(fingerprint).or_insert(0);
        self.pins -= u64::from(*entry & HAS_PIN != 0);
        self.conflicts -= u64::from(*entry & HAS_CONFLICT != 0);
        let mut state = TagState {
            pin: (*entry & HAS_PIN != 0).then(|| STAND_IN.0.clone()),
            conflict: (*entry & HAS_CONFLICT != 0).then(|| STAND_IN.1.clone()),
            ..TagState::default()
        };
        state.apply(event);
        let pin = if state.pin.is_some() { HAS_PIN } else { 0 };
        let conflict = if state.conflict.is_some() { HAS_CONFLICT } else { 0 };
        *entry = event.sequence << 2 | pin | conflict;
        self.pins += u64::from(pin != 0);
        self.conflicts += u64::from(conflict != 0);
    }
}

fn prefix(sha256: &[u8]) -> u32 {
    sha256.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

static STAND_IN: LazyLock<(Pin, OpenConflict)> = LazyLock::new(|| {
    let digest = Digest::sha256([0; 32]);
    let media_type = ManifestKind::ALL[0].into();
    let content = Content { digest, media_type, size_bytes: 0 };
    let pin = Pin { content, provenance: Provenance::FirstSeen, sequence: 0, since_ms: 0 };
    let conflict =
        OpenConflict { observed: digest, since_ms: 0, recorded_ms: 0, flaps: 0, repeats: 0 };
    (pin, conflict)
});

/// A hasher for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, value: u32) {
        // The table takes its buckets from the low bits and its tags from the high ones.
        self.0 = u64::from(value) << 32 | u64::from(value);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
