//! From an event to what is told of it: with what the ledger, the triage and the journal know now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::queue::{Skipped, Waiting};
use super::sources::{Explained, Pulls, Sources};
use super::words::{self, Standing};
use crate::event::{Event, EventKind};
use crate::notify::{Head, Notice, Pulled, Puller, Repeats, time};
use crate::oci::Digest;
use crate::pin::TagState;
use crate::policy::Serve;
use crate::policy::judge::{is_young, judge_gone};
use crate::printable::escape_within;
use crate::triage::{Severity, YOUNG_PIN};

/// How long the triage may take.
const EXPLAIN_TIME: Duration = Duration::from_secs(5);

/// How long the journal may take for one digest.
const WHO_TIME: Duration = Duration::from_secs(2);

/// How many clients are named for each digest.
const MAX_CLIENTS: usize = 10;

/// How many reasons are given.
const MAX_REASONS: usize = 10;

/// How long a text that is not ours may be, in characters.
const MAX_TEXT: usize = 500;

/// What is told of an event, and of the earlier ones for which it stands.
pub(super) async fn event(sources: &Sources, event: &Event, before: &[Waiting]) -> Notice {
    let state = state_at(sources, event).await;
    let reaction = event.key.as_ref().and_then(|key| (sources.reaction)(key));
    let explained = explained(sources, event).await;
    let young = is_of_young_pin(event, state.as_deref());
    let standing = state.as_deref().map(|state| standing(event, state)).unwrap_or_default();
    let mut notice = Notice {
        id: id(sources, Waiting::at(event.sequence, event.time_ms)),
        text: words::sentence(event, reaction, standing),
        reaction: reaction.map(str::to_owned),
        pin_is_young: young,
        pulls: pulls(sources, event).await,
        commands: words::commands(event, standing),
        repeats: repeats(before, event),
        since: time(since(event, state.as_deref())),
        pinned_since: pinned_since(event, state.as_deref()).and_then(time),
        ..of_event(event)
    };
    notice.severity = words::severity(event.kind);
    if let Some(explained) = explained {
        notice.severity = explained.severity;
        let reasons = explained.reasons.iter().take(MAX_REASONS);
        notice.reasons = reasons.filter_map(|reason| plain(reason)).collect();
        notice.changes = plain(&explained.summary);
    }
    if young {
        notice.severity = Severity::Critical;
        notice.reasons.retain(|reason| reason != YOUNG_PIN);
        notice.reasons.insert(0, YOUNG_PIN.to_owned());
    }
    notice.ledger = Some(head(sources));
    notice
}

fn standing(event: &Event, state: &TagState) -> Standing {
    let is_gone = event.kind == EventKind::Deleted;
    if state.pin.is_none() && state.claim.is_some() {
        Standing::Claimed
    } else if is_gone && judge_gone(state, event.time_ms).1 == Serve::Refusal {
        Standing::TakenBack
    } else {
        Standing::Pinned
    }
}

/// The state of the event's tag right after it; `None` if the ledger cannot say now: the event is
/// told all the same.
async fn state_at(sources: &Sources, event: &Event) -> Option<Arc<TagState>> {
    let key = event.key.as_ref()?;
    let state = sources.ledger.state(key).await.ok().flatten()?;
    if state.sequence == event.sequence {
        return Some(state);
    }
    let history = sources.ledger.history(key).await.ok()?;
    let mut state = TagState::default();
    history.iter().take_while(|it| it.sequence <= event.sequence).for_each(|it| state.apply(it));
    Some(Arc::new(state))
}

/// That some events are not told one by one.
pub(super) fn skipped(sources: &Sources, skipped: &Skipped) -> Notice {
    let Skipped { count, first, last } = skipped;
    let (from, to) = (first.sequence, last.sequence);
    let sentence = format!(
        "{count} events between {from} and {to} are not told one by one: the receiver was behind \
         by too much. See `immutag ledger export`."
    );
    Notice {
        id: format!("{}-skipped", id(sources, *last)),
        time_ms: last.time_ms,
        kind: "skipped".to_owned(),
        text: sentence,
        severity: Severity::High,
        sequence: Some(to),
        commands: vec![crate::notify::Command {
            to: "see all events".to_owned(),
            run: "immutag ledger export".to_owned(),
        }],
        repeats: Some(Repeats {
            count: *count,
            first_sequence: from,
            first: time(first.time_ms).unwrap_or_default(),
        }),
        ledger: Some(head(sources)),
        ..Notice::default()
    }
}

/// No other message of any ledger has it: after a roll-back the same sequence numbers come again,
/// at other times.
fn id(sources: &Sources, at: Waiting) -> String {
    format!("{}-{}-{}", sources.ledger.status().id, at.sequence, at.time_ms)
}

fn of_event(event: &Event) -> Notice {
    Notice {
        time_ms: event.time_ms,
        kind: event.kind.name().to_owned(),
        tag: event.key.as_ref().map(ToString::to_string),
        pinned: event.pinned.map(|digest| digest.to_string()),
        observed: event.observed_digest().map(|digest| digest.to_string()),
        rule: plain(&event.rule),
        who: plain(&event.who),
        why: plain(&event.why),
        sequence: Some(event.sequence),
        ..Notice::default()
    }
}

/// Since when the upstream has answered this.
fn since(event: &Event, state: Option<&TagState>) -> u64 {
    let open = state.and_then(|state| state.conflict.as_ref());
    let same = open.filter(|open| Some(open.observed) == event.observed_digest());
    same.map_or(event.time_ms, |open| open.since_ms.min(event.time_ms))
}

/// Since when the event's pin has been the pin, if it still is.
fn pinned_since(event: &Event, state: Option<&TagState>) -> Option<u64> {
    let pin = state?.pin.as_ref()?;
    (Some(pin.content.digest) == event.pinned).then_some(pin.since_ms)
}

fn is_of_young_pin(event: &Event, state: Option<&TagState>) -> bool {
    let pin = state.and_then(|state| state.pin.as_ref());
    let is_conflict = matches!(
        event.kind,
        EventKind::Conflict | EventKind::Flapped | EventKind::Repeated | EventKind::RolledBack
    );
    is_conflict
        && pin.is_some_and(|pin| {
            Some(pin.content.digest) == event.pinned && is_young(pin, event.time_ms)
        })
}

async fn explained(sources: &Sources, event: &Event) -> Option<Explained> {
    let (before, after) = (event.pinned?, event.observed_digest()?);
    if !words::is_move(event.kind) {
        return None;
    }
    let explain = Arc::clone(&sources.explain);
    let explaining = explain.explain(event.key.as_ref()?, before, after);
    timeout(EXPLAIN_TIME, explaining).await.ok().flatten()
}

async fn pulls(sources: &Sources, event: &Event) -> Vec<Pulled> {
    let mut digests: Vec<Digest> = event.pinned.into_iter().collect();
    digests.extend(event.observed_digest().filter(|digest| Some(*digest) != event.pinned));
    let mut pulls = Vec::new();
    for digest in digests {
        let asking = sources.who.who(digest, MAX_CLIENTS);
        let found = timeout(WHO_TIME, asking).await.ok().flatten();
        pulls.extend(found.map(|found| pulled(digest, found)));
    }
    pulls
}

fn pulled(digest: Digest, pulls: Pulls) -> Pulled {
    let client = |(client, count, first_ms, last_ms): (String, u64, u64, u64)| Puller {
        client: plain(&client).unwrap_or_default(),
        count,
        first: time(first_ms).unwrap_or_default(),
        last: time(last_ms).unwrap_or_default(),
    };
    let clients = pulls.clients.into_iter().take(MAX_CLIENTS).map(client).collect();
    Pulled { digest: digest.to_string(), total: pulls.total, clients }
}

fn repeats(before: &[Waiting], event: &Event) -> Option<Repeats> {
    let first = before.first()?;
    Some(Repeats {
        count: before.len() as u64 + 1,
        first_sequence: first.sequence.min(event.sequence),
        first: time(first.time_ms).unwrap_or_default(),
    })
}

fn head(sources: &Sources) -> Head {
    let status = sources.ledger.status();
    Head { id: status.id, size: status.sequence, hash: status.head }
}

/// Text that is not ours: what hides or moves text is spelled out, and too much is cut.
fn plain(text: &str) -> Option<String> {
    let plain = escape_within(text, MAX_TEXT);
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests;
