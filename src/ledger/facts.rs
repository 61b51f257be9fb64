//! What the ledger keeps in memory of every tag: that it is there, and how recent it is.
//!
//! Absence is decided here and nowhere else. A tag is a 64-bit keyed fingerprint of its key with
//! the sequence number of its last event, so an index that answers something older is caught too.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, LazyLock};

use sha2::{Digest as _, Sha256};

use super::base::Base;
use super::batch::Hash;
use super::place::{Place, Spot};
use super::segment::Position;
use super::take;
use crate::event::{Event, EventKind};
use crate::oci::{Digest, ManifestKind};
use crate::pin::{Content, OpenConflict, Pin, PinKey, Provenance, TagState};

/// The key of the fingerprints: random, so that nobody can make two tags collide.
pub(crate) type FingerprintKey = [u8; 16];

/// The fold of the whole log, at a few bytes for each tag and manifest.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) key: FingerprintKey,
    pub(crate) created_ms: u64,
    pub(crate) revoked: HashSet<Digest>,
    pub(crate) pins: u64,
    pub(crate) conflicts: u64,
    /// What a snapshot has, or would have.
    base: Arc<Base>,
    /// What came since, while a snapshot is made of it.
    frozen: Option<Arc<Fresh>>,
    /// What came since then.
    fresh: Fresh,
}

/// The newest part of the facts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fresh {
    pub(crate) tags: HashMap<u64, Entry, BuildHasherDefault<AsIs>>,
    /// The first four bytes of every manifest's digest: what is not here is not in the log. Where
    /// the first of those that begin so lies.
    pub(crate) manifests: HashMap<u32, Spot, BuildHasherDefault<AsIs>>,
}

/// What is known of one tag: the sequence number of its last event, whether it has a pin and a
/// conflict; and if that is its only event, where its record lies, else what the conflict is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    word: u64,
    place: Place,
}

const HAS_PIN: u64 = 1;
const HAS_CONFLICT: u64 = 2;
const IS_ONLY: u64 = 4;

impl Entry {
    /// The sequence number of the tag's last event.
    pub(crate) const fn sequence(self) -> u64 {
        self.word >> 3
    }

    /// Where its only event lies in the segment.
    pub(crate) fn only(self) -> Option<Place> {
        self.has(IS_ONLY).then_some(self.place)
    }

    /// A conflict in the place of the open one: about the event's digest, if that one is.
    fn stand_in(self, event: &Event) -> OpenConflict {
        let same = event.observed_digest().filter(|digest| mark(*digest) == self.place.check);
        let observed = same.unwrap_or(STAND_IN.1.observed);
        OpenConflict { observed, ..STAND_IN.1.clone() }
    }

    const fn has(self, flag: u64) -> bool {
        self.word & flag != 0
    }

    /// As a snapshot has it.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.word.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.place.offset.to_be_bytes());
        bytes[12..].copy_from_slice(&self.place.check.to_be_bytes());
        bytes
    }

    /// The reverse of [`Entry::to_bytes`].
    pub(crate) fn from_bytes(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let word = take::u64(rest)?;
        Some(Self { word, place: Place { offset: take::u32(rest)?, check: take::u32(rest)? } })
    }
}

impl Facts {
    /// The facts of an empty ledger.
    pub(crate) fn new(key: FingerprintKey) -> Self {
        Self {
            key,
            created_ms: 0,
            revoked: HashSet::new(),
            pins: 0,
            conflicts: 0,
            base: Arc::default(),
            frozen: None,
            fresh: Fresh::default(),
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

    /// What is known of a tag; nothing (sequence 0) if there certainly is no such tag.
    pub(crate) fn entry(&self, fingerprint: u64) -> Entry {
        let fresh = self.fresh.tags.get(&fingerprint).copied();
        let frozen = || self.frozen.as_ref()?.tags.get(&fingerprint).copied();
        fresh.or_else(frozen).or_else(|| self.base.tag(fingerprint)).unwrap_or_default()
    }

    /// The sequence number of the tag's last event; 0 if there certainly is none.
    pub(crate) fn sequence(&self, fingerprint: u64) -> u64 {
        self.entry(fingerprint).sequence()
    }

    /// Where this manifest lies, or another that begins alike; `None`: certainly not in the log.
    pub(crate) fn manifest(&self, sha256: &[u8]) -> Option<Spot> {
        let prefix = prefix(sha256);
        let fresh = self.fresh.manifests.get(&prefix).copied();
        let frozen = || self.frozen.as_ref()?.manifests.get(&prefix).copied();
        fresh.or_else(frozen).or_else(|| self.base.manifest(prefix))
    }

    /// Takes the next event in, whose record lies at this place in its segment.
    pub(crate) fn apply(&mut self, event: &Event, place: Place) {
        match event.kind {
            EventKind::Created => self.created_ms = event.time_ms,
            EventKind::Revoked => self.revoked.extend(event.pinned),
            EventKind::Unrevoked => {
                event.pinned.map(|digest| self.revoked.remove(&digest));
            }
            _ => {}
        }
        if let Some(key) = &event.key {
            self.apply_to(self.fingerprint(key), event, place);
        }
    }

    /// Takes note of a manifest that is in the log, and where. The first that begins so stays, so
    /// that what the index need not have does not depend on when it is built.
    pub(crate) fn attach(&mut self, sha256: &Hash, at: Position) {
        if self.manifest(sha256).is_none() {
            self.fresh.manifests.insert(prefix(sha256), Spot::new(at));
        }
    }

    /// Begins with what a snapshot has.
    pub(crate) fn rest_on(&mut self, base: Base) {
        self.base = Arc::new(base);
    }

    /// All of this, to be made a new base of; `None` while that is being done already.
    pub(crate) fn freeze(&mut self) -> Option<(Arc<Base>, Arc<Fresh>)> {
        if self.frozen.is_some() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut self.fresh));
        self.frozen = Some(Arc::clone(&frozen));
        Some((Arc::clone(&self.base), frozen))
    }

    /// The new base, in the place of what was frozen; gives back what goes.
    pub(crate) fn settle(&mut self, base: Arc<Base>) -> (Arc<Base>, Option<Arc<Fresh>>) {
        (std::mem::replace(&mut self.base, base), self.frozen.take())
    }

    /// Folds the event into a stand-in that has a pin and a conflict where the tag has: which of
    /// both is there afterwards depends on nothing else but on what is observed, which a tag with
    /// more than one event marks in the room of its place.
    fn apply_to(&mut self, fingerprint: u64, event: &Event, place: Place) {
        let before = self.entry(fingerprint);
        self.pins -= u64::from(before.has(HAS_PIN));
        self.conflicts -= u64::from(before.has(HAS_CONFLICT));
        let mut state = TagState {
            pin: before.has(HAS_PIN).then(|| STAND_IN.0.clone()),
            conflict: before.has(HAS_CONFLICT).then(|| before.stand_in(event)),
            ..TagState::default()
        };
        state.apply(event);
        let flag = |is_so: bool, flag: u64| if is_so { flag } else { 0 };
        let flags = flag(state.pin.is_some(), HAS_PIN)
            | flag(state.conflict.is_some(), HAS_CONFLICT)
            | flag(before.sequence() == 0, IS_ONLY);
        let place = match &state.conflict {
            _ if before.sequence() == 0 => place,
            Some(open) if open.observed == STAND_IN.1.observed => before.place,
            Some(open) => Place { offset: 0, check: mark(open.observed) },
            None => Place::default(),
        };
        let entry = Entry { word: event.sequence << 3 | flags, place };
        self.pins += u64::from(entry.has(HAS_PIN));
        self.conflicts += u64::from(entry.has(HAS_CONFLICT));
        self.fresh.tags.insert(fingerprint, entry);
    }
}

/// Tells the digest of a conflict from others, but for one case in four billion: of a wrong guess
/// nothing is wrong but a count.
fn mark(digest: Digest) -> u32 {
    prefix(digest.as_bytes())
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
