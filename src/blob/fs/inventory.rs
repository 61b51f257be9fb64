//! What a person asks of the store: sums, lists, and room.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::FsStore;
use super::sweep::Wanted;
use super::usage::Known;
use crate::oci::Digest;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stats {
    /// Bytes stored, held content included, each content once.
    pub bytes: u64,
    /// Contents stored.
    pub blobs: u64,
    /// Bytes that pins hold.
    pub held_bytes: u64,
    /// Contents that pins hold.
    pub held_blobs: u64,
    /// Contents that are hashed before they are served, since the machine went down.
    pub suspect_blobs: u64,
    /// The quota in bytes.
    pub max_bytes: u64,
    /// The free space that the disk keeps, in bytes.
    pub min_free_bytes: u64,
    /// The disk's free space in bytes.
    pub free_bytes: u64,
    /// Nothing more fits: new content passes through uncached.
    pub is_full: bool,
    /// Whether all was counted since the start.
    pub is_counted: bool,
    /// The least recent use of what no pin holds, Unix time.
    pub oldest_used_ms: Option<u64>,
    /// How far the scrub is.
    pub scrub: ScrubStats,
}

/// How far the scrub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScrubStats {
    /// When all was hashed the last time, Unix time.
    pub ended_ms: Option<u64>,
    /// The content that was hashed last, in the order of digests.
    pub cursor: Option<Digest>,
}

/// Which content is listed: what was used last comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Filter {
    /// Only what pins hold.
    pub only_held: bool,
    /// The largest first.
    pub by_size: bool,
    /// How many at most.
    pub limit: usize,
}

/// Stored content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its last use, Unix time.
    pub used_ms: u64,
    /// Whether a pin holds it.
    pub is_held: bool,
    /// Whether it is hashed before it is served.
    pub is_suspect: bool,
}

/// Which content goes; what pins hold does not, unless it is damaged and named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Prune {
    /// All of it.
    All,
    /// This; if a pin holds it, only if it is damaged.
    Digest(Digest),
    /// What was not used since then, Unix time in milliseconds.
    UnusedSince(u64),
    /// What was used least recently, until so many bytes are stored, held content included.
    ToBytes(u64),
}

/// What went, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Freed {
    /// How many contents.
    pub blobs: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl FsStore {
    /// Counts everything that is stored. It waits for the disk.
    pub fn scan(&self) -> io::Result<()> {
        self.shared.scan().map(drop)
    }

    /// How the store is.
    pub fn stats(&self) -> io::Result<Stats> {
        let shared = &self.shared;
        let (totals, bounds) = (shared.totals(), shared.bounds()?);
        let mut oldest_used_ms = None;
        shared.usage.each(|_, known| {
            if !known.is_held && oldest_used_ms.is_none_or(|oldest| known.used_ms < oldest) {
                oldest_used_ms = Some(known.used_ms);
            }
        });
        let progress = shared.scrub.lock().unwrap_or_else(PoisonError::into_inner).progress;
        Ok(Stats {
            bytes: totals.bytes,
            blobs: totals.blobs,
            held_bytes: totals.held_bytes,
            held_blobs: totals.held_blobs,
            suspect_blobs: totals.suspects,
            max_bytes: bounds.max_bytes,
            min_free_bytes: bounds.min_free_bytes,
            free_bytes: bounds.free_bytes,
            is_full: shared.is_full(),
            is_counted: shared.is_scanned.load(Ordering::Acquire),
            oldest_used_ms,
            scrub: ScrubStats { ended_ms: progress.ended_ms, cursor: progress.cursor },
        })
    }

    /// Stored content, sorted, and how many contents fit the filter.
    pub fn list(&self, filter: Filter) -> (Vec<Listed>, u64) {
        // The least of those that are kept is on top, to be replaced first.
        let mut kept = BinaryHeap::new();
        let mut fitting = 0;
        self.shared.usage.each(|digest, known| {
            if filter.only_held && !known.is_held {
                return;
            }
            fitting += 1;
            let rank = if filter.by_size { known.size_bytes } else { known.used_ms };
            kept.push(Reverse((rank, listed(digest, known))));
            if kept.len() > filter.limit {
                kept.pop();
            }
        });
        (kept.into_sorted_vec().into_iter().map(|Reverse((_, listed))| listed).collect(), fitting)
    }

    /// Removes content that no pin holds, or tells what would go. It waits for the disk.
    pub fn prune(&self, what: &Prune, is_dry: bool) -> Freed {
        let shared = &self.shared;
        let mut wanted = Wanted { bytes: u64::MAX, files: 0 };
        let candidates = match what {
            Prune::All => shared.oldest(wanted),
            Prune::Digest(digest) => {
                let Some(known) = shared.usage.find(digest) else { return Freed::default() };
                if known.is_held {
                    return if is_dry {
                        Freed::default()
                    } else {
                        self.drop_if_damaged(digest, known)
                    };
                }
                vec![(known.used_ms, *digest, known.size_bytes)]
            }
            Prune::UnusedSince(since_ms) => {
                let mut unused = shared.oldest(wanted);
                unused.retain(|(used_ms, ..)| used_ms < since_ms);
                unused
            }
            Prune::ToBytes(bytes) => {
                wanted.bytes = shared.usage.totals().bytes.saturating_sub(*bytes);
                shared.oldest(wanted)
            }
        };
        if is_dry {
            return would_free(&candidates, wanted);
        }
        shared.remove_until(candidates, wanted)
    }
}

impl FsStore {
    fn drop_if_damaged(&self, digest: &Digest, known: Known) -> Freed {
        match self.shared.is_sound(digest) {
            Ok(false) => Freed { blobs: 1, bytes: known.size_bytes },
            Ok(true) => Freed::default(),
            Err(error) => {
                tracing::warn!(%digest, %error, "held content could not be hashed");
                Freed::default()
            }
        }
    }
}

fn listed(digest: Digest, known: Known) -> Listed {
    let Known { size_bytes, used_ms, is_held, is_suspect } = known;
    Listed { digest, size_bytes, used_ms, is_held, is_suspect }
}

fn would_free(candidates: &[(u64, Digest, u64)], wanted: Wanted) -> Freed {
    let mut freed = Freed::default();
    for (_, _, bytes) in candidates {
        if freed.bytes >= wanted.bytes {
            break;
        }
        freed = Freed { blobs: freed.blobs + 1, bytes: freed.bytes + bytes };
    }
    freed
}
