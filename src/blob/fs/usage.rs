//! What is stored, in memory: size and last use of each, and whether a pin holds it.
//!
//! It follows the files: whoever makes or removes one tells it, under the file's stripe. The hit
//! path only touches. About 80 bytes for each entry.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::oci::{Algorithm, Digest};

/// Shards, by the first four bits of a digest: so all of them in order are in the order of digests.
const SHARDS: usize = 16;

/// What is known of stored content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) size_bytes: u64,
    /// The last use, Unix time.
    pub(super) used_ms: u64,
    /// A pin needs it: it lies in `held/`.
    pub(super) is_held: bool,
    /// It may have been lost when the machine went down: it is hashed before it is served.
    pub(super) is_suspect: bool,
}

/// Sums over everything stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) bytes: u64,
    pub(super) blobs: u64,
    pub(super) held_bytes: u64,
    pub(super) held_blobs: u64,
    pub(super) suspects: u64,
}

/// The table.
#[derive(Default)]
pub(super) struct Usage {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    entries: BTreeMap<Key, Entry>,
    totals: Totals,
}

/// A digest in half the room: nearly all are SHA-256.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Narrow([u8; 32]),
    Wide(Box<[u8; 64]>),
}

/// Size, and the last use with what else is known in its lowest bits.
#[derive(Clone, Copy)]
struct Entry {
    size_bytes: u64,
    stamp: u64,
}

const HELD: u64 = 1;
const SUSPECT: u64 = 2;
/// Its last use is not written into the file's times yet.
const TOUCHED: u64 = 4;
const FLAG_BITS: u32 = 8;

impl Usage {
    /// What is known of content.
    pub(super) fn find(&self, digest: &Digest) -> Option<Known> {
        self.shard(digest).entries.get(&Key::of(digest)).copied().map(Entry::known)
    }

    /// Notes a use.
    pub(super) fn touch(&self, digest: &Digest, now_ms: u64) -> Option<Known> {
        let mut shard = self.shard(digest);
        let entry = shard.entries.get_mut(&Key::of(digest))?;
        let flags = entry.stamp & (HELD | SUSPECT) | TOUCHED;
        entry.stamp = now_ms << FLAG_BITS | flags;
        Some(entry.known())
    }

    /// Puts content in, in place of what was known of it.
    pub(super) fn put(&self, digest: &Digest, known: Known) {
        self.shard(digest).put(Key::of(digest), Entry::of(known));
    }

    /// Takes content out.
    pub(super) fn remove(&self, digest: &Digest) -> Option<Known> {
        self.shard(digest).remove(&Key::of(digest))
    }

    /// Takes content out if no pin holds it and its last use is still this one.
    pub(super) fn remove_unused(&self, digest: &Digest, used_ms: u64) -> Option<Known> {
        let mut shard = self.shard(digest);
        let key = Key::of(digest);
        let known = shard.entries.get(&key)?.known();
        if known.is_held || known.used_ms != used_ms { None } else { shard.remove(&key) }
    }

    /// Changes what is known of content, but not its last use.
    pub(super) fn change(&self, digest: &Digest, change: impl FnOnce(&mut Known)) {
        let mut shard = self.shard(digest);
        let key = Key::of(digest);
        let Some(entry) = shard.entries.get(&key).copied() else { return };
        let mut known = entry.known();
        change(&mut known);
        let stamp = Entry::of(known).stamp | entry.stamp & TOUCHED;
        shard.put(key, Entry { size_bytes: known.size_bytes, stamp });
    }

    /// The first content behind `after`, in the order of digests, that `is_wanted`.
    pub(super) fn next(
        &self,
        after: Option<&Digest>,
        is_wanted: impl Fn(&Known) -> bool,
    ) -> Option<(Digest, Known)> {
        // SHA-256 comes before SHA-512, in every shard.
        let is_wide = after.is_some_and(|after| after.algorithm() == Algorithm::Sha512);
        let first = after.map_or(0, shard_of);
        let narrow = (first..SHARDS).filter(|_| !is_wide).map(|at| (at, at == first));
        let wide_from = if is_wide { first } else { 0 };
        let wide = (wide_from..SHARDS).map(|at| (at + SHARDS, is_wide && at == first));
        narrow.chain(wide).find_map(|(place, is_first)| {
            let (at, wants_wide) = (place % SHARDS, place >= SHARDS);
            let from = match after.filter(|_| is_first) {
                Some(after) => Bound::Excluded(Key::of(after)),
                None if wants_wide => Bound::Included(Key::Wide(Box::new([0; 64]))),
                None => Bound::Unbounded,
            };
            let shard = lock(&self.shards[at]);
            let mut behind = shard.entries.range((from, Bound::Unbounded));
            behind
                .find(|(key, entry)| key.is_wide() == wants_wide && is_wanted(&entry.known()))
                .map(|(key, entry)| (key.digest(), entry.known()))
        })
    }

    /// Shows each entry, in the order of digests but for SHA-512, without holding all of them up.
    pub(super) fn each(&self, mut show: impl FnMut(Digest, Known)) {
        for shard in &self.shards {
            for (key, entry) in &lock(shard).entries {
                show(key.digest(), entry.known());
            }
        }
    }

    /// The last uses that are not written into the files' times yet; they count as written now.
    pub(super) fn take_touched(&self, mut take: impl FnMut(Digest, u64)) {
        for shard in &self.shards {
            let mut touched = Vec::new();
            for (key, entry) in &mut lock(shard).entries {
                if entry.stamp & TOUCHED != 0 {
                    entry.stamp &= !TOUCHED;
                    touched.push((key.digest(), entry.stamp >> FLAG_BITS));
                }
            }
            for (digest, used_ms) in touched {
                take(digest, used_ms);
            }
        }
    }

    /// Sums over everything.
    pub(super) fn totals(&self) -> Totals {
        self.shards.iter().map(|shard| lock(shard).totals).fold(Totals::default(), |sum, one| {
            Totals {
                bytes: sum.bytes + one.bytes,
                blobs: sum.blobs + one.blobs,
                held_bytes: sum.held_bytes + one.held_bytes,
                held_blobs: sum.held_blobs + one.held_blobs,
                suspects: sum.suspects + one.suspects,
            }
        })
    }

    fn shard(&self, digest: &Digest) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_of(digest)])
    }
}

fn shard_of(digest: &Digest) -> usize {
    usize::from(digest.as_bytes()[0] >> 4)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing panics between an entry's change and its total's.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn put(&mut self, key: Key, entry: Entry) {
        self.totals.add(entry.known());
        if let Some(old) = self.entries.insert(key, entry) {
            self.totals.subtract(old.known());
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Known> {
        let known = self.entries.remove(key)?.known();
        self.totals.subtract(known);
        Some(known)
    }
}

impl Totals {
    fn add(&mut self, known: Known) {
        self.bytes += known.size_bytes;
        self.blobs += 1;
        self.held_bytes += if known.is_held { known.size_bytes } else { 0 };
        self.held_blobs += u64::from(known.is_held);
        self.suspects += u64::from(known.is_suspect);
    }

    fn subtract(&mut self, known: Known) {
        self.bytes -= known.size_bytes;
        self.blobs -= 1;
        self.held_bytes -= if known.is_held { known.size_bytes } else { 0 };
        self.held_blobs -= u64::from(known.is_held);
        self.suspects -= u64::from(known.is_suspect);
    }
}

impl Key {
    fn of(digest: &Digest) -> Self {
        let bytes = digest.as_bytes();
        match bytes.try_into() {
            Ok(narrow) => Self::Narrow(narrow),
            Err(_) => Self::Wide(Box::new(bytes.try_into().expect("it is 32 bytes or 64"))),
        }
    }

    const fn is_wide(&self) -> bool {
        matches!(self, Self::Wide(_))
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Narrow(bytes) => Digest::sha256(*bytes),
            Self::Wide(bytes) => Digest::sha512(**bytes),
        }
    }
}

impl Entry {
    fn of(known: Known) -> Self {
        let flags =
            if known.is_held { HELD } else { 0 } | if known.is_suspect { SUSPECT } else { 0 };
        Self { size_bytes: known.size_bytes, stamp: known.used_ms << FLAG_BITS | flags }
    }

    const fn known(self) -> Known {
        Known {
            size_bytes: self.size_bytes,
            used_ms: self.stamp >> FLAG_BITS,
            is_held: self.stamp & HELD != 0,
            is_suspect: self.stamp & SUSPECT != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(size_bytes: u64, used_ms: u64) -> Known {
        Known { size_bytes, used_ms, is_held: false, is_suspect: false }
    }

    #[test]
    fn totals_follow_whatever_happens_to_entries() {
        let usage = Usage::default();
        let (one, two) = (Digest::sha256([1; 32]), Digest::sha512([0xff; 64]));
        usage.put(&one, known(10, 1));
        usage.put(&two, Known { is_suspect: true, ..known(5, 2) });
        usage.put(&one, known(20, 1));
        usage.change(&one, |known| known.is_held = true);
        let totals = usage.totals();
        assert_eq!((totals.bytes, totals.blobs), (25, 2));
        assert_eq!((totals.held_bytes, totals.held_blobs, totals.suspects), (20, 1, 1));
        assert_eq!(usage.remove_unused(&one, 1), None, "a pin holds it");
        usage.change(&one, |known| known.is_held = false);
        assert_eq!(usage.touch(&one, 7), Some(known(20, 7)));
        assert_eq!(usage.remove_unused(&one, 1), None, "somebody used it meanwhile");
        assert_eq!(usage.remove_unused(&one, 7), Some(known(20, 7)));
        usage.remove(&two);
        assert_eq!(usage.totals(), Totals::default());
    }

    #[test]
    fn a_use_is_taken_for_writing_once() {
        let usage = Usage::default();
        let digest = Digest::sha256([3; 32]);
        usage.put(&digest, known(1, 5));
        let taken = || {
            let mut taken = Vec::new();
            usage.take_touched(|digest, used_ms| taken.push((digest, used_ms)));
            taken
        };
        assert_eq!(taken(), []);
        usage.touch(&digest, 9);
        usage.change(&digest, |known| known.is_held = true);
        assert_eq!(taken(), [(digest, 9)]);
        assert_eq!(taken(), []);
    }

    #[test]
    fn the_next_digest_is_found_across_shards_and_algorithms() {
        let usage = Usage::default();
        let narrow = [0x00, 0x0f, 0x10, 0xf0, 0xff].map(|byte| Digest::sha256([byte; 32]));
        let wide = [0x00, 0x11, 0xff].map(|byte| Digest::sha512([byte; 64]));
        let all: Vec<Digest> = narrow.into_iter().chain(wide).collect();
        for digest in all.iter().rev() {
            usage.put(digest, known(1, 1));
        }
        let mut seen: Vec<Digest> = Vec::new();
        while let Some((next, _)) = usage.next(seen.last(), |_| true) {
            seen.push(next);
        }
        assert_eq!(seen, all);
        let between = Digest::sha256([0x20; 32]);
        assert_eq!(usage.next(Some(&between), |_| true).unwrap().0, all[3]);
        assert_eq!(usage.next(Some(&between), |known| known.is_held), None);
    }
}
