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
    /// Opens content, held or cached.
    fn open(&self, digest: &Digest) -> io::Result<Option<StoredBlob>>;

    /// Content that can be served at once; `None` says nothing of whether it is stored.
    fn at_hand(&self, digest: &Digest) -> Option<AtHand>;

    /// Opens content, held or cached, and keeps it at hand for those who ask next.
    fn take_in_hand(&self, digest: &Digest) -> io::Result<Option<AtHand>>;

    /// The length of content that is here, held or cached, in bytes.
    fn size_bytes(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// Begins to store content.
    fn stage(&self, claimed: &Digest, size_bytes: Option<u64>) -> Result<fs::Staged, BlobError>;

    /// Hashes stored content again, and removes it if it is not what its digest says, wherever it
    /// lies; whether it is. It waits for the disk.
    fn keep_if_sound(&self, digest: &Digest) -> io::Result<bool>;

    /// Keeps content for as long as a pin needs it, whatever becomes of the cache.
    fn hold(&self, digest: &Digest) -> io::Result<()>;

    /// Stores bytes that lie in memory.
    fn put(&self, claimed: &Digest, bytes: &[u8]) -> Result<(), BlobError> {
        let mut staged = self.stage(claimed, Some(bytes.len() as u64))?;
        staged.write(bytes)?;
        staged.commit()
    }
}
