//! Reading a lock file from the disk: whole, or not at all.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use thiserror::Error;

use crate::lockfile::{LOCK_BYTES, LockError, LockFile};

/// Why a lock file cannot be used.
#[derive(Debug, Error)]
pub enum LockFault {
    /// It is none.
    #[error(transparent)]
    Content(#[from] LockError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Reads a lock file, all of it or nothing.
///
/// # Errors
/// It is no regular file, cannot be read, or is no lock file.
pub fn read_lock(path: &Path) -> Result<LockFile, LockFault> {
    // A pipe is not waited for: nobody may write into it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file").into());
    }
    let mut bytes = Vec::new();
    file.take(LOCK_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(LockFile::parse(&bytes)?)
}
