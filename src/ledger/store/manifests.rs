//! Manifests, read from the log: memory says where, and the index where memory cannot tell two
//! apart.

use super::FileLedger;
use crate::ledger::ask::{Answer, Query};
use crate::ledger::batch::Hash;
use crate::ledger::cursor::{self, Attached};
use crate::ledger::place::Spot;
use crate::ledger::segment::Position;
use crate::ledger::{LedgerError, StoredManifest};
use crate::oci::{Algorithm, Digest};

impl FileLedger {
    /// The manifest that the log has for the digest.
    pub(super) async fn read_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, LedgerError> {
        let Some(sha256) = digest.as_bytes().first_chunk().copied() else { return Ok(None) };
        if digest.algorithm() != Algorithm::Sha256 {
            return Ok(None);
        }
        let Some(near) = self.near(&sha256) else { return Ok(None) };
        let mut read = match near.position() {
            Some(at) => self.attached(sha256, at).await,
            None => Ok(Attached::Other),
        };
        if matches!(read, Ok(Attached::Other)) {
            let Some(at) = self.place(&sha256).await? else { return Ok(None) };
            read = self.attached(sha256, at).await;
        }
        match read {
            Ok(Attached::Manifest(manifest)) => Ok(Some(manifest)),
            Ok(Attached::Other) => {
                self.inner.indexer.doubt("it named a wrong place for a manifest");
                Err(LedgerError::Rebuilding)
            }
            Ok(Attached::Damaged) => {
                let what = format!("the log's bytes of {digest} are not what was written");
                let failure = LedgerError::Failed(what);
                self.inner.shared.fail(failure.clone());
                Err(failure)
            }
            Err(error) => Err(LedgerError::Failed(format!("the log cannot be read: {error}"))),
        }
    }

    /// Whether the log has the manifest for certain: it was read back and hashed.
    pub(super) async fn holds(&self, manifest: &StoredManifest) -> bool {
        matches!(self.read_manifest(&manifest.content.digest).await, Ok(Some(_)))
    }

    /// Where a manifest lies by memory, or another that begins alike; without a position the index
    /// has to be asked. `None`: it is certain that the log does not have it.
    fn near(&self, sha256: &Hash) -> Option<Spot> {
        let memory = self.inner.shared.memory();
        let spot = memory.facts.manifest(sha256)?;
        Some(memory.recent_manifests.get(sha256).copied().map_or(spot, Spot::new))
    }

    /// Where a manifest lies by the index: a hint, to be checked there.
    async fn place(&self, sha256: &Hash) -> Result<Option<Position>, LedgerError> {
        let head = self.inner.shared.head().last.sequence;
        let reply = self.inner.indexer.ask(Query::Place(*sha256), 0, false).await?;
        match reply.answer {
            Answer::Place(None) if reply.applied >= head => Ok(None),
            Answer::Place(Some(place)) => Ok(Some(place)),
            _ => Err(LedgerError::Rebuilding),
        }
    }

    async fn attached(&self, sha256: Hash, at: Position) -> std::io::Result<Attached> {
        let log = self.inner.shared.log.clone();
        let read = tokio::task::spawn_blocking(move || cursor::manifest(&log, &sha256, at));
        read.await.map_err(std::io::Error::other)?
    }
}
