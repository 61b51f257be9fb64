//! What a decision means for a tag as it stands: pure.

use super::fault::Fault;
use super::reason::Signed;
use crate::event::{Draft, EventKind};
use crate::oci::Digest;
use crate::pin::{PinKey, Provenance, TagState};

/// What to do about a decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is so already: these words say it.
    Nothing(String),
    /// Write this; then these words are true.
    Write(Box<Draft>, String),
}

/// `digest` becomes the pin.
pub(super) fn approve(
    key: &PinKey,
    state: &TagState,
    digest: Digest,
    signed: &Signed<'_>,
) -> Result<Plan, Fault> {
    let pin = state.pin.as_ref().filter(|pin| pin.content.digest == digest);
    if pin.is_some_and(|pin| pin.provenance != Provenance::FirstSeen) {
        return Ok(Plan::Nothing(format!("{key} is pinned to {digest} already")));
    }
    let content = match pin {
        Some(pin) => &pin.content,
        None => &state.seen(&digest).ok_or_else(|| unseen(key, state, digest))?.content,
    };
    let before = standing(state);
    let draft = Draft {
        pinned: before.or(state.claim.as_ref().map(|claim| claim.digest)),
        observed: Some(content.clone()),
        provenance: Some(Provenance::Approved),
        ..signed.draft(EventKind::Approved, Some(key))
    };
    let other = before.filter(|before| *before != digest);
    let open = state.conflict.as_ref().filter(|open| open.observed != digest);
    let claim = state.claim.as_ref().filter(|claim| claim.digest != digest);
    let gone = state.deleted_ms.filter(|_| pin.is_some());
    let words = [
        // A first sight proves little; that a person vouches for it is something new.
        Some(match pin {
            Some(_) => format!("{key} stays pinned to {digest}, and is approved now"),
            None => format!("{key} is now pinned to {digest}"),
        }),
        other.map(|before| format!(" (before: {before})")),
        claim.map(|claim| format!(" (imported: {})", claim.digest)),
        gone.map(|_| "; the upstream has deleted the tag, the pin is served all the same".into()),
        open.map(|open| format!("; the conflict with {} stays open", open.observed)),
    ];
    Ok(Plan::Write(Box::new(draft), words.into_iter().flatten().collect()))
}

/// `digest` is never served for this tag, and alerts no more.
pub(super) fn reject(
    key: &PinKey,
    state: &TagState,
    digest: Digest,
    signed: &Signed<'_>,
) -> Result<Plan, Fault> {
    if standing(state) == Some(digest) {
        return Err(Fault::IsStanding { key: key.clone(), digest });
    }
    if state.claim.as_ref().is_some_and(|claim| claim.digest == digest) {
        return Err(Fault::IsClaim { key: key.clone(), digest });
    }
    let seen = state.seen(&digest).ok_or_else(|| unseen(key, state, digest))?;
    if state.rejected.contains(&digest) {
        return Ok(Plan::Nothing(format!("{digest} is rejected for {key} already")));
    }
    let draft = Draft {
        pinned: standing(state),
        observed: Some(seen.content.clone()),
        ..signed.draft(EventKind::Rejected, Some(key))
    };
    Ok(Plan::Write(Box::new(draft), format!("{digest} is rejected for {key}")))
}

/// The ledger forgets the tag.
pub(super) fn forget(key: &PinKey, state: &TagState, signed: &Signed<'_>) -> Plan {
    if is_blank(state) {
        return Plan::Nothing(format!("the ledger knows nothing of {key}"));
    }
    let pinned = standing(state).or(state.claim.as_ref().map(|claim| claim.digest));
    let draft = Draft { pinned, ..signed.draft(EventKind::Forgotten, Some(key)) };
    let words = format!(
        "{key} is forgotten: the upstream's next answer is a first sight. Its history is kept"
    );
    Plan::Write(Box::new(draft), words)
}

/// Whether the ledger has nothing to say of a tag: it was forgotten, or gave no valid answer yet.
pub(super) fn is_blank(state: &TagState) -> bool {
    state.standing().is_none() && state.seen.is_empty() && state.claim.is_none()
}

fn standing(state: &TagState) -> Option<Digest> {
    state.standing().map(|pin| pin.content.digest)
}

fn unseen(key: &PinKey, state: &TagState, digest: Digest) -> Fault {
    let key = key.clone();
    if state.claim.as_ref().is_some_and(|claim| claim.digest == digest) {
        return Fault::IsClaim { key, digest };
    }
    if is_blank(state) { Fault::UnseenTag { key } } else { Fault::UnseenDigest { key, digest } }
}
