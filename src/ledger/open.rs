//! How the file ledger is opened, and why it is not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::disk::{Disk, RealDisk};

/// Is told how long each fdatasync of the log took.
pub type OnSync = Arc<dyn Fn(Duration) + Send + Sync>;

/// How to open a ledger.
#[derive(Clone)]
pub struct OpenOptions {
    /// Where `ledger/`, `anchor` and the lock are.
    pub data_dir: PathBuf,
    /// The only ledger id to open (`ledger.expect`); an empty or another one is refused.
    pub expected_id: Option<String>,
    /// Go on with a log that is not what the anchor says, and write that down.
    pub accept_rollback: bool,
    /// From this size on, in bytes, a segment of the log is closed and a new one begun.
    pub segment_size_bytes: u64,
    /// A snapshot is made when the log has grown by so much, in bytes, and by as much as the last
    /// one took.
    pub snapshot_after_bytes: u64,
    /// Read all of the log before the start, whatever the snapshot says.
    pub verify: bool,
    /// How long the index may be silent before it is given up.
    pub index_patience: Duration,
    /// The disk under the log.
    pub disk: Arc<dyn Disk>,
    /// Is told how long each fdatasync of the log took.
    pub on_sync: Option<OnSync>,
}

impl OpenOptions {
    /// The defaults, with everything under `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            expected_id: None,
            accept_rollback: false,
            segment_size_bytes: 64 << 20,
            snapshot_after_bytes: 16 << 20,
            verify: false,
            index_patience: Duration::from_secs(30),
            disk: Arc::new(RealDisk),
            on_sync: None,
        }
    }
}

/// Why a ledger was not opened. Nothing was changed on disk.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The log has a fault that no crash leaves behind.
    #[error(
        "the ledger is damaged: {path}, byte {offset}: {what}; restore the ledger directory from \
         a backup and start with --accept-rollback, or mend the disk and copy the file again"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: String,
    },
    /// The file system refused something.
    #[error("the ledger cannot be opened: {path}")]
    Io {
        /// At what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {data_dir} is in use by {holder}; stop it first, or give this one a \
         directory of its own"
    )]
    Locked {
        /// The data directory.
        data_dir: PathBuf,
        /// The other process and its host.
        holder: String,
    },
    /// The log is not what the anchor says it was.
    #[error(
        "the ledger was rolled back: {what}; bring the newer ledger directory back, or accept that \
         what was recorded since is lost with --accept-rollback"
    )]
    RolledBack {
        /// What is, and what should be.
        what: String,
    },
    /// `ledger.expect` names another ledger.
    #[error(
        "ledger.expect asks for the ledger {expected}, but here is {found}; mount the right volume \
         or change ledger.expect"
    )]
    Unexpected {
        /// The id that was asked for.
        expected: String,
        /// The id that is here, or words for none.
        found: String,
    },
    /// Something in the log was written by a later version.
    #[error("the ledger is not readable: {path}, byte {offset}: {what}")]
    UnknownVersion {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is not known.
        what: String,
    },
}

impl OpenError {
    /// Whether the ledger itself is at fault, damaged or rolled back: exit code 4.
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::RolledBack { .. }
                | Self::Unexpected { .. }
                | Self::UnknownVersion { .. }
        )
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: String) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what }
    }
}
