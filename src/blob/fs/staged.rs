//! Content on its way into the store.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::room::Reservation;
use super::usage::Known;
use crate::blob::BlobError;
use crate::config::Durability;
use crate::oci::{Digest, Hasher};

/// Content on its way into the store. Dropped before [`Staged::commit`] it leaves nothing.
pub struct Staged {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) hasher: Hasher,
    pub(super) claimed: Digest,
    pub(super) written: u64,
    pub(super) reservation: Reservation,
    pub(super) shared: Arc<Shared>,
    pub(super) committed: bool,
    /// The disk is full once so many bytes are written.
    #[cfg(test)]
    pub(crate) breaks_at: Option<u64>,
}

impl Staged {
    /// Another handle on the staged file, for readers that follow the writer.
    pub fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes and hashes the next bytes. After an error none of them counts as written or hashed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.reservation.reach(self.written + bytes.len() as u64)?;
        #[cfg(test)]
        self.break_at(bytes)?;
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    #[cfg(test)]
    fn break_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.breaks_at.map(|at| usize::try_from(at - self.written).expect("it fits"));
        match room.filter(|room| *room < bytes.len()) {
            Some(room) => {
                self.file.write_all(&bytes[..room])?;
                Err(io::ErrorKind::StorageFull.into())
            }
            None => Ok(()),
        }
    }

    /// What was hashed so far, to go on with elsewhere.
    pub fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    /// About how much is being stored at once.
    pub fn crowd(&self) -> usize {
        Arc::strong_count(&self.shared).saturating_sub(1).max(1)
    }

    /// What its bytes are to hash to.
    pub const fn claimed(&self) -> Digest {
        self.claimed
    }

    /// Whether the bytes written so far hash to what was claimed.
    pub fn verify(&self) -> Result<(), BlobError> {
        if self.hasher.clone().finish().supports(&self.claimed) {
            return Ok(());
        }
        Err(BlobError::Mismatch { claimed: self.claimed })
    }

    /// Makes the content visible under the claimed digest, if its bytes hash to it.
    ///
    /// The rename is atomic: a crash before it leaves a staged file that the next start removes, a
    /// crash after it whole content. Where `durable` is "all", the bytes are synced before it and
    /// the directory after it; else the machine's going down may leave garbage under the name,
    /// which the next start suspects.
    pub fn commit(mut self) -> Result<(), BlobError> {
        self.verify()?;
        let (target, held) = (self.shared.places.cached(&self.claimed), self.held());
        let parent = target.parent().expect("a blob's path has a parent");
        let syncs = self.shared.durable == Durability::All;
        if syncs {
            self.file.sync_all()?;
        }
        fs::create_dir_all(parent)?;
        let stripe = self.shared.places.stripe(&self.claimed);
        if self.shared.is_closed.load(Ordering::Acquire) {
            return Err(BlobError::Full("the process is stopping"));
        }
        self.shared.has_stored.store(true, Ordering::Release);
        fs::rename(&self.path, &target)?;
        self.committed = true;
        let replaced = self.replace_held(&target, &held);
        // Whatever became of that, it is here now, and held as it was.
        let is_held = held.is_file();
        let used_ms = self.shared.clock.wall_ms();
        let size_bytes = self.written;
        let known = Known { size_bytes, used_ms, is_held, is_suspect: false };
        let (shared, claimed) = (&self.shared, &self.claimed);
        self.reservation.settle(|| shared.usage.put(claimed, known));
        self.shared.forget(&self.claimed);
        drop(stripe);
        replaced?;
        if syncs {
            super::sync_directories(parent, &self.shared.places.cache)?;
        }
        Ok(())
    }

    fn held(&self) -> PathBuf {
        self.shared.places.held(&self.claimed)
    }

    /// What was held before is replaced, too: one file, not two.
    fn replace_held(&self, target: &Path, held: &Path) -> io::Result<()> {
        if !held.exists() {
            return Ok(());
        }
        if self.shared.durable == Durability::Held {
            self.file.sync_all()?;
        }
        // The staged name is free again, and the next start clears it.
        fs::hard_link(target, &self.path)?;
        fs::rename(&self.path, held).inspect_err(|_| drop(fs::remove_file(&self.path)))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // What stays behind here is cleared at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
