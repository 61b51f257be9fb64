//! What a person asks of the ledger's files.

use std::path::Path;

use super::super::LedgerError;
use super::super::ask::Query;
use super::super::backup::{self, BackupError, BackupManifest};
use super::super::entries::{self, Entry};
use super::super::open::OpenError;
use super::super::point::{self, Point};
use super::super::verify::{self, Verified};
use super::FileLedger;

impl FileLedger {
    /// Reads all of the log up to now, every hash in it, and every manifest.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] at the first fault.
    pub fn verify(&self) -> Result<Verified, OpenError> {
        verify::verify(&self.inner.shared)
    }

    /// Makes a backup of what is durable now at `to`, where nothing must be. Writes go on
    /// meanwhile.
    ///
    /// # Errors
    /// See [`BackupError`]. There is no backup then.
    pub fn backup(&self, to: &Path) -> Result<BackupManifest, BackupError> {
        let shared = &self.inner.shared;
        backup::write(&shared.log, shared.id, shared.extent(), to)
    }

    /// `None` if the ledger went through this point; in words, if it did not: it was rolled back
    /// or has another history. Read [`FileLedger::verify`] first: this looks at one batch alone.
    ///
    /// # Errors
    /// What is wrong with the log there.
    pub fn against(&self, point: Point) -> Result<Option<String>, OpenError> {
        let shared = &self.inner.shared;
        point::against(shared, point).map_err(|error| verify::fault(shared, error))
    }

    /// The events from sequence `from` on, with their manifests: at least `limit` of them if there
    /// are so many and their manifests fit into 1 MiB, and always at least one.
    ///
    /// # Errors
    /// [`LedgerError::Failed`] if the log is not what was written.
    pub async fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, LedgerError> {
        let shared = self.inner.shared.clone();
        let read = tokio::task::spawn_blocking(move || entries::entries(&shared, from, limit));
        read.await.map_err(|error| LedgerError::Failed(error.to_string()))?
    }

    /// Throws the index away and builds it from the log; returns when it has caught up.
    ///
    /// # Errors
    /// [`LedgerError::Rebuilding`] if that did not work at the first try; it goes on.
    pub async fn rebuild_index(&self) -> Result<(), LedgerError> {
        self.inner.indexer.rebuild("as told");
        self.index_caught_up().await
    }

    /// Waits until the index has everything that is in the log now.
    ///
    /// # Errors
    /// [`LedgerError::Rebuilding`] if it had to be begun anew meanwhile.
    pub async fn index_caught_up(&self) -> Result<(), LedgerError> {
        let head = self.inner.shared.head().last.sequence;
        self.inner.indexer.ask(Query::Place([0; 32]), head, true).await.map(drop)
    }
}
