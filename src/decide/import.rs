//! Importing lists: claims about tags, which the upstream has to confirm.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::ledger::Ledger;
use super::reason::{Reason, Signed};
use crate::event::{Draft, EventKind};
use crate::ledger::BULK_LIMIT;
use crate::oci::{Digest, Manifest};
use crate::pin::{PinKey, Provenance, TagState};

/// How many conflicts are named one by one.
const TOLD: usize = 1_000;

/// How often a list is compared again because a tag changed meanwhile.
const MAX_RACES: usize = 16;

/// What a list says of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Claimed {
    /// The tag.
    pub key: PinKey,
    /// The digest: of the manifest that the tag names, of a child of it, or of its config.
    pub digest: Digest,
    /// Whether it is known to be a config's digest.
    pub is_config: bool,
    /// Where the list says so: the line, or the number of the entry.
    pub place: u64,
}

/// How a list is to be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportOrder {
    /// Why, or where it came from.
    pub reason: Reason,
    /// Only say what would be.
    pub is_dry_run: bool,
    /// Leave out the tags that are in conflict, rather than write nothing.
    pub skips_conflicts: bool,
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imported {
    /// Whether it is in the ledger: not for a dry run, nor if there are conflicts.
    pub is_written: bool,
    /// How many tags have a claim by it that had none.
    pub new: u64,
    /// How many tags had this pin, or this claim, already.
    pub known: u64,
    /// How many tags have a pin that nobody here can compare with a config's digest.
    pub not_comparable: u64,
    /// How many tags are in conflict.
    pub conflicting: u64,
    /// The first thousand of them.
    pub conflicts: Vec<ImportConflict>,
    /// The sequence number of the last event that was written.
    pub sequence: Option<u64>,
}

/// A tag of which list and ledger say different things. The ledger's word stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImportConflict {
    /// The tag.
    pub key: PinKey,
    /// What the list says.
    pub claimed: Digest,
    /// What the ledger has.
    pub ledger: Option<Digest>,
    /// What is wrong, in words.
    pub why: String,
    /// Where the list says it.
    pub place: u64,
}

/// How a claim and the ledger relate.
enum Relation {
    Conflict(Option<Digest>, &'static str),
    Known,
    New(u64),
    NotComparable,
}

/// Takes a list in: all of it in one batch, or nothing.
///
/// # Errors
/// See [`Fault`]; nothing was written then, unless the fault is the ledger's own.
pub async fn import(
    ledger: &dyn Ledger,
    claims: &[Claimed],
    order: ImportOrder,
    who: &str,
) -> Result<Imported, Fault> {
    if claims.len() > BULK_LIMIT {
        return Err(Fault::ExceedsImport);
    }
    let mut keys = HashSet::new();
    if let Some(twice) = claims.iter().find(|claimed| !keys.insert(&claimed.key)) {
        return Err(Fault::Failed(format!("the list names {} twice", twice.key)));
    }
    let ImportOrder { reason, is_dry_run, skips_conflicts } = order;
    let signed = reason.by(who);
    for _ in 0..MAX_RACES {
        let (mut imported, drafts) = compare(ledger, claims, &signed).await?;
        let is_wanted = skips_conflicts || imported.conflicting == 0;
        if is_dry_run || !is_wanted {
            return Ok(imported);
        }
        imported.is_written = true;
        if drafts.is_empty() {
            return Ok(imported);
        }
        if let Some(sequence) = ledger.append_all(drafts).await? {
            imported.sequence = Some(sequence);
            return Ok(imported);
        }
    }
    Err(Fault::Failed("the tags of the list change all the time; import it again".into()))
}

async fn compare(
    ledger: &dyn Ledger,
    claims: &[Claimed],
    signed: &Signed<'_>,
) -> Result<(Imported, Vec<(Draft, u64)>), Fault> {
    let mut imported = Imported::default();
    let mut drafts = Vec::new();
    for claimed in claims {
        match relate(ledger, claimed).await? {
            Relation::Known => imported.known += 1,
            Relation::NotComparable => imported.not_comparable += 1,
            Relation::New(sequence) => {
                imported.new += 1;
                let draft = Draft {
                    pinned: Some(claimed.digest),
                    provenance: Some(Provenance::Imported),
                    ..signed.draft(EventKind::Imported, Some(&claimed.key))
                };
                drafts.push((draft, sequence));
            }
            Relation::Conflict(has, why) => {
                imported.conflicting += 1;
                if imported.conflicts.len() < TOLD {
                    imported.conflicts.push(ImportConflict {
                        key: claimed.key.clone(),
                        claimed: claimed.digest,
                        ledger: has,
                        why: why.to_owned(),
                        place: claimed.place,
                    });
                }
            }
        }
    }
    Ok((imported, drafts))
}

async fn relate(ledger: &dyn Ledger, claimed: &Claimed) -> Result<Relation, Fault> {
    let digest = claimed.digest;
    let state = ledger.state(&claimed.key).await?.unwrap_or_default();
    let standing = state.pin.as_ref().map(|pin| pin.content.digest);
    if ledger.is_revoked(&digest) {
        return Ok(Relation::Conflict(standing, "the digest is revoked here"));
    }
    if state.rejected.contains(&digest) {
        return Ok(Relation::Conflict(standing, "the digest was rejected for this tag"));
    }
    if let Some(pin) = standing {
        return relate_to_pin(ledger, claimed, pin, &state).await;
    }
    Ok(match &state.claim {
        Some(claim) if claim.digest == digest => Relation::Known,
        Some(claim) => Relation::Conflict(Some(claim.digest), "another digest was imported before"),
        None => Relation::New(state.sequence),
    })
}

async fn relate_to_pin(
    ledger: &dyn Ledger,
    claimed: &Claimed,
    pin: Digest,
    state: &TagState,
) -> Result<Relation, Fault> {
    if pin == claimed.digest {
        return Ok(Relation::Known);
    }
    let media_type = state.pin.as_ref().map(|pin| pin.content.media_type.clone());
    let stored = ledger.manifest(&pin).await?;
    let manifest = stored.and_then(|it| Manifest::parse(&it.bytes, media_type.as_ref()).ok());
    if manifest.as_ref().is_some_and(|manifest| manifest.bears_out(&claimed.digest)) {
        return Ok(Relation::Known);
    }
    let has_config = manifest.is_some_and(|manifest| manifest.config.is_some());
    if claimed.is_config && !has_config {
        return Ok(Relation::NotComparable);
    }
    Ok(Relation::Conflict(Some(pin), "the tag is pinned to another digest"))
}
