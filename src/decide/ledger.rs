//! A ledger that a person can look after.

use std::sync::Arc;

use async_trait::async_trait;

use super::fault::Fault;
use crate::ledger::{Entry, FileLedger, LedgerStore, Verified};

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
}

#[async_trait]
impl Ledger for FileLedger {
    async fn rebuild(&self) -> Result<(), Fault> {
        Ok(self.rebuild_index().await?)
    }

    async fn entries(&self, from: u64) -> Result<Vec<Entry>, Fault> {
        Ok(Self::entries(self, from, PAGE).await?)
    }

    async fn verify(self: Arc<Self>) -> Result<Verified, Fault> {
        let read = tokio::task::spawn_blocking(move || Self::verify(&self)).await;
        let verified = read.map_err(|error| Fault::Failed(error.to_string()))?;
        verified.map_err(|error| {
            let words = words(&error);
            if error.is_damage() { Fault::Damaged(words) } else { Fault::Failed(words) }
        })
    }
}

/// An error with its causes, on one line.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
