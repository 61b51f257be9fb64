//! `min-age`: a tag that has no pin is not served before its digest has stood long enough. Pure.

use super::judge::{Judgement, Serve, Sight, Verdict, is_within};
use super::rule::Rule;
use crate::event::EventKind;
use crate::pin::{Pending, TagState};

/// Judges one observation of a tag without a pin.
///
/// `None`: nothing waits, or it has waited long enough; what no person and no rule lets pass is
/// refused all the same.
pub fn judge_pending(rule: &Rule, state: &TagState, sight: &Sight<'_>) -> Option<Judgement> {
    let digest = sight.content.digest;
    let is_refused = sight.is_revoked || state.rejected.contains(&digest);
    let refuse = |event| Judgement { verdict: Verdict::Pending, event, serve: Serve::Refusal };
    match &state.pending {
        Some(pending) if pending.content.digest == digest => {
            (!is_refused && waits(rule, pending, sight.sure_ms)).then(|| refuse(None))
        }
        // What stood before did not stand at this ask: its time is over, whatever came instead.
        Some(_) if !rule.min_age.is_zero() => Some(refuse(Some(EventKind::Pending))),
        None if !rule.min_age.is_zero() && !is_refused => Some(refuse(Some(EventKind::Pending))),
        _ => None,
    }
}

/// Whether what waits has not stood for `min-age` yet.
pub fn waits(rule: &Rule, pending: &Pending, now_ms: u64) -> bool {
    is_within(pending.since_ms, now_ms, rule.min_age)
}

#[cfg(test)]
mod tests;
