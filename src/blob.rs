//! Blobs: content by digest, on disk.

pub mod extent;
pub mod fill;
pub mod fs;
pub mod links;
pub mod opened;

use std::fs::File;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use self::opened::AtHand;
use crate::oci::Digest;

/// Stored content, open and verified when it was written.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    /// The file; several readers may share it, each with an offset of its own.
    pub file: Arc<File>,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// Why content was not stored. Nothing of it is visible under its digest.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The cache may not grow: its quota or the disk's reserve is reached.
    #[error("the cache takes nothing more: {0}")]
    Full(&'static str),
    /// The file system refused.
    #[error("the blob store failed")]
    Io(#[from] io::Error),
    /// The bytes do not hash to what was claimed.
    #[error("the bytes do not hash to {claimed}")]
    Mismatch {
        /// What somebody claimed.
        claimed: Digest,
    },
}

/// A store of verified content.
///
/// What it gives back was hashed when it came in; content becomes visible under its digest only
/// after the digest agreed, whole, by a rename.
pub trait BlobStore: Send + Sync {
    /// Opens content, held or cached. It may wait for the disk: content that may have been lost
    /// when the machine went down is hashed first, and damaged content is none.
    fn open(&self, digest: &Digest) -> io::Result<Option<StoredBlob>>;

    /// Content that can be served at once; `None` says nothing of whether it is stored.
    fn at_hand(&self, digest: &Digest) -> Option<AtHand>;

    /// Opens content as [`BlobStore::open`] does, and keeps it at hand for those who ask next.
    fn take_in_hand(&self, digest: &Digest) -> io::Result<Option<AtHand>>;

    /// The length of content that is here, held or cached, in bytes. It may wait as `open` does,
    /// but is no use of it.
    fn size_bytes(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// Notes that content was used, for who serves it without `open`.
    fn touch(&self, digest: &Digest);

    /// When content was used last, Unix time.
    fn used_ms(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// Whether content is known to be held, from memory. Shortly after the start it may be held
    /// all the same.
    fn is_held(&self, digest: &Digest) -> bool;

    /// Begins to store content. It may wait for the disk: what was used least recently makes room.
    fn stage(&self, claimed: &Digest, size_bytes: Option<u64>) -> Result<fs::Staged, BlobError>;

    /// Hashes stored content again, and removes it if it is not what its digest says, wherever it
    /// lies; whether it is. It waits for the disk.
    fn keep_if_sound(&self, digest: &Digest) -> io::Result<bool>;

    /// Keeps content for as long as a pin needs it, whatever becomes of the cache.
    fn hold(&self, digest: &Digest) -> io::Result<()>;

    /// Lets go of content that no pin needs any more: it is cached like any other then.
    fn unhold(&self, digest: &Digest) -> io::Result<()>;

    /// Held content that was found damaged or deleted since this was asked last: what needs it
    /// has to fetch it anew.
    fn take_lost(&self) -> Vec<Digest>;

    /// Held content that was last used before `before_ms`, the longest unused first, at most so
    /// much; as far as it was counted.
    fn idle_held(&self, before_ms: u64, most: usize) -> Vec<Digest>;

    /// The bytes of stored content that is no longer than `most_bytes`; they are not hashed anew.
    fn read_small(&self, digest: &Digest, most_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(blob) = self.open(digest)? else { return Ok(None) };
        if blob.size_bytes > most_bytes {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&*blob.file, most_bytes), &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Stores bytes that lie in memory.
    fn put(&self, claimed: &Digest, bytes: &[u8]) -> Result<(), BlobError> {
        let mut staged = self.stage(claimed, Some(bytes.len() as u64))?;
        staged.write(bytes)?;
        staged.commit()
    }
}
