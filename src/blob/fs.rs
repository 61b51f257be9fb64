//! The blob store on a file system.
//!
//! `cache/blobs/<alg>/<2 hex>/<hex>` may go at any time; `held/<alg>/<2 hex>/<hex>` are hard links
//! to what pins need. Staged files lie in `cache/staged/` and are removed at start.

mod staged;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::opened::{AtHand, Opened};
use super::{BlobError, BlobStore, StoredBlob};
use crate::oci::{Digest, Hasher};
use crate::units::DiskSize;

pub use staged::Staged;

/// The store below a data directory.
pub struct FsStore {
    shared: Arc<Shared>,
}

struct Shared {
    cache: PathBuf,
    held: PathBuf,
    limits: Limits,
    used_bytes: AtomicU64,
    next_staged: AtomicU64,
    opened: Opened,
}

/// How far the cache may grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most that `cache/` may hold.
    pub max_size: DiskSize,
    /// The least free space on its disk.
    pub min_free: DiskSize,
}

impl FsStore {
    /// Opens the store below `data_dir`, makes its directories and clears what was staged when
    /// the last process ended.
    pub fn open(data_dir: &Path, limits: Limits) -> io::Result<Self> {
        let (cache, held) = (data_dir.join("cache"), data_dir.join("held"));
        let staged = cache.join("staged");
        if staged.exists() {
            fs::remove_dir_all(&staged)?;
        }
        fs::create_dir_all(&staged)?;
        fs::create_dir_all(&held)?;
        let (used_bytes, next_staged) = (AtomicU64::new(0), AtomicU64::new(0));
        let opened = Opened::default();
        let shared = Arc::new(Shared { cache, held, limits, used_bytes, next_staged, opened });
        Ok(Self { shared })
    }

    /// Adds up what the cache holds already; meant for a thread of its own after the start.
    pub fn scan(&self) -> io::Result<()> {
        let mut bytes = 0;
        for algorithm in list(&self.shared.cache.join("blobs"))? {
            for prefix in list(&algorithm)? {
                for blob in list(&prefix)? {
                    bytes += fs::metadata(&blob).map_or(0, |metadata| metadata.len());
                }
            }
        }
        self.shared.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Closes files that were open for long enough; to be called now and then.
    pub fn close_old(&self) {
        self.shared.opened.close_old();
    }

    /// Bytes in the cache, as far as it was counted.
    pub fn used_bytes(&self) -> u64 {
        self.shared.used_bytes.load(Ordering::Relaxed)
    }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn place(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join(digest.algorithm().name()).join(&hex[..2]).join(&hex)
}

impl Shared {
    fn cached(&self, digest: &Digest) -> PathBuf {
        place(&self.cache.join("blobs"), digest)
    }

    fn has_room(&self, size_bytes: u64) -> Result<(), BlobError> {
        let disk = rustix::fs::statvfs(&self.cache).map_err(io::Error::from)?;
        let (whole, free) = (disk.f_blocks, disk.f_bavail);
        let [whole, free] = [whole, free].map(|blocks| blocks.saturating_mul(disk.f_frsize));
        let used = self.used_bytes.load(Ordering::Relaxed);
        if used.saturating_add(size_bytes) > self.limits.max_size.bytes(whole) {
            return Err(BlobError::Full("cache.max-size is reached"));
        }
        if free.saturating_sub(size_bytes) < self.limits.min_free.bytes(whole) {
            return Err(BlobError::Full("the disk's free space is at cache.min-free"));
        }
        Ok(())
    }
}

impl BlobStore for FsStore {
    fn open(&self, digest: &Digest) -> io::Result<Option<StoredBlob>> {
        for path in [self.shared.cached(digest), place(&self.shared.held, digest)] {
            match File::open(path) {
                Ok(file) => {
                    let size_bytes = file.metadata()?.len();
                    return Ok(Some(StoredBlob { file: Arc::new(file), size_bytes }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn at_hand(&self, digest: &Digest) -> Option<AtHand> {
        self.shared.opened.get(digest)
    }

    fn take_in_hand(&self, digest: &Digest) -> io::Result<Option<AtHand>> {
        let ticket = self.shared.opened.ticket();
        let stored = self.open(digest)?;
        stored.map(|stored| self.shared.opened.insert(&ticket, digest, stored)).transpose()
    }

    fn size_bytes(&self, digest: &Digest) -> io::Result<Option<u64>> {
        for path in [self.shared.cached(digest), place(&self.shared.held, digest)] {
            match fs::metadata(path) {
                Ok(metadata) => return Ok(Some(metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn stage(&self, claimed: &Digest, size_bytes: Option<u64>) -> Result<Staged, BlobError> {
        self.shared.has_room(size_bytes.unwrap_or(0))?;
        let number = self.shared.next_staged.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.cache.join("staged").join(number.to_string());
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(&path)?;
        Ok(Staged {
            file,
            path,
            hasher: Hasher::for_claim(Some(claimed)),
            claimed: *claimed,
            written: 0,
            shared: Arc::clone(&self.shared),
            committed: false,
        })
    }

    fn keep_if_sound(&self, digest: &Digest) -> io::Result<bool> {
        let mut is_sound = false;
        for path in [self.shared.cached(digest), place(&self.shared.held, digest)] {
            match File::open(&path) {
                Ok(file) if hashes_to(&file, digest)? => is_sound = true,
                Ok(_) => {
                    fs::remove_file(&path)?;
                    self.shared.opened.remove(digest);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(is_sound)
    }

    fn hold(&self, digest: &Digest) -> io::Result<()> {
        let held = place(&self.shared.held, digest);
        if held.exists() {
            return Ok(());
        }
        let parent = held.parent().expect("a blob's path has a parent");
        fs::create_dir_all(parent)?;
        match fs::hard_link(self.shared.cached(digest), &held) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(parent)?.sync_all(),
        }
    }
}

fn hashes_to(mut file: &File, digest: &Digest) -> io::Result<bool> {
    let mut hasher = Hasher::for_claim(Some(digest));
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish().supports(digest)),
            length => hasher.update(&piece[..length]),
        }
    }
}
