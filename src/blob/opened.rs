//! Content at hand: files that are open already, and small content in memory.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::StoredBlob;
use crate::oci::Digest;

/// Content up to this size is kept in memory rather than as an open file, in bytes: configs.
const SMALL: u64 = 64 << 10;

/// The most that small content takes of the memory, in bytes.
const MEMORY: u64 = 32 << 20;

/// The most files that are kept open.
const MAX_FILES: usize = 128;

/// How long a file stays open after it was opened. What was deleted behind our back is let go by
/// then, its space on the disk too.
const OPEN_FOR: Duration = Duration::from_secs(30);

/// Content that can be served without waiting for the disk's directories.
#[derive(Clone, Debug)]
pub enum AtHand {
    /// Small content, all of it.
    Bytes(Bytes),
    /// An open file.
    File(StoredBlob),
}

impl AtHand {
    /// The length in bytes.
    pub const fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(stored) => stored.size_bytes,
        }
    }
}

/// What is at hand, bounded in number, bytes and time.
///
/// Whoever deletes or replaces a file calls [`Opened::remove`] after it: readers that have it
/// already go on, nobody else gets it.
pub struct Opened {
    files: Mutex<Files>,
    small: moka::sync::Cache<Digest, Bytes>,
}

#[derive(Default)]
struct Files {
    open: HashMap<Digest, (StoredBlob, Instant)>,
    removals: u64,
}

/// Evidence that nothing was removed since; taken before a file is opened.
pub struct Ticket(u64);

impl Default for Opened {
    fn default() -> Self {
        // What the table itself takes of each is counted, too.
        let weigh =
            |_: &Digest, bytes: &Bytes| u32::try_from(bytes.len() + 256).unwrap_or(u32::MAX);
        let small = moka::sync::Cache::builder().weigher(weigh).max_capacity(MEMORY).build();
        Self { files: Mutex::default(), small }
    }
}

impl Opened {
    /// Content, if it is at hand.
    pub fn get(&self, digest: &Digest) -> Option<AtHand> {
        let open = self.files().open.get(digest).cloned();
        match open {
            Some((stored, since)) if since.elapsed() < OPEN_FOR => Some(AtHand::File(stored)),
            _ => self.small.get(digest).map(AtHand::Bytes),
        }
    }

    /// To be taken before the file is opened that [`Opened::insert`] is given.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.files().removals)
    }

    /// Keeps content at hand, unless something was removed since the ticket was taken: it may have
    /// been this. It reads what is small, and so may wait for the disk.
    pub fn insert(
        &self,
        ticket: &Ticket,
        digest: &Digest,
        stored: StoredBlob,
    ) -> io::Result<AtHand> {
        let content = if stored.size_bytes <= SMALL {
            AtHand::Bytes(read(&stored)?)
        } else {
            AtHand::File(stored)
        };
        let mut files = self.files();
        if files.removals == ticket.0 {
            match &content {
                AtHand::Bytes(bytes) => self.small.insert(*digest, bytes.clone()),
                AtHand::File(stored) => files.keep(digest, stored.clone(), Instant::now()),
            }
        }
        drop(files);
        Ok(content)
    }

    /// Gives up content that is gone from the store.
    pub fn remove(&self, digest: &Digest) {
        let mut files = self.files();
        files.removals += 1;
        files.open.remove(digest);
        self.small.invalidate(digest);
    }

    /// Closes the files that were open for long enough; to be called now and then.
    pub fn close_old(&self) {
        self.files().close_old(Instant::now());
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // Nothing panics between two halves of a change.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn keep(&mut self, digest: &Digest, stored: StoredBlob, now: Instant) {
        if self.open.len() >= MAX_FILES {
            self.close_old(now);
        }
        if self.open.len() >= MAX_FILES {
            let oldest = self.open.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(*digest, (stored, now));
    }

    fn close_old(&mut self, now: Instant) {
        self.open.retain(|_, (_, since)| now.duration_since(*since) < OPEN_FOR);
    }
}

fn read(stored: &StoredBlob) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(usize::try_from(stored.size_bytes).unwrap_or(usize::MAX));
    stored.file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use super::*;

    fn digest(number: usize) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Digest::sha256(bytes)
    }

    fn stored(size: usize) -> StoredBlob {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; size]).unwrap();
        StoredBlob { file: Arc::new(file), size_bytes: size as u64 }
    }

    #[test]
    fn small_content_is_kept_in_memory_and_large_as_an_open_file() {
        let opened = Opened::default();
        for (number, size) in [(0, 0), (1, 1), (2, 64 << 10), (3, (64 << 10) + 1)] {
            let digest = digest(number);
            assert!(opened.get(&digest).is_none());
            opened.insert(&opened.ticket(), &digest, stored(size)).unwrap();
            match opened.get(&digest).unwrap() {
                AtHand::Bytes(bytes) => assert!(number < 3 && bytes == vec![7; size]),
                AtHand::File(stored) => assert!(number == 3 && stored.size_bytes == size as u64),
            }
        }
    }

    #[test]
    fn what_was_removed_is_not_at_hand_also_when_it_was_opened_before() {
        let opened = Opened::default();
        for size in [10, 100_000] {
            let early = opened.ticket();
            opened.insert(&early, &digest(1), stored(size)).unwrap();
            opened.remove(&digest(1));
            assert!(opened.get(&digest(1)).is_none());
            let content = opened.insert(&early, &digest(1), stored(size)).unwrap();
            assert_eq!(content.size_bytes(), size as u64, "who opened it has it");
            assert!(opened.get(&digest(1)).is_none());
        }
    }

    #[test]
    fn files_are_closed_after_their_time_and_the_oldest_when_there_are_too_many() {
        let mut files = Files::default();
        let now = Instant::now();
        for number in 0..=MAX_FILES {
            let later = Duration::from_millis(number as u64);
            files.keep(&digest(number), stored(0), now + later);
        }
        assert_eq!(files.open.len(), MAX_FILES);
        assert!(!files.open.contains_key(&digest(0)) && files.open.contains_key(&digest(1)));
        files.close_old(now + OPEN_FOR + Duration::from_millis(10));
        assert_eq!(files.open.len(), MAX_FILES - 10);
        // Without anybody who closes them, the next ones do.
        files.keep(&digest(500), stored(0), now + OPEN_FOR * 2);
        assert_eq!(files.open.len(), MAX_FILES - 9);
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_said_to_be_is_an_error() {
        let opened = Opened::default();
        let cut = StoredBlob { size_bytes: 20, ..stored(10) };
        assert!(opened.insert(&opened.ticket(), &digest(1), cut).is_err());
        assert!(opened.get(&digest(1)).is_none());
    }
}
