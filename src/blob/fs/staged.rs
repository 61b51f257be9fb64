//! Content on its way into the store.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::blob::BlobError;
use crate::oci::{Digest, Hasher};

/// Content on its way into the store. Dropped before [`Staged::commit`] it leaves nothing.
pub struct Staged {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) hasher: Hasher,
    pub(super) claimed: Digest,
    pub(super) written: u64,
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
        const CHECK_EACH: u64 = 64 << 20;
        if self.written / CHECK_EACH != (self.written + bytes.len() as u64) / CHECK_EACH {
            self.shared.has_room(self.written)?;
        }
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
    /// The bytes are synced before the atomic rename: a crash before it leaves a staged file that
    /// the next start removes, a crash after it whole content.
    pub fn commit(mut self) -> Result<(), BlobError> {
        self.verify()?;
        self.file.sync_data()?;
        let target = self.shared.cached(&self.claimed);
        fs::create_dir_all(target.parent().expect("a blob's path has a parent"))?;
        let is_new = !target.exists();
        fs::rename(&self.path, &target)?;
        self.committed = true;
        if is_new {
            self.shared.used_bytes.fetch_add(self.written, Ordering::Relaxed);
        }
        Ok(())
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
