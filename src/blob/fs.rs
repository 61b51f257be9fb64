//! The blob store on a file system.
//!
//! `cache/blobs/<alg>/<2 hex>/<hex>` may go at any time; `held/<alg>/<2 hex>/<hex>` are hard links
//! to what pins need. Staged files lie in `cache/staged/` and are removed at start. What is known
//! of all of it (`usage`) is in memory, and counted anew (`scan`) after each start.
//!
//! Files of one content are made and removed under its stripe (`places`), readers take none: who
//! has a file open reads it to its end, whatever becomes of its name.

mod boot;
mod inventory;
mod keeper;
mod places;
mod room;
mod scan;
mod scrub;
mod sound;
mod staged;
mod sweep;
#[cfg(test)]
mod tests;
mod usage;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::boot::{Boot, Reach};
use self::places::Places;
use self::room::Room;
use self::scrub::Scrub;
use self::sound::Hashing;
use self::usage::{Known, Usage};
use super::opened::{AtHand, Opened};
use super::{BlobError, BlobStore, StoredBlob};
use crate::clock::{Clock, SystemClock};
use crate::config::{CacheConfig, Durability};
use crate::metrics::CacheMetrics;
use crate::oci::{Digest, Hasher};
use crate::units::DiskSize;

pub use inventory::{Filter, Freed, Listed, Prune, ScrubStats, Stats};
pub use places::read_at_rest;
pub use staged::Staged;

/// The store below a data directory.
pub struct FsStore {
    shared: Arc<Shared>,
}

struct Shared {
    places: Places,
    limits: Limits,
    durable: Durability,
    clock: Arc<dyn Clock>,
    metrics: CacheMetrics,
    usage: Usage,
    room: Room,
    hashing: Hashing,
    boot: Mutex<Boot>,
    scrub: Mutex<Scrub>,
    lost: Mutex<Vec<Digest>>,
    next_staged: AtomicU64,
    opened: Opened,
    is_scanned: AtomicBool,
    /// Whether this run stored anything.
    has_stored: AtomicBool,
    is_stopping: AtomicBool,
    is_closed: AtomicBool,
}

/// How far the store may grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most that stored content may take, held content included.
    pub max_size: DiskSize,
    /// The least free space on its disk.
    pub min_free: DiskSize,
}

/// How a store is kept.
pub struct Options {
    /// How far it may grow.
    pub limits: Limits,
    /// What is synced before it counts as stored.
    pub durable: Durability,
    /// Within what time all is hashed again; 0: never.
    pub scrub: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: CacheMetrics,
    /// The kernel's id of this boot; `None` where it is not told.
    pub boot_id: Option<String>,
}

impl Options {
    /// As the configuration says.
    pub fn new(cache: &CacheConfig, clock: Arc<dyn Clock>, metrics: CacheMetrics) -> Self {
        Self {
            limits: Limits { max_size: cache.max_size, min_free: cache.min_free },
            durable: cache.durable,
            scrub: cache.scrub,
            clock,
            metrics,
            boot_id: boot::current_id(),
        }
    }
}

impl FsStore {
    /// Opens the store below `data_dir` with limits, and all else by default.
    pub fn open(data_dir: &Path, limits: Limits) -> io::Result<Self> {
        let (clock, metrics) = (SystemClock::shared(), CacheMetrics::default());
        let options = Options::new(&CacheConfig::default(), clock, metrics);
        Self::open_as(data_dir, Options { limits, ..options })
    }

    /// Opens the store below `data_dir`, makes its directories and clears what was staged when
    /// the last process ended. What may have been lost with the machine is suspect from then on.
    ///
    /// The caller has the data directory for itself.
    pub fn open_as(data_dir: &Path, options: Options) -> io::Result<Self> {
        let Options { limits, durable, scrub, clock, metrics, boot_id } = options;
        let places = Places::make(data_dir)?;
        let boot = Boot::begin(&places.cache, boot_id, durable, places.hold_content())?;
        let scrub = Scrub::open(places.cache.join("scrub"), scrub);
        let shared = Shared {
            places,
            limits,
            durable,
            clock,
            metrics,
            usage: Usage::default(),
            room: Room::default(),
            hashing: Hashing::default(),
            boot: Mutex::new(boot),
            scrub: Mutex::new(scrub),
            lost: Mutex::default(),
            next_staged: AtomicU64::new(0),
            opened: Opened::default(),
            is_scanned: AtomicBool::new(false),
            has_stored: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Closes files that were open for long enough; to be called now and then.
    pub fn close_old(&self) {
        self.shared.opened.close_old();
    }
}

impl Shared {
    /// Content has other files now, or none: nobody may be given the old ones.
    fn forget(&self, digest: &Digest) {
        self.opened.remove(digest);
    }

    /// What may have been lost when the machine went down.
    fn suspect(&self) -> Reach {
        self.boot.lock().unwrap_or_else(PoisonError::into_inner).suspect()
    }

    /// Notes a use; what is known of content, also if nobody counted it yet.
    fn touch(&self, digest: &Digest) -> io::Result<Option<Known>> {
        let now_ms = self.clock.wall_ms();
        match self.usage.touch(digest, now_ms) {
            Some(known) => Ok(Some(known)),
            None => Ok(self.count(digest)?.and_then(|_| self.usage.touch(digest, now_ms))),
        }
    }

    /// What is known of content that may be served: suspect content is hashed first.
    fn proven(&self, digest: &Digest, known: Option<Known>) -> io::Result<Option<Known>> {
        match known {
            Some(known) if known.is_suspect => Ok(self.clear_suspicion(digest)?.then_some(known)),
            known => Ok(known),
        }
    }
}

impl BlobStore for FsStore {
    fn open(&self, digest: &Digest) -> io::Result<Option<StoredBlob>> {
        let shared = &self.shared;
        let known = shared.touch(digest)?;
        let Some(known) = shared.proven(digest, known)? else { return Ok(None) };
        let Some((file, metadata)) = shared.places.open(digest)? else {
            shared.note_missing(digest)?;
            return Ok(None);
        };
        let size_bytes = metadata.len();
        if size_bytes != known.size_bytes {
            shared.drop_damaged(digest, metadata.ino(), "it has another length than before")?;
            return Ok(None);
        }
        Ok(Some(StoredBlob { file: Arc::new(file), size_bytes }))
    }

    fn at_hand(&self, digest: &Digest) -> Option<AtHand> {
        let at_hand = self.shared.opened.get(digest)?;
        self.touch(digest);
        Some(at_hand)
    }

    fn take_in_hand(&self, digest: &Digest) -> io::Result<Option<AtHand>> {
        let ticket = self.shared.opened.ticket();
        let stored = self.open(digest)?;
        stored.map(|stored| self.shared.opened.insert(&ticket, digest, stored)).transpose()
    }

    fn size_bytes(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let shared = &self.shared;
        let known = shared.count(digest)?;
        if shared.proven(digest, known)?.is_none() {
            return Ok(None);
        }
        Ok(shared.places.look(digest)?.map(|found| found.metadata.len()))
    }

    fn touch(&self, digest: &Digest) {
        self.shared.usage.touch(digest, self.shared.clock.wall_ms());
    }

    fn used_ms(&self, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(self.shared.count(digest)?.map(|known| known.used_ms))
    }

    fn is_held(&self, digest: &Digest) -> bool {
        self.shared.usage.find(digest).is_some_and(|known| known.is_held)
    }

    fn stage(&self, claimed: &Digest, size_bytes: Option<u64>) -> Result<Staged, BlobError> {
        let reservation = self.shared.reserve(size_bytes.unwrap_or(0))?;
        let number = self.shared.next_staged.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.places.cache.join("staged").join(number.to_string());
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(&path)?;
        Ok(Staged {
            file,
            path,
            hasher: Hasher::for_claim(Some(claimed)),
            claimed: *claimed,
            written: 0,
            reservation,
            shared: Arc::clone(&self.shared),
            committed: false,
            #[cfg(test)]
            breaks_at: None,
        })
    }

    fn keep_if_sound(&self, digest: &Digest) -> io::Result<bool> {
        self.shared.count(digest)?;
        self.shared.is_sound(digest)
    }

    fn hold(&self, digest: &Digest) -> io::Result<()> {
        let shared = &self.shared;
        let known = shared.count(digest)?;
        if shared.proven(digest, known)?.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let [cached, held] = shared.places.both(digest);
        if held.exists() {
            shared.usage.change(digest, |known| known.is_held = true);
            return Ok(());
        }
        if shared.durable != Durability::None {
            // What `held/` has must be right after a power cut, too. Under "all" it mostly is: but an
            // earlier run may have stored it under another setting.
            File::open(&cached)?.sync_all()?;
        }
        let parent = held.parent().expect("a blob's path has a parent");
        fs::create_dir_all(parent)?;
        let stripe = shared.places.stripe(digest);
        if shared.durable != Durability::None {
            // Quick, unless another fill has just replaced it.
            File::open(&cached)?.sync_all()?;
        }
        match fs::hard_link(&cached, &held) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => shared.usage.change(digest, |known| known.is_held = true),
        }
        drop(stripe);
        if shared.durable == Durability::None {
            return Ok(());
        }
        sync_directories(parent, &shared.places.held)
    }

    fn unhold(&self, digest: &Digest) -> io::Result<()> {
        let shared = &self.shared;
        shared.count(digest)?;
        let [cached, held] = shared.places.both(digest);
        let _stripe = shared.places.stripe(digest);
        if cached.exists() {
            places::remove(&held)?;
        } else {
            fs::create_dir_all(cached.parent().expect("a blob's path has a parent"))?;
            places::present(fs::rename(&held, &cached))?;
        }
        shared.correct(digest)
    }

    fn take_lost(&self) -> Vec<Digest> {
        self.shared.take_lost()
    }

    fn idle_held(&self, before_ms: u64, most: usize) -> Vec<Digest> {
        let mut idle = Vec::new();
        self.shared.usage.each(|digest, known| {
            if known.is_held && known.used_ms < before_ms {
                idle.push((known.used_ms, digest));
            }
        });
        idle.sort_unstable();
        idle.into_iter().take(most).map(|(_, digest)| digest).collect()
    }
}

/// Makes names in a directory durable, and the directories themselves up to `root`.
fn sync_directories(directory: &Path, root: &Path) -> io::Result<()> {
    for directory in directory.ancestors().take_while(|above| above.starts_with(root)) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
