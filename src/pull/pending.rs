//! A covered tag that was never seen, and its rule's `min-age`: who wants it is refused until the
//! same digest has stood there for that long, at every ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Pull;
use super::claim::{contested, open_claim};
use super::covered::Asked;
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use crate::oci::Digest;
use crate::pin::{Pending, PinKey, TagState};
use crate::policy::Rule;
use crate::policy::judge::is_within;
use crate::policy::pending::waits;
use crate::units::{Span, rfc3339};

/// The longest that a client is told to wait before it comes again.
const COME_AGAIN: Duration = Duration::from_hours(1);

impl Pull {
    /// The state of a tag that had no pin, after the look by which it has one; without a look, if
    /// it still waits and the last look is not older than `recheck`.
    pub(super) async fn first_sight(
        self: &Arc<Self>,
        target: Target,
        state: Option<&TagState>,
        asked: &Asked,
    ) -> Result<Arc<TagState>, Refusal> {
        let (key, rule) = (target.key.clone(), Arc::clone(&target.rule));
        let Some(pending) = state.and_then(|state| state.pending.as_ref()) else {
            let looked = self.sight(target).await;
            // So it is with what is known to be something else than what was imported.
            return looked.map_err(|trouble| {
                let known = state.filter(|_| !is_answer(&trouble));
                known.and_then(|state| contested(&key, &rule, state)).unwrap_or(trouble)
            });
        };
        let at_ms = asked.at_ms.load(Ordering::Relaxed);
        let is_fresh = at_ms != 0 && is_within(at_ms, self.now_ms(), rule.recheck);
        let digest = pending.content.digest;
        if is_fresh && state.is_some_and(|state| self.still_waits(&target, state, digest)) {
            return Err(refusal(&key, &rule, pending, None));
        }
        let looked = self.sight(target).await;
        // The tag is known to be young: trouble of the upstream does not make it old, and a plain
        // error would send the client there.
        looked.map_err(|trouble| {
            if is_answer(&trouble) {
                trouble
            } else {
                refusal(&key, &rule, pending, Some(&trouble))
            }
        })
    }

    /// Whether `digest` is what waits at this tag, may come to be its pin, and is too young for it.
    pub(super) fn still_waits(&self, target: &Target, state: &TagState, digest: Digest) -> bool {
        let pending = state.pending.as_ref().filter(|it| it.content.digest == digest);
        pending.is_some_and(|it| waits(&target.rule, it, self.sure_ms()))
            && !self.is_refused(state, &digest)
    }

    /// The end of a look: the state with its pin, or why there is none for `observed`.
    pub(super) fn pinned_or_refused(
        &self,
        target: &Target,
        state: Arc<TagState>,
        observed: Digest,
    ) -> Result<Arc<TagState>, Refusal> {
        match &state.pending {
            _ if state.pin.is_some() => Ok(state),
            _ if open_claim(&state).is_some() => {
                Err(Refusal::new(Reason::Overloaded, "the tag changes all the time; try again"))
            }
            Some(pending) if !self.is_refused(&state, &observed) => {
                Err(refusal(&target.key, &target.rule, pending, None))
            }
            _ => Err(Refusal::revoked(observed)),
        }
    }

    fn is_refused(&self, state: &TagState, digest: &Digest) -> bool {
        self.edges.ledger.is_revoked(digest) || state.rejected.contains(digest)
    }
}

/// Whether a refusal says something of the tag, or keeps a client from going elsewhere.
fn is_answer(refusal: &Refusal) -> bool {
    refusal.reason.is_ours() || refusal.reason == Reason::ManifestUnknown
}

/// Why a tag that waits is not served: since when, until when, and how to end it.
fn refusal(key: &PinKey, rule: &Rule, pending: &Pending, trouble: Option<&Refusal>) -> Refusal {
    let digest = pending.content.digest;
    let min_age_ms = u64::try_from(rule.min_age.as_millis()).unwrap_or(u64::MAX);
    let until_ms = pending.since_ms.saturating_add(min_age_ms);
    let trouble = trouble.map(|it| format!("; by now it could not be looked at: {}", it.message));
    Refusal {
        observed: Some(digest),
        help: format!(
            "to take it now: immutag ledger approve {key} --digest {digest} --reason WHY"
        ),
        retry_after: Some(rule.min_age.clamp(Duration::from_secs(1), COME_AGAIN)),
        ..Refusal::new(
            Reason::PinPending,
            format!(
                "{key} is too young (min-age {}): {digest} was first seen there at {}, and is \
                 served from {} on if it stands there until then{}",
                Span(rule.min_age),
                time(pending.since_ms),
                time(until_ms),
                trouble.unwrap_or_default()
            ),
        )
        .of(key)
    }
}

/// In UTC, to the second.
fn time(ms: u64) -> String {
    rfc3339(ms).unwrap_or_else(|| format!("{ms} ms"))
}
