//! What an observation means: pure, the time is an argument.
//!
//! Source: design, section 3. Nothing here writes, asks or waits; a [`Judgement`] says what to
//! write down and what to serve, and the flow does it.

use std::time::Duration;

use super::pending::judge_pending;
use super::rule::{Reaction, Rule};
use crate::event::EventKind;
use crate::oci::Manifest;
use crate::pin::{Content, Pin, SEEN_LIMIT, TagState};

/// A pin younger than this proves little: the first sight itself may be the hostile one.
pub const YOUNG: Duration = Duration::from_hours(72);

/// How long `alert` warns after the pin followed the upstream.
pub const WARN_AFTER_FOLLOWING: Duration = Duration::from_hours(24);

/// How often an unchanged conflict is written down again.
pub const REPEAT_INTERVAL: Duration = Duration::from_hours(1);

/// A conflict that nobody saw for so long did not stand, as far as anybody knows. While it is asked
/// for, it is written down at least daily.
pub const UNWATCHED: Duration = Duration::from_hours(72);

/// What the upstream answered for a covered tag.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The content; its digest was computed.
    pub content: &'a Content,
    /// The manifest, parsed.
    pub manifest: &'a Manifest,
    /// The pinned manifest, parsed; `None` if there is no pin or its bytes are not to be had.
    pub pinned: Option<&'a Manifest>,
    /// Whether a person has denied this digest everywhere.
    pub is_revoked: bool,
    /// Now, by a clock that was surely not set ahead, in milliseconds since the Unix epoch:
    /// `accept-after` and `min-age` end by it.
    pub sure_ms: u64,
}

/// How observation and pin relate, in the words of logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The upstream answers something else.
    Conflict,
    /// The upstream answers what is pinned, or what a rule lets pass as the same.
    Match,
    /// There is no pin, and what the upstream answers is too young to become it.
    Pending,
    /// First sight.
    Pin,
}

impl Verdict {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Match => "match",
            Self::Pending => "pending",
            Self::Pin => "pin",
        }
    }
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// What the upstream answered.
    Observed,
    /// What is pinned.
    Pinned,
    /// A refusal.
    Refusal,
}

/// What to do about an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How observation and pin relate.
    pub verdict: Verdict,
    /// What to write down first, if anything.
    pub event: Option<EventKind>,
    /// What to serve then.
    pub serve: Serve,
}

const fn judgement(verdict: Verdict, event: Option<EventKind>, serve: Serve) -> Judgement {
    Judgement { verdict, event, serve }
}

/// Judges one observation of a covered tag, at `now_ms` milliseconds since the Unix epoch.
pub fn judge(rule: &Rule, state: &TagState, sight: &Sight<'_>, now_ms: u64) -> Judgement {
    let digest = sight.content.digest;
    // What was only recorded is a pin by then, or is nothing that a covered tag may stand for.
    let Some(pin) = &state.pin else {
        return if let Some(judgement) = judge_pending(rule, state, sight) {
            judgement
        } else if sight.is_revoked || state.rejected.contains(&digest) {
            judgement(Verdict::Conflict, None, Serve::Refusal)
        } else {
            judgement(Verdict::Pin, Some(EventKind::Pinned), Serve::Observed)
        };
    };
    if pin.content.digest == digest {
        let was_open = state.conflict.is_some() || state.deleted_ms.is_some();
        return judgement(Verdict::Match, was_open.then_some(EventKind::Healed), Serve::Pinned);
    }
    if state.rejected.contains(&digest) {
        return judgement(Verdict::Conflict, None, Serve::Pinned);
    }
    if sight.pinned.is_some_and(|pinned| pinned.names(&digest)) {
        let first = state.seen(&digest).is_none();
        let event = first.then_some(EventKind::Downgraded);
        return judgement(Verdict::Match, event, Serve::Pinned);
    }
    if !sight.is_revoked && settles(rule, state, sight, now_ms) {
        return judgement(Verdict::Match, Some(EventKind::Extended), Serve::Observed);
    }
    react(rule, state, sight, now_ms)
}

/// Whether an index may still grow, and did nothing else.
fn settles(rule: &Rule, state: &TagState, sight: &Sight<'_>, now_ms: u64) -> bool {
    let first_ms = state.seen.first().map_or(now_ms, |seen| seen.first_ms);
    state.conflict.is_none()
        && is_within(first_ms, now_ms, rule.settle)
        && sight.pinned.is_some_and(|pinned| sight.manifest.extends(pinned))
}

/// A conflict: which event tells it, and what the reaction serves.
fn react(rule: &Rule, state: &TagState, sight: &Sight<'_>, now_ms: u64) -> Judgement {
    let event = conflict_event(state, sight, now_ms);
    let standing = event.is_none_or(|event| event == EventKind::Repeated);
    match rule.reaction {
        // The conflict is written first, then the pin follows: two events, and a crash between
        // them leaves an open conflict that the next ask finishes here.
        Reaction::Alert | Reaction::Record if !sight.is_revoked => {
            let event = if standing { Some(EventKind::Followed) } else { event };
            judgement(Verdict::Conflict, event, Serve::Observed)
        }
        Reaction::Hold if standing && is_accepted(rule, state, sight) => {
            judgement(Verdict::Conflict, Some(EventKind::Accepted), Serve::Observed)
        }
        Reaction::Alert | Reaction::Hold | Reaction::Record => {
            judgement(Verdict::Conflict, event, Serve::Pinned)
        }
        Reaction::Block => judgement(Verdict::Conflict, event, Serve::Refusal),
    }
}

/// The event that tells this conflict; `None` if it was told less than [`REPEAT_INTERVAL`] ago.
fn conflict_event(state: &TagState, sight: &Sight<'_>, now_ms: u64) -> Option<EventKind> {
    let digest = sight.content.digest;
    let seen = state.seen(&digest);
    match &state.conflict {
        Some(open) if open.observed == digest && state.deleted_ms.is_none() => {
            (!is_within(open.recorded_ms, now_ms, REPEAT_INTERVAL)).then_some(EventKind::Repeated)
        }
        Some(open) if seen.is_none() && state.seen.len() >= SEEN_LIMIT => {
            (!is_within(open.recorded_ms, now_ms, REPEAT_INTERVAL)).then_some(EventKind::Repeated)
        }
        _ => Some(match seen {
            None => EventKind::Conflict,
            Some(seen) if seen.was_served => EventKind::RolledBack,
            Some(_) => EventKind::Flapped,
        }),
    }
}

/// Whether the open conflict was seen by nobody for so long that it may have been gone meanwhile:
/// seen again, its time begins anew.
pub fn is_unwatched(state: &TagState, sure_ms: u64) -> bool {
    let open = state.conflict.as_ref();
    open.is_some_and(|open| !is_within(open.recorded_ms, sure_ms, UNWATCHED))
}

/// Whether `accept-after` has passed for what is observed now.
fn is_accepted(rule: &Rule, state: &TagState, sight: &Sight<'_>) -> bool {
    let Some(open) = &state.conflict else { return false };
    rule.accept_after.is_some_and(|wait| !is_within(open.since_ms, sight.sure_ms, wait))
        && !is_unwatched(state, sight.sure_ms)
        && open.observed == sight.content.digest
        && state.seen.len() < SEEN_LIMIT
        && !sight.is_revoked
}

/// What a tag that the upstream says is gone means.
///
/// A young first sight proves little, so the tag is gone for clients too; an older pin is served.
/// How young it was when the tag vanished decides: what was taken back is no better for having
/// waited.
pub fn judge_gone(state: &TagState, now_ms: u64) -> (Option<EventKind>, Serve) {
    let event = state.deleted_ms.is_none().then_some(EventKind::Deleted);
    let gone_ms = state.deleted_ms.unwrap_or(now_ms);
    let held = state.standing().is_some_and(|pin| !is_young(pin, gone_ms));
    (event, if held { Serve::Pinned } else { Serve::Refusal })
}

/// Whether a pin is too young to prove much.
pub fn is_young(pin: &Pin, now_ms: u64) -> bool {
    use crate::pin::Provenance::{Approved, FirstSeen, Imported, Pushed};
    match pin.provenance {
        Approved | Imported | Pushed => false,
        FirstSeen => is_within(pin.since_ms, now_ms, YOUNG),
    }
}

/// Whether `now_ms` is less than `span` after `then_ms`. A clock that went back counts as within:
/// nothing expires by it.
pub fn is_within(then_ms: u64, now_ms: u64, span: Duration) -> bool {
    u128::from(now_ms.saturating_sub(then_ms)) < span.as_millis()
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
