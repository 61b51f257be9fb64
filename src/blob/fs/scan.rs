//! Counting what is stored, after a start.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Shared;
use super::boot::Reach;
use super::places::{self, Found, present, used_ms};
use super::usage::Known;
use crate::oci::{Algorithm, Digest};

impl Shared {
    /// Counts everything that is stored. What is stored, used or removed meanwhile is right
    /// already. Whether it came to the end: it gives up when the process stops.
    pub(super) fn scan(&self) -> io::Result<bool> {
        for root in [self.places.cache.join("blobs"), self.places.held.clone()] {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                each(&root.join(algorithm.name()), |prefix| {
                    // What somebody put there must not keep the rest from being counted.
                    if self.is_stopping.load(Ordering::Acquire) || !prefix.file_type()?.is_dir() {
                        return Ok(());
                    }
                    each(&prefix.path(), |file| self.see(algorithm, &file))
                })?;
            }
        }
        let is_whole = !self.is_stopping.load(Ordering::Acquire);
        self.is_scanned.store(is_whole, Ordering::Release);
        Ok(is_whole)
    }

    fn see(&self, algorithm: Algorithm, file: &DirEntry) -> io::Result<()> {
        let name = file.file_name();
        let digest =
            name.to_str().and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok());
        let Some(digest) = digest else { return Ok(()) };
        self.count(&digest).map(drop)
    }

    /// Puts content into the table as its files tell; what is known of it already stays.
    pub(super) fn count(&self, digest: &Digest) -> io::Result<Option<Known>> {
        let _stripe = self.places.stripe(digest);
        if let Some(known) = self.usage.find(digest) {
            return Ok(Some(known));
        }
        let Some(found) = self.places.look(digest)? else { return Ok(None) };
        let Found { metadata, is_held, has_twin } = found;
        if has_twin {
            // One copy is enough: the held one, which was synced.
            places::remove(&self.places.cached(digest))?;
            self.forget(digest);
        }
        let is_suspect = match self.suspect() {
            Reach::Nothing => false,
            Reach::Cached => !is_held,
            Reach::Everything => true,
        };
        let used_ms = used_ms(&metadata);
        let known = Known { size_bytes: metadata.len(), used_ms, is_held, is_suspect };
        self.usage.put(digest, known);
        Ok(Some(known))
    }
}

fn each(directory: &Path, mut show: impl FnMut(DirEntry) -> io::Result<()>) -> io::Result<()> {
    let Some(entries) = present(fs::read_dir(directory))? else { return Ok(()) };
    for entry in entries {
        show(entry?)?;
    }
    Ok(())
}
