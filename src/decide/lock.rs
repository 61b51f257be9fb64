//! Taking a lock file in: each of its tags becomes a claim, all of them in one batch or none.
//!
//! As an import, but to the letter: a pin that only leads to what the file has is a conflict, since
//! a locked tag stands for that digest and no other.

use super::Reason;
use super::fault::Fault;
use super::ledger::Ledger;
use crate::event::{Draft, EventKind};
use crate::lockfile::LockFile;
use crate::oci::{Digest, Reference};
use crate::pin::{PinKey, Provenance};

/// Who takes a lock file in.
const WHO: &str = "immutag";

/// How many conflicts are named one by one.
const TOLD: usize = 1_000;

/// How often the file is compared again because a tag changed meanwhile.
const MAX_RACES: usize = 16;

/// What came of taking a lock file in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockTaken {
    /// How many tags have a claim by it that had none.
    pub new: u64,
    /// How many tags had this pin, or this claim, already.
    pub known: u64,
    /// How many references are in conflict. If there are any, nothing was written.
    pub conflicting: u64,
    /// The first thousand of them.
    pub conflicts: Vec<LockConflict>,
}

/// A reference of which lock file and ledger say different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockConflict {
    /// The reference.
    pub reference: Reference,
    /// What the file says.
    pub locked: Digest,
    /// What the ledger has.
    pub ledger: Option<Digest>,
    /// What is wrong, in words.
    pub why: &'static str,
}

/// How a reference of the file and the ledger relate.
enum Relation {
    Conflict(Option<Digest>, &'static str),
    Known,
    /// A reference by digest: there is nothing to write.
    Nothing,
    New(PinKey, u64),
}

/// Takes a lock file in. Nothing is written if there are conflicts, and nothing for a tag that has
/// this pin or this claim already.
///
/// # Errors
/// See [`Fault`]; nothing was written then, unless the fault is the ledger's own.
pub async fn take_lock(
    ledger: &dyn Ledger,
    file: &LockFile,
    reason: Reason,
) -> Result<LockTaken, Fault> {
    let signed = reason.by(WHO);
    for _ in 0..MAX_RACES {
        let (mut taken, mut drafts) = (LockTaken::default(), Vec::new());
        for (reference, locked) in &file.images {
            let digest = locked.digest;
            match relate(ledger, reference, digest).await? {
                Relation::Nothing => {}
                Relation::Known => taken.known += 1,
                Relation::New(key, sequence) => {
                    taken.new += 1;
                    let draft = Draft {
                        pinned: Some(digest),
                        provenance: Some(Provenance::Imported),
                        ..signed.draft(EventKind::Imported, Some(&key))
                    };
                    drafts.push((draft, sequence));
                }
                Relation::Conflict(ledger, why) => {
                    taken.conflicting += 1;
                    let reference = reference.clone();
                    let conflict = LockConflict { reference, locked: digest, ledger, why };
                    taken.conflicts.extend((taken.conflicts.len() < TOLD).then_some(conflict));
                }
            }
        }
        let is_done = taken.conflicting > 0 || drafts.is_empty();
        if is_done || ledger.append_all(drafts).await?.is_some() {
            return Ok(taken);
        }
    }
    Err(Fault::Failed("the tags of the lock file change all the time".into()))
}

async fn relate(
    ledger: &dyn Ledger,
    reference: &Reference,
    digest: Digest,
) -> Result<Relation, Fault> {
    if ledger.is_revoked(&digest) {
        return Ok(Relation::Conflict(None, "the digest is revoked here"));
    }
    let Some(tag) = reference.tag.clone() else { return Ok(Relation::Nothing) };
    let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
    let key = PinKey { registry, repository, tag };
    let state = ledger.state(&key).await?.unwrap_or_default();
    let pin = state.pin.as_ref().map(|pin| pin.content.digest);
    let claim = state.claim.as_ref().map(|claim| claim.digest);
    Ok(match (pin, claim) {
        _ if state.rejected.contains(&digest) => {
            Relation::Conflict(pin.or(claim), "the digest was rejected for this tag")
        }
        (Some(pin), _) if pin != digest => {
            Relation::Conflict(Some(pin), "the tag is pinned to another digest")
        }
        (None, Some(claim)) if claim != digest => {
            Relation::Conflict(Some(claim), "another digest was imported before")
        }
        (None, None) => Relation::New(key, state.sequence),
        _ => Relation::Known,
    })
}
