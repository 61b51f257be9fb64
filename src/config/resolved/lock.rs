//! Where the ledger is kept, and the list that it begins with.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

/// Where the ledger is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerKind {
    /// In the data directory
    File,
    /// In memory: it ends with the process
    Memory,
}

/// `[lock]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockConfig {
    /// The `images.lock`, absolute. It is read at the start.
    pub file: PathBuf,
    /// Whether what is not in it is refused.
    pub is_locked: bool,
}
