//! A ledger that a person can look after.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::fault::Fault;
use crate::ledger::{
    BackupError, BackupManifest, Entry, FileLedger, LedgerStore, MemoryLedger, OpenError, Point,
    Verified,
};

/// How many entries are read at once.
const PAGE: usize = 500;

/// A store that can check itself and make its index anew.
#[async_trait]
pub trait Ledger: LedgerStore {
    /// Makes the index anew from the log; returns when it has caught up.
    async fn rebuild(&self) -> Result<(), Fault>;

    /// The entries from sequence `from` on, at least one of them; none behind the last.
    async fn entries(&self, from: u64) -> Result<Vec<Entry>, Fault>;

    /// Reads everything up to now, every hash and every manifest.
    ///
    /// # Errors
    /// [`Fault::Damaged`] at the first fault.
    async fn verify(self: Arc<Self>) -> Result<Verified, Fault>;

    /// Whether it went through a point.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if it did not: it was rolled back, or has another history.
    async fn against(self: Arc<Self>, _point: Point) -> Result<(), Fault> {
        Err(Fault::Failed("this ledger has no log to compare with".into()))
    }

    /// Writes what waits, and lets go of the data directory.
    async fn close(&self);

    /// Makes a backup of it at `to`, where nothing must be.
    async fn backup(self: Arc<Self>, _to: PathBuf) -> Result<BackupManifest, Fault> {
        Err(Fault::Failed("this ledger has no files to make a backup of".into()))
    }
}

#[async_trait]
impl Ledger for FileLedger {
    async fn rebuild(&self) -> Result<(), Fault> {
        Ok(self.rebuild_index().await?)
    }

    async fn close(&self) {
        Self::close(self).await;
    }

    async fn entries(&self, from: u64) -> Result<Vec<Entry>, Fault> {
        Ok(Self::entries(self, from, PAGE).await?)
    }

    async fn verify(self: Arc<Self>) -> Result<Verified, Fault> {
        blocking(move || Self::verify(&self).map_err(fault)).await
    }

    async fn against(self: Arc<Self>, point: Point) -> Result<(), Fault> {
        let difference = blocking(move || Self::against(&self, point).map_err(fault)).await?;
        difference.map_or(Ok(()), |words| Err(Fault::Damaged(words)))
    }

    async fn backup(self: Arc<Self>, to: PathBuf) -> Result<BackupManifest, Fault> {
        let make = move || Self::backup(&self, &to);
        blocking(move || {
            make().map_err(|error| match error {
                BackupError::Damaged { .. } => Fault::Damaged(words(&error)),
                _ => Fault::Failed(words(&error)),
            })
        })
        .await
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn rebuild(&self) -> Result<(), Fault> {
        Err(Fault::Failed("this ledger is in memory, and has no index to rebuild".into()))
    }

    async fn close(&self) {
        Self::close(self);
    }

    async fn entries(&self, from: u64) -> Result<Vec<Entry>, Fault> {
        Ok(Self::entries(self, from))
    }

    async fn verify(self: Arc<Self>) -> Result<Verified, Fault> {
        let damaged = |digest| Fault::Damaged(format!("the manifest {digest} is damaged"));
        blocking(move || Self::verify(&self).map_err(damaged)).await
    }
}

/// Does what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::Failed(error.to_string()))?
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn fault(error: OpenError) -> Fault {
    let words = words(&error);
    if error.is_damage() { Fault::Damaged(words) } else { Fault::Failed(words) }
}

/// An error with its causes, on one line.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
