//! What the ledger has of tags that moved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::timeout;

use super::{Conflict, ROWS, Row};
use crate::event::{Event, EventKind};
use crate::ledger::LedgerError;
use crate::oci::{Digest, Reference};
use crate::pin::{PinKey, TagState};
use crate::printable::escape_within;
use crate::pull::{Pull, Reader};
use crate::triage::SUMMARY_LIMIT;

/// How many events are read at once.
const PAGE: usize = 500;

/// How many conflicts are looked into, and how long that may take altogether. What was found out
/// when a conflict was written down is told of all.
const EXPLAINED: usize = 16;
const EXPLAINING: Duration = Duration::from_secs(25);

/// How many are looked into at once.
const AT_ONCE: usize = 4;

/// The last move of each tag since a sequence number.
pub(super) type Moves = HashMap<PinKey, Event>;

/// Reads what moved after the event `after`, until the end; false if that is more than a report
/// takes.
pub(super) async fn moves_since(pull: &Pull, after: u64) -> Result<(Moves, bool), LedgerError> {
    let ledger = &pull.edges().ledger;
    let (mut moves, mut next) = (Moves::new(), after + 1);
    let last = ledger.status().sequence;
    while next <= last {
        let page = ledger.events(next, PAGE).await?;
        let Some(end) = page.last().map(|event| event.sequence) else { break };
        next = end + 1;
        for event in page {
            take(&mut moves, event);
            if moves.len() > ROWS {
                return Ok((moves, false));
            }
        }
    }
    Ok((moves, true))
}

fn take(moves: &mut Moves, event: Event) {
    let Some(key) = event.key.clone() else { return };
    match event.kind {
        EventKind::Conflict
        | EventKind::Flapped
        | EventKind::RolledBack
        | EventKind::Followed
        | EventKind::Accepted => {
            moves.insert(key, event);
        }
        // A person has looked at it.
        EventKind::Approved | EventKind::Forgotten | EventKind::Rejected => {
            moves.remove(&key);
        }
        _ => {}
    }
}

/// What there is of a conflict at a tag: an open one, or a move in this time.
pub(super) fn conflict_of(state: &TagState, moved: Option<&Event>) -> Option<Conflict> {
    let claimed = state.claim.as_ref().map(|claim| claim.digest);
    let standing = state.standing().map(|pin| pin.content.digest).or(claimed);
    let open = state.conflict.as_ref();
    let observed = open.map(|open| open.observed).or_else(|| moved?.observed_digest())?;
    let moved = moved.filter(|event| event.observed_digest() == Some(observed));
    let pinned = moved.and_then(|event| event.pinned).or(standing);
    let since_ms = moved.map(|event| event.time_ms).or(open.map(|open| open.since_ms));
    Some(Conflict {
        pinned: pinned.filter(|pinned| *pinned != observed),
        observed,
        since_ms: since_ms.unwrap_or_default(),
        is_open: open.is_some(),
        severity: None,
        hint: escape_within(moved.map_or("", |event| &event.why), SUMMARY_LIMIT),
    })
}

/// Looks into the first conflicts of a report, as far as that is to be had in time.
pub(super) async fn explain(pull: &Arc<Pull>, rows: &mut [Row]) {
    let asked = rows.iter().enumerate().filter_map(|(at, row)| {
        let conflict = row.conflict.as_ref()?;
        Some((at, key_of(&row.reference)?, conflict.pinned?, conflict.observed))
    });
    let asked: Vec<(usize, PinKey, Digest, Digest)> = asked.take(EXPLAINED).collect();
    let looking = asked.into_iter().map(|(at, key, before, after)| {
        let pull = Arc::clone(pull);
        async move { (at, pull.explain(&key, before, after, Reader::Person).await) }.boxed()
    });
    let looking = stream::iter(looking.collect::<Vec<_>>());
    let mut looked = std::pin::pin!(looking.buffer_unordered(AT_ONCE));
    let all = async {
        while let Some((at, triage)) = looked.next().await {
            if let (Some(triage), Some(conflict)) = (triage, rows[at].conflict.as_mut()) {
                conflict.severity = Some(triage.severity);
                conflict.hint = triage.summary();
            }
        }
    };
    // What is not known by then stays as it was.
    let _ = timeout(EXPLAINING, all).await;
}

/// The tag of a reference.
pub(super) fn key_of(reference: &Reference) -> Option<PinKey> {
    let Reference { registry, repository, tag, .. } = reference.clone();
    Some(PinKey { registry, repository, tag: tag? })
}
