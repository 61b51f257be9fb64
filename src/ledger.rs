//! The ledger: which digest was first seen at which tag, and everything that happened since.
//!
//! The trait is the contract; [`FileLedger`] (the default: `log`, the truth, and `index`, sled) and
//! [`MemoryLedger`] implement it, and every implementation passes `contract`.
//!
//! The way of a pin through [`FileLedger`]: `store` asks, `writer` decides and has `log` write one
//! `batch` of `record`s and manifests, `shared` shows it, `indexer` follows. The way of a start:
//! `recover` reads `anchor`, `snapshot` and, by `scan`, the log, and judges before it changes
//! anything. The way of a look-up: `shared` has it at hand, or `facts` say where the tag's only
//! record lies and `place` reads it there, or the index names the places of several.

mod adopt;
mod anchor;
mod ask;
mod backup;
mod base;
mod batch;
#[cfg(test)]
mod contract;
mod cursor;
mod disk;
mod entries;
mod facts;
mod files;
mod index;
mod indexer;
mod keeper;
mod lock;
mod log;
mod memory;
mod open;
mod place;
mod point;
mod record;
mod recover;
mod restore;
mod scan;
mod segment;
mod shared;
mod snapshot;
mod store;
mod take;
mod verify;
mod watch;
mod writer;

pub use adopt::{AdoptError, Adoption, is_blank};
pub use backup::{BackupError, BackupFile, BackupManifest};
pub use disk::{Disk, LogFile, RealDisk};
pub use entries::Entry;
pub(crate) use lock::Lock;
pub use memory::MemoryLedger;
pub use open::{OnSync, OpenError, OpenOptions};
pub use point::{Point, PointError};
pub use restore::{RestoreError, Restored, restore};
pub use store::FileLedger;
pub use verify::Verified;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Draft, Event, EventKind};
use crate::oci::{ComputedDigest, Digest, MediaType};
use crate::pin::{Content, PinKey, Provenance, TagState};

/// A manifest that the ledger keeps, with its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// What it is.
    pub content: Content,
    /// Its bytes; they hash to `content.digest`.
    pub bytes: Bytes,
}

impl StoredManifest {
    /// Puts together bytes and the digest that was computed over them.
    pub fn new(computed: &ComputedDigest, media_type: MediaType, bytes: Bytes) -> Self {
        let size_bytes = bytes.len() as u64;
        Self { content: Content { digest: computed.digest(), media_type, size_bytes }, bytes }
    }
}

/// What a compare-and-set write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody else wrote first; this is the state now. Nothing was written: judge again.
    Raced(Arc<TagState>),
    /// The event is durable; this is the state with it.
    Written(Arc<TagState>),
}

/// Why the ledger did not answer. What was to be written may or may not be there: do not serve
/// what depended on it.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// A write or fdatasync failed inside reserved space: final until a restart.
    #[error("the ledger has failed and takes nothing more until a restart: {0}")]
    Failed(String),
    /// No space for the next batches; tried again each second.
    #[error("there is no disk space for the ledger's next records: {0}")]
    Full(String),
    /// The caller asked for what makes no sense; nothing was written.
    #[error("the ledger refuses: {0}")]
    Refused(&'static str),
    /// The index is damaged and being rebuilt from the log, or not caught up.
    #[error("the ledger's index is being rebuilt from its log")]
    Rebuilding,
    /// The ledger has been closed.
    #[error("the ledger is closed")]
    Closed,
}

/// How the ledger is, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LedgerStatus {
    /// The ledger's id, 32 hex digits, made at creation.
    pub id: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The sequence number of the last durable event.
    pub sequence: u64,
    /// The hash of the last durable batch, hex.
    pub head: String,
    /// How many tags have a pin.
    pub pins: u64,
    /// How many tags have an open conflict.
    pub conflicts: u64,
    /// Why nothing can be written, if so.
    pub failure: Option<String>,
    /// Whether the index is being rebuilt.
    pub rebuilding: bool,
}

impl LedgerStatus {
    /// The head as [`Point`] prints it: `SIZE:HASH`.
    pub fn point(&self) -> String {
        format!("{}:{}", self.sequence, self.head)
    }
}

/// A store of pins and events with compare-and-set semantics.
///
/// Calls for one key are linearizable, across processes when the store is shared, and a write is
/// durable before the call returns: what is reported [`Outcome::Written`] survives `kill -9` and
/// power loss. An error means that the outcome is **unknown**: do not serve what you wanted to
/// pin. Every implementation passes `contract`.
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// The state of a tag; `None` only if the tag was certainly never written.
    async fn state(&self, key: &PinKey) -> Result<Option<Arc<TagState>>, LedgerError>;

    /// Writes an event about `draft.key`, which must be there, if the tag's state is still at
    /// sequence `expected` (0: never seen). With `manifest`, its bytes become durable together
    /// with the event, unless the ledger has them already.
    async fn append(
        &self,
        draft: Draft,
        expected: u64,
        manifest: Option<StoredManifest>,
    ) -> Result<Outcome, LedgerError>;

    /// Writes events about different tags, each as [`LedgerStore::append`] would with its
    /// `expected`: all of them or none, whatever crashes. At most [`BULK_LIMIT`] at once. Gives
    /// the sequence number of the last one; `None`: another writer was first at one of the tags,
    /// and nothing was written.
    async fn append_all(&self, drafts: Vec<(Draft, u64)>) -> Result<Option<u64>, LedgerError>;

    /// Writes an event that has no key (a revocation, for one), and gives it back.
    async fn append_global(&self, draft: Draft) -> Result<Event, LedgerError>;

    /// The bytes of a manifest that was written with an event.
    async fn manifest(&self, digest: &Digest) -> Result<Option<StoredManifest>, LedgerError>;

    /// Whether a person has denied `digest` everywhere. Never blocks, never fails.
    fn is_revoked(&self, digest: &Digest) -> bool;

    /// Whether a person has denied anything at all. Never blocks, never fails.
    fn has_revoked(&self) -> bool;

    /// A number that is another one after each change of what [`LedgerStore::state`] or
    /// [`LedgerStore::is_revoked`] say: whoever reads it first, and finds it unchanged later, was
    /// told what holds. `None`: this store cannot know it. Never blocks, never fails.
    fn version(&self) -> Option<u64> {
        None
    }

    /// The events of one tag, oldest first.
    async fn history(&self, key: &PinKey) -> Result<Vec<Event>, LedgerError>;

    /// Up to `limit` tags after `after`, in the order of [`PinKey::to_bytes`].
    async fn list(
        &self,
        after: Option<&PinKey>,
        limit: usize,
    ) -> Result<Vec<(PinKey, Arc<TagState>)>, LedgerError>;

    /// Up to `limit` events from sequence `from` on.
    async fn events(&self, from: u64, limit: usize) -> Result<Vec<Event>, LedgerError>;

    /// How the ledger is.
    fn status(&self) -> LedgerStatus;

    /// Pins `manifest` unless `key` has a state. Losing the race is not an error: judge again.
    async fn pin_if_absent(
        &self,
        key: &PinKey,
        manifest: StoredManifest,
        rule: &str,
    ) -> Result<Outcome, LedgerError> {
        let draft = Draft {
            pinned: Some(manifest.content.digest),
            observed: Some(manifest.content.clone()),
            provenance: Some(Provenance::FirstSeen),
            rule: rule.to_owned(),
            ..Draft::new(EventKind::Pinned, Some(key.clone()))
        };
        self.append(draft, 0, Some(manifest)).await
    }
}

/// How many events [`LedgerStore::append_all`] takes: what becomes one batch is read, and shown, as
/// one, so it has a bound.
pub const BULK_LIMIT: usize = 20_000;

/// Whether these are events about so many different tags as one batch may have.
fn check_bulk(drafts: &[(Draft, u64)]) -> Result<(), LedgerError> {
    let mut keys = std::collections::HashSet::new();
    if drafts.len() > BULK_LIMIT {
        return Err(LedgerError::Refused("that is more than is written at once"));
    }
    for (draft, _) in drafts {
        let key = draft.key.as_ref();
        let key = key.ok_or(LedgerError::Refused("an event about a tag must name the tag"))?;
        if !keys.insert(key) {
            return Err(LedgerError::Refused("events that are written at once have a tag each"));
        }
    }
    Ok(())
}

/// How long a client should wait before it tries again, after a [`LedgerError`].
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
