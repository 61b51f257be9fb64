//! Letting go of what was used least recently.

use std::io;

use super::{Freed, Shared, places};
use crate::oci::Digest;

/// How much is to come free: both of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Wanted {
    /// The same and more, where it is wanted at all.
    pub(super) fn with_margin(self, bytes: u64) -> Self {
        let more = |wanted: u64, margin| if wanted == 0 { 0 } else { wanted + margin };
        Self { bytes: more(self.bytes, bytes), files: more(self.files, self.files / 2) }
    }

    const fn is_met(self, freed: Freed) -> bool {
        freed.bytes >= self.bytes && freed.blobs >= self.files
    }
}

impl Shared {
    /// Lets go of content that no pin holds, least recently used first, until `wanted` is met.
    ///
    /// Whoever reads a file goes on reading it. A crash leaves files that are there or gone.
    pub(super) fn evict(&self, wanted: Wanted) -> Freed {
        let freed = self.remove_until(self.oldest(wanted), wanted);
        self.metrics.evictions.inc_by(freed.blobs);
        self.metrics.evicted_bytes.inc_by(freed.bytes);
        if freed.blobs > 0 {
            tracing::debug!(freed.blobs, freed.bytes, "content was evicted");
        }
        freed
    }

    /// The content that has to go for `wanted`, oldest first, with its last use and its size.
    pub(super) fn oldest(&self, wanted: Wanted) -> Vec<(u64, Digest, u64)> {
        let mut uses = Vec::new();
        self.usage.each(|_, known| {
            if !known.is_held {
                uses.push((known.used_ms, known.size_bytes));
            }
        });
        uses.sort_unstable();
        let (mut sum, mut last_ms) = (Freed::default(), None);
        for (used_ms, bytes) in uses {
            if wanted.is_met(sum) {
                break;
            }
            sum = Freed { bytes: sum.bytes + bytes, blobs: sum.blobs + 1 };
            last_ms = Some(used_ms);
        }
        let mut oldest = Vec::new();
        self.usage.each(|digest, known| {
            if !known.is_held && last_ms.is_some_and(|last_ms| known.used_ms <= last_ms) {
                oldest.push((known.used_ms, digest, known.size_bytes));
            }
        });
        oldest.sort_unstable();
        oldest
    }

    /// Removes these, as they were seen, until `wanted` is met.
    pub(super) fn remove_until(
        &self,
        candidates: Vec<(u64, Digest, u64)>,
        wanted: Wanted,
    ) -> Freed {
        let mut freed = Freed::default();
        for (used_ms, digest, _) in candidates {
            if wanted.is_met(freed) {
                break;
            }
            match self.let_go(&digest, used_ms) {
                Ok(Some(bytes)) => {
                    freed = Freed { bytes: freed.bytes + bytes, blobs: freed.blobs + 1 };
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%digest, %error, "content could not be evicted"),
            }
        }
        freed
    }

    /// Removes content that nobody used since, unless a pin holds it; how many bytes it had.
    fn let_go(&self, digest: &Digest, used_ms: u64) -> io::Result<Option<u64>> {
        let _stripe = self.places.stripe(digest);
        let Some(known) = self.usage.remove_unused(digest, used_ms) else { return Ok(None) };
        match places::remove(&self.places.cached(digest)) {
            Ok(was_there) => {
                self.forget(digest);
                Ok(was_there.then_some(known.size_bytes))
            }
            Err(error) => {
                self.usage.put(digest, known);
                Err(error)
            }
        }
    }
}
