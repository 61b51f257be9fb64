//! Decisions, written down.

use super::fault::Fault;
use super::ledger::Ledger;
use super::plan::{self, Plan};
use super::reason::Signed;
use super::{Decided, Reply};
use crate::event::{Draft, EventKind};
use crate::ledger::Outcome;
use crate::oci::Digest;
use crate::pin::{PinKey, TagState};

/// How often a decision is made again because somebody else wrote first.
const MAX_RACES: usize = 16;

/// Approves a digest and, before that, revokes another one if that is asked for.
///
/// A crash between the two leaves the tag with a revoked pin, which is refused: fail closed.
pub(super) async fn approve(
    ledger: &dyn Ledger,
    key: &PinKey,
    (digest, revoke): (Digest, Option<Digest>),
    signed: &Signed<'_>,
) -> Result<Reply, Fault> {
    if revoke == Some(digest) {
        return Err(Fault::IsBoth { digest });
    }
    if ledger.is_revoked(&digest) {
        return Err(Fault::IsRevoked { digest });
    }
    let known = ledger.state(key).await?.unwrap_or_default();
    plan::approve(key, &known, digest, signed)?;
    let revoked = match revoke {
        Some(other) => set_revoked(ledger, other, false, signed).await?,
        None => None,
    };
    let decided = decide(ledger, key, |state| plan::approve(key, state, digest, signed)).await?;
    Ok(Reply::Decided(match (revoke, revoked) {
        (Some(other), Some(sequence)) => Decided {
            changed: true,
            message: format!("{}; {other} is revoked", decided.message),
            sequence: decided.sequence.or(Some(sequence)),
        },
        _ => decided,
    }))
}

/// Forgets a tag.
pub(super) async fn forget(
    ledger: &dyn Ledger,
    key: &PinKey,
    signed: &Signed<'_>,
) -> Result<Reply, Fault> {
    let plan = |state: &TagState| Ok(plan::forget(key, state, signed));
    decide(ledger, key, plan).await.map(Reply::Decided)
}

/// Rejects a digest for a tag.
pub(super) async fn reject(
    ledger: &dyn Ledger,
    key: &PinKey,
    digest: Digest,
    signed: &Signed<'_>,
) -> Result<Reply, Fault> {
    let plan = |state: &TagState| plan::reject(key, state, digest, signed);
    decide(ledger, key, plan).await.map(Reply::Decided)
}

/// Denies a digest everywhere, or takes that back.
pub(super) async fn revoke(
    ledger: &dyn Ledger,
    digest: Digest,
    undo: bool,
    signed: &Signed<'_>,
) -> Result<Reply, Fault> {
    let sequence = set_revoked(ledger, digest, undo, signed).await?;
    let message = match (undo, sequence.is_some()) {
        (false, true) => format!(
            "{digest} is revoked: denied by tag and by digest. A tag that is pinned to it is \
             refused until another digest is approved for it"
        ),
        (false, false) => format!("{digest} is revoked already"),
        (true, true) => format!("{digest} is no longer revoked"),
        (true, false) => format!("{digest} is not revoked"),
    };
    Ok(Reply::Decided(Decided { changed: sequence.is_some(), message, sequence }))
}

/// The sequence number of the event; `None` if it was so already.
async fn set_revoked(
    ledger: &dyn Ledger,
    digest: Digest,
    undo: bool,
    signed: &Signed<'_>,
) -> Result<Option<u64>, Fault> {
    if ledger.is_revoked(&digest) != undo {
        return Ok(None);
    }
    let kind = if undo { EventKind::Unrevoked } else { EventKind::Revoked };
    let draft = Draft { pinned: Some(digest), ..signed.draft(kind, None) };
    Ok(Some(ledger.append_global(draft).await?.sequence))
}

/// Plans on the tag as it stands and writes; plans again if somebody else wrote meanwhile.
pub(super) async fn decide(
    ledger: &dyn Ledger,
    key: &PinKey,
    plan: impl Fn(&TagState) -> Result<Plan, Fault> + Send + Sync,
) -> Result<Decided, Fault> {
    let mut state = ledger.state(key).await?.unwrap_or_default();
    for _ in 0..MAX_RACES {
        let (draft, message) = match plan(&state)? {
            Plan::Nothing(message) => {
                return Ok(Decided { changed: false, message, sequence: None });
            }
            Plan::Write(draft, message) => (draft, message),
        };
        match ledger.append(*draft, state.sequence, None).await? {
            Outcome::Raced(newer) => state = newer,
            Outcome::Written(written) => {
                let sequence = Some(written.sequence);
                return Ok(Decided { changed: true, message, sequence });
            }
        }
    }
    Err(Fault::Busy { key: key.clone() })
}
