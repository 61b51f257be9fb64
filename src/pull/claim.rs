//! A tag for which a person imported a digest, and which has no pin yet.
//!
//! The claim is no pin: nothing here has seen the content. An answer of the upstream confirms it
//! if it is that manifest, an index that names it, or an image with that config; then the answer
//! is the pin. Any other answer is a conflict, and reaches no client under `hold` and `block`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Pull;
use super::covered::Asked;
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use crate::event::{Draft, EventKind};
use crate::ledger::{Outcome, StoredManifest};
use crate::oci::{Digest, Manifest};
use crate::pin::{PinKey, Provenance, SEEN_LIMIT, TagState};
use crate::policy::judge::{REPEAT_INTERVAL, is_within};
use crate::policy::{Reaction, Rule, Verdict};

/// How many children of an index are asked for their config.
const CHILDREN: usize = 32;

/// What became of an observation of a tag with a claim.
pub(super) enum Claimed {
    /// Something was written, by this look or another: judge again.
    Again(Arc<TagState>),
    /// The tag has a pin.
    Settled(Arc<TagState>),
}

/// Why a claim is confirmed.
#[derive(Clone, Copy)]
pub(super) enum Ground {
    /// The tag's answer is it, or names it.
    Answered,
    /// A child of the tag's answer has it as its config.
    HasConfig,
    /// The upstream gives it by digest; the tag is gone.
    OutlivesTag,
    /// The upstream gives it by digest; the tag names another.
    StillThere,
    /// It is had by digest; what the tag names could not be learned.
    Unasked,
}

impl Ground {
    const fn words(self) -> &'static str {
        match self {
            Self::Answered => "",
            Self::HasConfig => "a child of it has the config that was imported",
            Self::OutlivesTag => "the upstream still gives it by digest, and has the tag no more",
            Self::StillThere => "the upstream still gives it by digest; the tag names another now",
            Self::Unasked => "it is had by digest; the upstream did not say what the tag names",
        }
    }
}

/// The claim that an observation has to agree with, if the tag has no pin.
pub(super) fn open_claim(state: &TagState) -> Option<Digest> {
    state.claim.as_ref().filter(|_| state.pin.is_none()).map(|claim| claim.digest)
}

/// What a contested claim is refused with while its upstream need not be asked again.
pub(super) fn contested(key: &PinKey, rule: &Rule, state: &TagState) -> Option<Refusal> {
    let (claim, open) = (open_claim(state)?, state.conflict.as_ref()?);
    let closes = matches!(rule.reaction, Reaction::Block | Reaction::Hold);
    closes.then(|| changed(key, claim, open.observed))
}

impl Pull {
    /// Judges an answer of the upstream by what was imported, and writes down what that comes to.
    ///
    /// # Errors
    /// The refusal, where nothing may be served; or what kept the upstream from being asked.
    pub(super) async fn judge_claimed(
        self: &Arc<Self>,
        target: &Target,
        asked: &Asked,
        state: &TagState,
        (observed, manifest): (&StoredManifest, &Manifest),
    ) -> Result<Claimed, Refusal> {
        let Some(claim) = open_claim(state) else {
            return Ok(Claimed::Again(Arc::new(state.clone())));
        };
        let digest = observed.content.digest;
        let denied = self.edges.ledger.is_revoked(&digest) || state.rejected.contains(&digest);
        let is_claim_revoked = self.edges.ledger.is_revoked(&claim);
        let is_exact = target.rule.is_exact;
        let bears_out = !is_exact && manifest.bears_out(&claim);
        if !denied && !is_claim_revoked && (digest == claim || bears_out) {
            return self.confirm(target, state, observed, Ground::Answered).await;
        }
        let held = self.claimed_manifest(target, claim).await?;
        if held.is_none()
            && !is_exact
            && !denied
            && !is_claim_revoked
            && self.has_config(target, manifest, claim).await?
        {
            return self.confirm(target, state, observed, Ground::HasConfig).await;
        }
        if let Some(held) = held.filter(|_| target.rule.reaction != Reaction::Alert || denied) {
            return self.confirm(target, state, &held, Ground::StillThere).await;
        }
        self.count_verdict(Verdict::Conflict, target.rule.reaction);
        let follows = target.rule.reaction == Reaction::Alert && !denied;
        let event = match self.conflict_with_claim(state, digest) {
            _ if denied => None,
            None | Some(EventKind::Repeated) if follows => Some(EventKind::Followed),
            event => event,
        };
        if let Some(kind) = event {
            let written = self.write_claimed(target, state, observed, (kind, claim, "")).await?;
            match written {
                Outcome::Written(state) if state.pin.is_some() => {
                    return Ok(Claimed::Settled(state));
                }
                Outcome::Written(state) if follows => return Ok(Claimed::Again(state)),
                Outcome::Written(_) => {}
                Outcome::Raced(state) => return Ok(Claimed::Again(state)),
            }
        }
        // It was asked, whatever came of it: not for each client again.
        asked.at_ms.store(self.now_ms(), Ordering::Relaxed);
        Err(changed(&target.key, claim, digest))
    }

    /// The upstream has no such tag: what was imported is pinned if it is still there by digest.
    pub(super) async fn claim_outlives(
        self: &Arc<Self>,
        target: &Target,
        state: &Arc<TagState>,
    ) -> Result<Arc<TagState>, Refusal> {
        let Some(claim) = open_claim(state) else { return Ok(Arc::clone(state)) };
        if let Some(held) = self.claimed_manifest(target, claim).await? {
            return match self.confirm(target, state, &held, Ground::OutlivesTag).await? {
                Claimed::Again(state) | Claimed::Settled(state) => Ok(state),
            };
        }
        if target.rule.reaction == Reaction::Alert {
            return Ok(Arc::clone(state));
        }
        let key = &target.key;
        Err(Refusal {
            pinned: Some(claim),
            help: format!("to start anew: immutag ledger forget {key} --reason WHY"),
            ..Refusal::new(
                Reason::PinnedContentGone,
                format!("{claim} was imported for {key}, and the upstream has neither of them"),
            )
        })
    }

    /// What was imported, where it is a manifest that the upstream still gives by digest, and that
    /// a covered tag may stand for.
    pub(super) async fn claimed_manifest(
        self: &Arc<Self>,
        target: &Target,
        claim: Digest,
    ) -> Result<Option<StoredManifest>, Refusal> {
        if self.edges.ledger.is_revoked(&claim) {
            return Ok(None);
        }
        match self.stored_or_fetched(&target.origin(), claim).await {
            Ok(found) => {
                let media_type = &found.content.media_type;
                let parsed = Manifest::parse(&found.bytes, Some(media_type));
                Ok(Some(found).filter(|_| parsed.is_ok()))
            }
            Err(refusal) if refusal.reason == Reason::ManifestUnknown => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether a child of an index is an image with this config.
    async fn has_config(
        self: &Arc<Self>,
        target: &Target,
        index: &Manifest,
        config: Digest,
    ) -> Result<bool, Refusal> {
        for child in index.children.iter().filter(|child| !child.is_attestation).take(CHILDREN) {
            let found = match self.stored_or_fetched(&target.origin(), child.digest).await {
                Ok(found) => found,
                Err(refusal) if refusal.reason == Reason::ManifestUnknown => continue,
                Err(refusal) => return Err(refusal),
            };
            let parsed = Manifest::parse(&found.bytes, Some(&found.content.media_type));
            if parsed.is_ok_and(|image| image.bears_out(&config)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// COMMIT POINT, as of a first sight: the pin and its bytes are durable when this returns.
    pub(super) async fn confirm(
        &self,
        target: &Target,
        state: &TagState,
        manifest: &StoredManifest,
        ground: Ground,
    ) -> Result<Claimed, Refusal> {
        let claim = open_claim(state).unwrap_or(manifest.content.digest);
        let event = (EventKind::Confirmed, claim, ground.words());
        Ok(match self.write_claimed(target, state, manifest, event).await? {
            // Pinned to the answer itself: done. Pinned to something else, it is judged by that.
            Outcome::Written(state) if matches!(ground, Ground::Answered | Ground::HasConfig) => {
                self.count_verdict(Verdict::Pin, target.rule.reaction);
                Claimed::Settled(state)
            }
            Outcome::Written(state) | Outcome::Raced(state) => Claimed::Again(state),
        })
    }

    fn conflict_with_claim(&self, state: &TagState, digest: Digest) -> Option<EventKind> {
        let Some(open) = &state.conflict else { return Some(EventKind::Conflict) };
        let is_seen = state.seen(&digest).is_some();
        let is_same = open.observed == digest || (!is_seen && state.seen.len() >= SEEN_LIMIT);
        if is_same {
            let now_ms = self.edges.clock.wall_ms();
            let is_due = !is_within(open.recorded_ms, now_ms, REPEAT_INTERVAL);
            return is_due.then_some(EventKind::Repeated);
        }
        Some(if is_seen { EventKind::Flapped } else { EventKind::Conflict })
    }

    async fn write_claimed(
        &self,
        target: &Target,
        state: &TagState,
        observed: &StoredManifest,
        (kind, claim, why): (EventKind, Digest, &str),
    ) -> Result<Outcome, Refusal> {
        let provenance = match kind {
            EventKind::Confirmed => Some(Provenance::Imported),
            EventKind::Followed => Some(Provenance::FirstSeen),
            _ => None,
        };
        let is_conflict = matches!(kind, EventKind::Conflict | EventKind::Flapped);
        let draft = Draft {
            pinned: Some(claim),
            observed: Some(observed.content.clone()),
            provenance,
            rule: target.rule.name.clone(),
            why: if is_conflict { "it is not what was imported".into() } else { why.into() },
            count: u64::from(kind == EventKind::Repeated),
            ..Draft::new(kind, Some(target.key.clone()))
        };
        let manifest = Some(observed.clone());
        let outcome = self.edges.ledger.append(draft.clone(), state.sequence, manifest).await?;
        if let Outcome::Written(_) = &outcome {
            self.tell(&draft, Some(target.rule.reaction));
            self.remember_seen(target, observed);
        }
        Ok(outcome)
    }
}

fn changed(key: &PinKey, claim: Digest, observed: Digest) -> Refusal {
    Refusal {
        pinned: Some(claim),
        observed: Some(observed),
        help: format!(
            "if the upstream is right: immutag ledger approve {key} --digest {observed} --reason \
             WHY; to drop the import: immutag ledger forget {key} --reason WHY"
        ),
        ..Refusal::new(
            Reason::DigestChanged,
            format!("{claim} was imported for {key}, but the upstream answers {observed}"),
        )
        .of(key)
    }
}
