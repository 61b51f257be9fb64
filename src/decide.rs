//! What a person can ask of the ledger, and decide in it.
//!
//! One [`Request`] in, [`Reply`]s out, by one function, [`execute`]: the server answers its Unix
//! socket with it, the command line uses it on the ledger itself when no server runs. A decision
//! is an event with who and why; it is durable when it is answered.

mod fault;
mod import;
mod ledger;
mod lock;
mod plan;
mod reading;
mod reason;
mod writing;

pub use fault::Fault;
pub use import::{Claimed, ImportConflict, ImportOrder, Imported, import};
pub use ledger::Ledger;
pub use lock::{LockConflict, LockTaken, take_lock};
pub use reading::{Filter, names};
pub use reason::Reason;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::event::Event;
use crate::ledger::{LedgerStatus, Point, Verified};
use crate::oci::{Digest, MediaType};
use crate::pin::{PinKey, TagState};

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A digest that was observed at a tag becomes its pin.
    #[serde(rename_all = "kebab-case")]
    Approve {
        /// The tag.
        key: PinKey,
        /// The digest.
        digest: Digest,
        /// Another digest, to be denied everywhere in the same breath: a hostile first pin.
        revoke: Option<Digest>,
        /// Why.
        reason: Reason,
    },
    /// A backup of the log as it is now.
    #[serde(rename_all = "kebab-case")]
    Backup {
        /// Where, absolute; nothing must be there.
        to: PathBuf,
    },
    /// How the ledger is, and then all events and manifests, oldest first, up to the last one at
    /// the time of the request. A manifest comes right before the event that brought it.
    Export,
    /// The ledger forgets a tag: the next answer of the upstream is a first sight.
    Forget {
        /// The tag.
        key: PinKey,
        /// Why.
        reason: Reason,
    },
    /// The events of one tag, oldest first.
    History {
        /// The tag.
        key: PinKey,
    },
    /// The tags that a filter lets through.
    List(Filter),
    /// Throws the index away and builds it from the log.
    Rebuild,
    /// A digest that was observed at a tag shall never be served for it, nor alert again.
    Reject {
        /// The tag.
        key: PinKey,
        /// The digest.
        digest: Digest,
        /// Why.
        reason: Reason,
    },
    /// A digest is denied everywhere, by tag and by digest, whether it was seen or not.
    Revoke {
        /// The digest.
        digest: Digest,
        /// Takes such a revocation back.
        undo: bool,
        /// Why.
        reason: Reason,
    },
    /// One tag.
    Show {
        /// The tag.
        key: PinKey,
    },
    /// How the ledger is.
    Status,
    /// Reads all of the log: every hash in it, and every manifest.
    #[serde(rename_all = "kebab-case")]
    Verify {
        /// A point that it must have gone through.
        against: Option<Point>,
    },
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// A decision was taken, or had been before.
    Decided(Decided),
    /// An event.
    Event(Box<Event>),
    /// What came of an import.
    Imported(Box<Imported>),
    /// A manifest that the ledger has.
    Manifest(Box<ExportedManifest>),
    /// How the ledger is.
    Status(LedgerStatus),
    /// A tag.
    Tag(Box<TagEntry>),
    /// The log is sound.
    Verified(Verified),
}

/// A manifest, as the export writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExportedManifest {
    /// Its digest.
    pub manifest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its bytes, in base64 (RFC 4648, section 4).
    pub base64: String,
}

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decided {
    /// Whether anything was written; if not, it was so already.
    pub changed: bool,
    /// What is so now, in words.
    pub message: String,
    /// The sequence number of the last event that was written.
    pub sequence: Option<u64>,
}

/// A tag, and what the ledger knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TagEntry {
    /// The tag.
    #[serde(flatten)]
    pub key: PinKey,
    /// Its state.
    #[serde(flatten)]
    pub state: TagState,
    /// Which of its digests are denied everywhere.
    pub revoked: Vec<Digest>,
}

/// Does what `request` asks, in the name of `who`, and sends the answer piece by piece.
///
/// Stops early, without an error, when nobody listens to `to` any more; a decision is complete by
/// then.
///
/// # Errors
/// See [`Fault`]. Of a decision nothing was written then, unless the fault is the ledger's own.
pub async fn execute(
    ledger: Arc<dyn Ledger>,
    request: Request,
    who: &str,
    to: mpsc::Sender<Reply>,
) -> Result<(), Fault> {
    match request {
        Request::Export => return reading::export(&*ledger, &to).await,
        Request::History { key } => return reading::history(&*ledger, &key, &to).await,
        Request::List(filter) => return reading::list(&*ledger, &filter, &to).await,
        _ => {}
    }
    let reply = one(ledger, request, who).await?;
    // Nobody listens any more: what was to be done is done.
    let _ = to.send(reply).await;
    Ok(())
}

/// The requests that have one answer.
async fn one(ledger: Arc<dyn Ledger>, request: Request, who: &str) -> Result<Reply, Fault> {
    match request {
        Request::Approve { key, digest, revoke, reason } => {
            writing::approve(&*ledger, &key, (digest, revoke), &reason.by(who)).await
        }
        Request::Forget { key, reason } => writing::forget(&*ledger, &key, &reason.by(who)).await,
        Request::Reject { key, digest, reason } => {
            writing::reject(&*ledger, &key, digest, &reason.by(who)).await
        }
        Request::Revoke { digest, undo, reason } => {
            writing::revoke(&*ledger, digest, undo, &reason.by(who)).await
        }
        Request::Rebuild => {
            ledger.rebuild().await?;
            let message = "the index is rebuilt from the log, and has caught up".to_owned();
            Ok(Reply::Decided(Decided { changed: true, message, sequence: None }))
        }
        Request::Show { key } => reading::show(&*ledger, key).await,
        Request::Backup { to } => {
            let made = Arc::clone(&ledger).backup(to.clone()).await?;
            let message = format!("the ledger up to {} is in {}", made.head, to.display());
            Ok(Reply::Decided(Decided { changed: true, message, sequence: None }))
        }
        Request::Verify { against } => {
            let verified = Arc::clone(&ledger).verify().await?;
            if let Some(point) = against {
                ledger.against(point).await?;
            }
            Ok(Reply::Verified(verified))
        }
        Request::Export | Request::History { .. } | Request::List(_) | Request::Status => {
            Ok(Reply::Status(ledger.status()))
        }
    }
}

#[cfg(test)]
mod tests;
