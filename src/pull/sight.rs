//! Looking at an upstream for a covered tag: ask, hash, judge, write down.
//!
//! HEAD may say "the same"; to accuse, to heal and to pin takes a GET whose bytes were hashed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asking::{Fetched, Origin, Question};
use super::claim::{Claimed, open_claim};
use super::covered::Asked;
use super::refusal::{Reason, Refusal};
use super::retain::Need;
use super::{Holder, Pull};
use crate::event::EventKind;
use crate::ledger::{Outcome, StoredManifest};
use crate::oci::manifest::CANONICAL_ACCEPT;
use crate::oci::{Digest, Manifest, ManifestReference};
use crate::pin::{PinKey, TagState};
use crate::policy::judge::{REPEAT_INTERVAL, is_within, judge_gone};
use crate::policy::{Judgement, Reaction, Rule, Sight, Verdict, judge};
use crate::upstream::{ClientCredential, Upstream};

/// How long a HEAD's "the same" is believed before a GET has to say so.
const GET_AGAIN: Duration = Duration::from_hours(24);

/// The same for an audit, of an upstream that says that little of its limit is left.
const GET_AT_LEAST: Duration = Duration::from_hours(7 * 24);

/// How often an observation is judged anew: a lost race, or a second event, is one more round.
const ROUNDS: usize = 4;

/// What is looked at.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) upstream: Arc<Upstream>,
    pub(super) key: PinKey,
    pub(super) rule: Arc<Rule>,
    pub(super) credential: Option<ClientCredential>,
    /// Nobody pulls it.
    pub(super) is_audit: bool,
}

impl Target {
    fn flight(&self) -> (PinKey, Holder) {
        (self.key.clone(), self.credential.as_ref().map(ClientCredential::key))
    }

    pub(super) fn origin(&self) -> Origin {
        Origin {
            upstream: Arc::clone(&self.upstream),
            repository: self.key.repository.clone(),
            credential: self.credential.clone(),
        }
    }

    fn question(&self) -> Question {
        Question {
            upstream: Arc::clone(&self.upstream),
            repository: self.key.repository.clone(),
            reference: ManifestReference::Tag(self.key.tag.clone()),
            accept: Some(CANONICAL_ACCEPT.to_owned()),
            credential: self.credential.clone(),
        }
    }
}

impl Pull {
    /// Looks at the upstream, together with everybody who wants the same, and gives the tag's
    /// state after it.
    pub(super) async fn sight(self: &Arc<Self>, target: Target) -> Result<Arc<TagState>, Refusal> {
        let pull = Arc::clone(self);
        let flight = target.flight();
        let landed = self.memory.sights.join(flight, || async move { pull.look(target).await });
        landed.await.unwrap_or_else(|| {
            Err(Refusal::new(Reason::Overloaded, "the look at the upstream ended early; try again"))
        })
    }

    /// The same after the reply, for whoever comes next.
    pub(super) fn board_sight(self: &Arc<Self>, target: Target) {
        let pull = Arc::clone(self);
        let flight = target.flight();
        drop(self.memory.sights.board(flight, || async move { pull.look(target).await }));
    }

    async fn look(self: Arc<Self>, target: Target) -> Result<Arc<TagState>, Refusal> {
        let asked = if target.is_audit {
            self.asked_by_audit(&target.key)
        } else {
            self.asked(&target.key)
        };
        let result = self.look_at(&target, &asked).await;
        if let Err(refusal) = &result
            // These are told by their event, or by the line of the refusal alone.
            && !matches!(
                refusal.reason,
                Reason::DigestChanged | Reason::Offline | Reason::Overloaded | Reason::PinPending
            )
        {
            Self::tell_trouble(&target, refusal);
        }
        let result = match result {
            Err(refusal) => self.locked_all_the_same(&target, refusal).await,
            seen => seen,
        };
        let waits = result.as_ref().is_err_and(|refusal| refusal.reason == Reason::PinPending);
        // Under hold a failed ask counts too: the upstream is asked once per `recheck`, no more.
        if result.is_ok() || waits || target.rule.reaction == Reaction::Hold {
            asked.at_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        result
    }

    async fn look_at(
        self: &Arc<Self>,
        target: &Target,
        asked: &Asked,
    ) -> Result<Arc<TagState>, Refusal> {
        let question = target.question();
        let state = self.edges.ledger.state(&target.key).await?.unwrap_or_default();
        let state = self.reclaim(target, state).await?;
        // A manifest's GET may be what clients need the rest of a rate limit for.
        let spares = target.is_audit && !target.upstream.has_ample_room();
        // But not for ever: an upstream that says so each day would never be compared.
        let again = if spares { GET_AT_LEAST } else { GET_AGAIN };
        let is_head_enough = !self.is_get_due(asked, again);
        if (state.pin.is_some() || state.pending.is_some()) && is_head_enough {
            let head = self.head_manifest(&question).await?;
            if let Some(claim) = head.and_then(|answer| answer.digest)
                && self.is_known_answer(target, &state, claim)
            {
                self.count_same(target, asked, &state);
                return self.pinned_or_refused(target, state, claim);
            }
        }
        match self.get_manifest(&question).await {
            Ok(Some(fetched)) => {
                asked.got_ms.store(self.now_ms(), Ordering::Relaxed);
                self.judge_fetched(target, asked, state, fetched).await
            }
            Ok(None) => self.judge_missing(target, state).await,
            Err(refusal) => {
                self.write_invalid(target, &state, &refusal).await;
                Err(refusal)
            }
        }
    }

    fn is_get_due(&self, asked: &Asked, again: Duration) -> bool {
        let got_ms = asked.got_ms.load(Ordering::Relaxed);
        // After a start nothing was got yet; the day counts from the start then.
        let started = u64::try_from(self.memory.started.as_millis()).unwrap_or(u64::MAX);
        !is_within(got_ms.max(started), self.now_ms(), again)
    }

    /// Whether a HEAD's claim changes nothing: the pin with nothing open, the open conflict
    /// before it is due, or what a person rejected.
    fn is_known_answer(&self, target: &Target, state: &TagState, claim: Digest) -> bool {
        let Some(pin) = &state.pin else { return self.still_waits(target, state, claim) };
        if state.rejected.contains(&claim) {
            return true;
        }
        let (now_ms, sure_ms) = (self.edges.clock.wall_ms(), self.sure_ms());
        match &state.conflict {
            None => pin.content.digest == claim && state.deleted_ms.is_none(),
            Some(open) => {
                let accept_after = target.rule.accept_after.unwrap_or(Duration::MAX);
                let again = if target.is_audit { GET_AGAIN } else { REPEAT_INTERVAL };
                open.observed == claim
                    && state.deleted_ms.is_none()
                    && target.rule.reaction != Reaction::Alert
                    && is_within(open.recorded_ms, now_ms, again)
                    && is_within(open.since_ms, sure_ms, accept_after)
            }
        }
    }

    fn count_same(&self, target: &Target, asked: &Asked, state: &TagState) {
        let verdict = if state.conflict.is_some() {
            asked.repeats.fetch_add(1, Ordering::Relaxed);
            Verdict::Conflict
        } else if state.pin.is_none() {
            Verdict::Pending
        } else {
            Verdict::Match
        };
        self.count_verdict(verdict, target.rule.reaction);
    }

    async fn judge_fetched(
        self: &Arc<Self>,
        target: &Target,
        asked: &Asked,
        mut state: Arc<TagState>,
        fetched: Fetched,
    ) -> Result<Arc<TagState>, Refusal> {
        let parsed = Manifest::parse(&fetched.manifest.bytes, fetched.content_type.as_ref());
        let manifest = match parsed {
            Ok(manifest) => manifest,
            Err(error) => {
                let refusal = Refusal::unreadable(&error);
                self.write_invalid(target, &state, &refusal).await;
                return Err(refusal);
            }
        };
        let media_type = manifest.media_type.clone();
        let stored = StoredManifest::new(&fetched.computed, media_type, fetched.manifest.bytes);
        let mut counted = false;
        for _ in 0..ROUNDS {
            if open_claim(&state).is_some() {
                let sight = (&stored, &manifest);
                match self.judge_claimed(target, asked, &state, sight).await? {
                    Claimed::Settled(state) => return Ok(state),
                    Claimed::Again(newer) => state = newer,
                }
                continue;
            }
            let judgement = self.judge_now(target, &state, &stored, &manifest).await;
            if !std::mem::replace(&mut counted, true) {
                self.count_verdict(judgement.verdict, target.rule.reaction);
            }
            let Some(kind) = judgement.event else {
                if judgement.verdict == Verdict::Conflict {
                    asked.repeats.fetch_add(1, Ordering::Relaxed);
                }
                return self.pinned_or_refused(target, state, stored.content.digest);
            };
            state = match self.write_judged(target, asked, &state, &stored, kind).await? {
                Outcome::Written(state) if !follows(&target.rule, kind) => {
                    self.keep_if_moved(target, &state, kind);
                    return self.pinned_or_refused(target, state, stored.content.digest);
                }
                Outcome::Written(state) | Outcome::Raced(state) => state,
            };
        }
        self.pinned_or_refused(target, state, stored.content.digest)
    }

    async fn judge_now(
        &self,
        target: &Target,
        state: &TagState,
        stored: &StoredManifest,
        manifest: &Manifest,
    ) -> Judgement {
        let pinned = self.pinned_index(state).await;
        let sight = Sight {
            content: &stored.content,
            manifest,
            pinned: pinned.as_ref(),
            is_revoked: self.edges.ledger.is_revoked(&stored.content.digest),
            sure_ms: self.sure_ms(),
        };
        judge(&target.rule, state, &sight, self.edges.clock.wall_ms())
    }

    /// The pinned manifest, parsed, if it is an index: children and extensions need it.
    async fn pinned_index(&self, state: &TagState) -> Option<Manifest> {
        let pin = state.pin.as_ref()?;
        let media_type = &pin.content.media_type;
        media_type.manifest_kind().filter(|kind| kind.is_index())?;
        let digest = pin.content.digest;
        let bytes = match self.memory.manifests.get(&digest) {
            Some(manifest) => manifest.bytes,
            None => self.edges.ledger.manifest(&digest).await.ok()??.bytes,
        };
        Manifest::parse(&bytes, Some(media_type)).ok()
    }

    async fn judge_missing(
        self: &Arc<Self>,
        target: &Target,
        mut state: Arc<TagState>,
    ) -> Result<Arc<TagState>, Refusal> {
        state = self.claim_outlives(target, &state).await?;
        if state.pin.is_none() {
            if state.pending.is_some() {
                self.write_deleted(target, &state, EventKind::Deleted).await?;
            }
            let words = format!("the upstream has no {}", target.key);
            return Err(Refusal::new(Reason::ManifestUnknown, words));
        }
        for _ in 0..ROUNDS {
            let (event, _) = judge_gone(&state, self.sure_ms());
            let Some(kind) = event else { break };
            state = match self.write_deleted(target, &state, kind).await? {
                Outcome::Written(state) => {
                    self.keep_if_moved(target, &state, kind);
                    return Ok(state);
                }
                Outcome::Raced(state) => state,
            };
        }
        Ok(state)
    }

    /// The tag moved or vanished, and the pin stays: by now it may be all that has its content.
    fn keep_if_moved(self: &Arc<Self>, target: &Target, state: &TagState, kind: EventKind) {
        let moved =
            [EventKind::Conflict, EventKind::Deleted, EventKind::Flapped, EventKind::RolledBack];
        if let Some(pin) = state.pin.as_ref().filter(|_| moved.contains(&kind)) {
            self.complete_later(&target.origin(), &target.key, pin, Need::Contested);
        }
    }
}

/// Whether a second event may follow this one at once: under `alert` the pin follows.
fn follows(rule: &Rule, kind: EventKind) -> bool {
    rule.reaction == Reaction::Alert
        && matches!(
            kind,
            EventKind::Conflict | EventKind::Flapped | EventKind::Repeated | EventKind::RolledBack
        )
}
