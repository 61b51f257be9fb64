//! How much may be stored: what is booked by content on its way, and what has to make room.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::sweep::Wanted;
use super::usage::Totals;
use crate::blob::BlobError;

/// How far content of unknown length books ahead at most, and how often the disk is looked at
/// while content is written, in bytes.
const STEP: u64 = 64 << 20;

/// The least that it books ahead, in bytes.
const FIRST_STEP: u64 = 1 << 20;

/// What part of the quota a sweep frees beyond what is needed, so that not every fill sweeps.
const MARGIN: u64 = 20;

/// What part of the quota must be to be had, or the cache counts as full.
const LEAST: u64 = 100;

/// What content on its way takes.
#[derive(Default)]
pub(super) struct Room {
    booked: Mutex<Booked>,
    sweeping: Mutex<()>,
    is_full: AtomicBool,
}

#[derive(Default)]
struct Booked {
    bytes: u64,
    /// How much of it is on the disk already.
    written: u64,
}

/// Room for content on its way; given back when this is dropped.
pub(super) struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
    written: u64,
}

/// How much room there is, as the configuration and the disk say at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_bytes: u64,
    pub(super) min_free_bytes: u64,
    pub(super) free_bytes: u64,
    /// Inodes that have to come free, however much is stored.
    missing_files: u64,
}

/// What keeps content out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lack {
    wanted: Wanted,
    why: &'static str,
}

impl Shared {
    /// Books room, and lets go of what was used least recently if it takes that. It may wait for
    /// the disk.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, BlobError> {
        self.book(bytes, 0)?;
        Ok(Reservation { shared: Arc::clone(self), bytes, written: 0 })
    }

    fn book(&self, bytes: u64, written: u64) -> Result<(), BlobError> {
        let Err(lack) = self.try_book(bytes, written)? else { return Ok(()) };
        if self.can_free(lack.wanted) {
            let _sweeping = lock(&self.room.sweeping);
            // Whoever swept meanwhile may have swept enough.
            let Err(lack) = self.try_book(bytes, written)? else { return Ok(()) };
            self.evict(lack.wanted.with_margin(self.usage.totals().bytes / MARGIN));
            if self.try_book(bytes, written)?.is_ok() {
                return Ok(());
            }
        }
        self.note_full()?;
        Err(BlobError::Full(lack.why))
    }

    /// Books `bytes` more, of which `written` more are on the disk by now, if there is room.
    fn try_book(&self, bytes: u64, written: u64) -> io::Result<Result<(), Lack>> {
        let bounds = self.bounds()?;
        let mut booked = lock(&self.room.booked);
        booked.written += written;
        if let Some(lack) = self.lack(bounds, &booked, bytes) {
            booked.written -= written;
            return Ok(Err(lack));
        }
        booked.bytes += bytes;
        Ok(Ok(()))
    }

    fn lack(&self, bounds: Bounds, booked: &Booked, bytes: u64) -> Option<Lack> {
        let to_come = booked.bytes.saturating_sub(booked.written).saturating_add(bytes);
        let stored = self.usage.totals().bytes.saturating_add(booked.bytes).saturating_add(bytes);
        let over = stored.saturating_sub(bounds.max_bytes);
        let short = bounds.min_free_bytes.saturating_add(to_come).saturating_sub(bounds.free_bytes);
        let wanted = Wanted { bytes: over.max(short), files: bounds.missing_files };
        let why = if over > 0 {
            "cache.max-size is reached"
        } else if short > 0 {
            "the disk's free space is at cache.min-free"
        } else {
            "the disk has hardly an inode left"
        };
        (wanted != Wanted::default()).then_some(Lack { wanted, why })
    }

    /// How much room there is now.
    pub(super) fn bounds(&self) -> io::Result<Bounds> {
        let disk = rustix::fs::statvfs(&self.places.cache)?;
        let of_blocks = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let whole = of_blocks(disk.f_blocks);
        // Some file systems make inodes as they need them, and tell none.
        let least_files = (disk.f_files / 64).min(4096);
        Ok(Bounds {
            max_bytes: self.limits.max_size.bytes(whole),
            min_free_bytes: self.limits.min_free.bytes(whole),
            free_bytes: of_blocks(disk.f_bavail),
            missing_files: least_files.saturating_sub(disk.f_favail),
        })
    }

    /// Sums over everything at one moment: nothing is counted as stored meanwhile.
    pub(super) fn totals(&self) -> Totals {
        let _booked = lock(&self.room.booked);
        self.usage.totals()
    }

    fn can_free(&self, wanted: Wanted) -> bool {
        let totals = self.usage.totals();
        totals.bytes - totals.held_bytes >= wanted.bytes
            && totals.blobs - totals.held_blobs >= wanted.files
    }

    /// Makes room where others filled the disk, or the quota was overrun before all was counted;
    /// to be called now and then.
    pub(super) fn keep_room(&self) -> io::Result<()> {
        let lack = self.lack(self.bounds()?, &lock(&self.room.booked), 0);
        if let Some(Lack { wanted, .. }) = lack {
            let _sweeping = lock(&self.room.sweeping);
            self.evict(wanted);
        }
        self.note_full()
    }

    /// Tells, once, that hardly anything fits any more, and that something does again.
    fn note_full(&self) -> io::Result<()> {
        let bounds = self.bounds()?;
        let lack = self.lack(bounds, &lock(&self.room.booked), (bounds.max_bytes / LEAST).max(1));
        let is_full = lack.is_some_and(|lack| !self.can_free(lack.wanted));
        self.metrics.full.set(i64::from(is_full));
        if self.room.is_full.swap(is_full, Ordering::Relaxed) == is_full {
            return Ok(());
        }
        let held_bytes = self.usage.totals().held_bytes;
        let Bounds { max_bytes, free_bytes, .. } = bounds;
        if let Some(Lack { why, .. }) = lack.filter(|_| is_full) {
            tracing::error!(
                why,
                held_bytes,
                max_bytes,
                free_bytes,
                "hardly anything more fits into the cache: new content passes through uncached"
            );
        } else {
            tracing::info!(held_bytes, max_bytes, free_bytes, "content is cached again");
        }
        Ok(())
    }

    /// Whether hardly anything fits.
    pub(super) fn is_full(&self) -> bool {
        self.room.is_full.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// To be told how much is written before more is: what it had not booked is booked, and each
    /// 64 MiB the disk is looked at again.
    pub(super) fn reach(&mut self, written: u64) -> Result<(), BlobError> {
        let beyond = written.saturating_sub(self.bytes);
        let (on_disk, is_due) = (written - self.written, written - self.written >= STEP);
        if beyond == 0 && !is_due {
            return Ok(());
        }
        let ahead = if beyond == 0 { 0 } else { beyond.max(written.clamp(FIRST_STEP, STEP)) };
        self.shared.book(ahead, on_disk)?;
        (self.bytes, self.written) = (self.bytes + ahead, written);
        Ok(())
    }
}

impl Reservation {
    /// Counts content as stored and gives its booking back, at once for those who book.
    pub(super) fn settle(&mut self, count: impl FnOnce()) {
        let shared = Arc::clone(&self.shared);
        let mut booked = lock(&shared.room.booked);
        count();
        self.give_back(&mut booked);
    }

    const fn give_back(&mut self, booked: &mut Booked) {
        booked.bytes -= self.bytes;
        booked.written -= self.written;
        (self.bytes, self.written) = (0, 0);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.give_back(&mut lock(&shared.room.booked));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sums are changed at once, and the other has nothing in it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
