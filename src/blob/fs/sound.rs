//! Whether stored content still is what its digest says, and what becomes of it if not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Condvar, Mutex, PoisonError};

use super::Shared;
use super::places::{self, present};
use crate::oci::{Digest, Hasher};

/// How many digests of lost content are remembered for [`Shared::take_lost`].
const LOST: usize = 10_000;

/// Content that is being hashed: whoever else wants it waits.
#[derive(Default)]
pub(super) struct Hashing {
    running: Mutex<HashSet<Digest>>,
    ended: Condvar,
}

impl Shared {
    /// Hashes content wherever it lies, and removes every file of it that is something else;
    /// whether a sound one is left. It waits for the disk.
    pub(super) fn is_sound(&self, digest: &Digest) -> io::Result<bool> {
        let mut is_sound = false;
        for (file, inode) in self.places.distinct(digest)? {
            if hashes_to(&file, digest)? {
                is_sound = true;
            } else {
                self.drop_damaged(digest, inode, "its bytes hash to something else")?;
            }
        }
        if is_sound {
            self.vouch(digest);
        }
        Ok(is_sound)
    }

    /// The same for content that is suspect, by one at a time: whether it may be served.
    pub(super) fn clear_suspicion(&self, digest: &Digest) -> io::Result<bool> {
        let mut running = self.hashing.running.lock().unwrap_or_else(PoisonError::into_inner);
        while !running.insert(*digest) {
            running = self.hashing.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        drop(running);
        let _ended = Ended { hashing: &self.hashing, digest };
        match self.usage.find(digest) {
            Some(known) if !known.is_suspect => Ok(true),
            Some(_) => self.is_sound(digest),
            None => Ok(false),
        }
    }

    /// Content was hashed and is right.
    pub(super) fn vouch(&self, digest: &Digest) {
        self.usage.change(digest, |known| known.is_suspect = false);
    }

    /// Removes content that is damaged, wherever it is this file: what replaced it meanwhile stays.
    pub(super) fn drop_damaged(
        &self,
        digest: &Digest,
        inode: u64,
        why: &'static str,
    ) -> io::Result<()> {
        let _stripe = self.places.stripe(digest);
        let was_held = present(fs::symlink_metadata(self.places.held(digest)))?
            .is_some_and(|held| held.ino() == inode);
        let mut was_there = false;
        for path in self.places.both(digest) {
            if present(fs::symlink_metadata(&path))?.is_some_and(|found| found.ino() == inode) {
                was_there |= places::remove(&path)?;
            }
        }
        self.forget(digest);
        self.correct(digest)?;
        if was_there {
            self.metrics.damaged.inc();
            tracing::error!(%digest, was_held, why, "stored content is damaged and was dropped");
        }
        if was_held {
            self.note_lost(digest);
        }
        Ok(())
    }

    /// Brings the table in line with the files; the caller has the stripe.
    pub(super) fn correct(&self, digest: &Digest) -> io::Result<()> {
        match self.places.look(digest)? {
            None => drop(self.usage.remove(digest)),
            Some(found) => self.usage.change(digest, |known| {
                known.size_bytes = found.metadata.len();
                known.is_held = found.is_held;
            }),
        }
        Ok(())
    }

    /// Content is in the table and not on the disk: somebody deleted it.
    pub(super) fn note_missing(&self, digest: &Digest) -> io::Result<()> {
        let _stripe = self.places.stripe(digest);
        let was_held = self.usage.find(digest).is_some_and(|known| known.is_held);
        self.correct(digest)?;
        self.forget(digest);
        if was_held && self.usage.find(digest).is_none() {
            tracing::error!(%digest, "held content was deleted by somebody else");
            self.note_lost(digest);
        }
        Ok(())
    }

    fn note_lost(&self, digest: &Digest) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < LOST {
            lost.push(*digest);
        }
    }

    /// Held content that was found damaged or missing since this was asked last.
    pub(super) fn take_lost(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets others hash, also after a panic.
struct Ended<'a> {
    hashing: &'a Hashing,
    digest: &'a Digest,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut running = self.hashing.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(self.digest);
        self.hashing.ended.notify_all();
    }
}

fn hashes_to(mut file: &File, digest: &Digest) -> io::Result<bool> {
    let mut hasher = Hasher::for_claim(Some(digest));
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish().supports(digest)),
            Ok(length) => hasher.update(&piece[..length]),
            Err(error) if is_bad_disk(&error) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the disk cannot give back what was written: no better than other bytes.
pub(super) fn is_bad_disk(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
