//! Where content lies below a data directory, and one mutation at a time for each of it.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use crate::oci::Digest;

const STRIPES: usize = 64;

/// Reads content below a data directory that nobody has open as a store; it changes nothing there.
/// `None` if it is not there, or longer than `most_bytes`. The bytes are not hashed.
pub fn read_at_rest(
    data_dir: &Path,
    digest: &Digest,
    most_bytes: u64,
) -> io::Result<Option<Vec<u8>>> {
    let (cached, held) = (data_dir.join("cache").join("blobs"), data_dir.join("held"));
    for root in [cached, held] {
        let Some(file) = present(File::open(place(&root, digest)))? else { continue };
        let mut bytes = Vec::new();
        file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        return Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most_bytes));
    }
    Ok(None)
}

/// The directories, and the stripes by which those who make or remove files keep apart. Readers
/// take none.
pub(super) struct Places {
    pub(super) cache: PathBuf,
    pub(super) held: PathBuf,
    stripes: [Mutex<()>; STRIPES],
    random: RandomState,
}

/// What the file system tells of content.
pub(super) struct Found {
    pub(super) metadata: Metadata,
    pub(super) is_held: bool,
    /// The cache has a file of its own for it: a crash on the way into the store left two.
    pub(super) has_twin: bool,
}

impl Places {
    /// Makes the directories, and clears what was staged when the last process ended.
    pub(super) fn make(data_dir: &Path) -> io::Result<Self> {
        let (cache, held) = (data_dir.join("cache"), data_dir.join("held"));
        let staged = cache.join("staged");
        if staged.exists() {
            fs::remove_dir_all(&staged)?;
        }
        fs::create_dir_all(&staged)?;
        fs::create_dir_all(&held)?;
        let stripes = std::array::from_fn(|_| Mutex::new(()));
        Ok(Self { cache, held, stripes, random: RandomState::new() })
    }

    /// Whether there is anything that may be content.
    pub(super) fn hold_content(&self) -> bool {
        let roots = [self.cache.join("blobs"), self.held.join("sha256"), self.held.join("sha512")];
        roots.iter().any(|root| root.exists())
    }

    /// Where content lies that may go.
    pub(super) fn cached(&self, digest: &Digest) -> PathBuf {
        place(&self.cache.join("blobs"), digest)
    }

    /// Where content lies that a pin needs.
    pub(super) fn held(&self, digest: &Digest) -> PathBuf {
        place(&self.held, digest)
    }

    /// Both, in the order in which they are looked at.
    pub(super) fn both(&self, digest: &Digest) -> [PathBuf; 2] {
        [self.cached(digest), self.held(digest)]
    }

    /// To be held while files of this content are made or removed, never for long.
    pub(super) fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let at = self.random.hash_one(digest) % STRIPES as u64;
        lock(&self.stripes[usize::try_from(at).unwrap_or_default()])
    }

    /// Waits until nobody makes or removes files who began before.
    pub(super) fn settle(&self) {
        self.stripes.iter().for_each(|stripe| drop(lock(stripe)));
    }

    /// Opens content, wherever it lies.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Option<(File, Metadata)>> {
        for path in self.both(digest) {
            if let Some(file) = present(File::open(path))? {
                let metadata = file.metadata()?;
                return Ok(Some((file, metadata)));
            }
        }
        Ok(None)
    }

    /// What the file system tells of content, wherever it lies: of the held file, if it is held.
    pub(super) fn look(&self, digest: &Digest) -> io::Result<Option<Found>> {
        let [cached, held] = self.both(digest);
        let cached = present(fs::symlink_metadata(cached))?.filter(Metadata::is_file);
        let held = present(fs::symlink_metadata(held))?.filter(Metadata::is_file);
        let has_twin = match (&cached, &held) {
            (Some(cached), Some(held)) => cached.ino() != held.ino(),
            _ => false,
        };
        let is_held = held.is_some();
        Ok(held.or(cached).map(|metadata| Found { metadata, is_held, has_twin }))
    }

    /// Every file of this content that is not the same as another of them.
    pub(super) fn distinct(&self, digest: &Digest) -> io::Result<Vec<(File, u64)>> {
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        for path in self.both(digest) {
            if let Some(file) = present(File::open(path))? {
                let inode = file.metadata()?.ino();
                if seen.insert(inode) {
                    files.push((file, inode));
                }
            }
        }
        Ok(files)
    }

    /// Writes the last use into the times of content; on the same inode, held or not.
    pub(super) fn set_used(&self, digest: &Digest, used_ms: u64) -> io::Result<()> {
        let seconds = i64::try_from(used_ms / 1000).unwrap_or(i64::MAX);
        let nanoseconds = i64::try_from(used_ms % 1000 * 1_000_000).unwrap_or_default();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        };
        for path in self.both(digest) {
            match utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => {}
                done => return done.map_err(Into::into),
            }
        }
        Ok(())
    }
}

fn lock(stripe: &Mutex<()>) -> MutexGuard<'_, ()> {
    // There is nothing behind it that a panic could leave half done.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join(digest.algorithm().name()).join(&hex[..2]).join(&hex)
}

/// `None` where there is no such file.
pub(super) fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    Ok(present(fs::remove_file(path))?.is_some())
}

/// The last use of content as its file's times tell it.
pub(super) fn used_ms(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}
