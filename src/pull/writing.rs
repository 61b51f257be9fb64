//! Writing down what was judged, and telling it: one log line, one count.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::covered::Asked;
use super::hint::Remark;
use super::quota::Taken;
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use super::{ManifestRequest, Pull, Way};
use crate::event::{Draft, EventKind};
use crate::ledger::{LedgerError, Outcome, StoredManifest};
use crate::oci::Manifest;
use crate::pin::{Content, PinKey, Provenance, TagState};
use crate::policy::judge::is_unwatched;
use crate::policy::{Decision, Reaction, Rule, Verdict};
use crate::triage::Severity;

impl Pull {
    /// Writes the event that a judgement asks for. COMMIT POINT: what this returns as written is
    /// durable, with the manifest's bytes; a crash before it leaves nothing, and nothing of the
    /// observation was served.
    pub(super) async fn write_judged(
        self: &Arc<Self>,
        target: &Target,
        asked: &Asked,
        state: &TagState,
        observed: &StoredManifest,
        kind: EventKind,
    ) -> Result<Outcome, Refusal> {
        let taken = self.take_new(&target.upstream, state)?;
        let pin = state.standing();
        let provenance = match kind {
            EventKind::Accepted => Some(Provenance::Approved),
            EventKind::Pinned => Some(Provenance::FirstSeen),
            EventKind::Extended | EventKind::Followed => pin.map(|pin| pin.provenance),
            _ => None,
        };
        let repeats = asked.repeats.swap(0, Ordering::Relaxed);
        // 0: it was seen by nobody for so long that its time begins anew.
        let is_counted = kind == EventKind::Repeated && !is_unwatched(state, self.sure_ms());
        let count = if is_counted { repeats + 1 } else { 0 };
        let Remark { why, severity } = self.remark(kind, state, observed).await;
        let draft = Draft {
            pinned: pin.map(|pin| pin.content.digest),
            observed: Some(observed.content.clone()),
            provenance,
            rule: target.rule.name.clone(),
            why,
            count,
            ..Draft::new(kind, Some(target.key.clone()))
        };
        let outcome =
            self.edges.ledger.append(draft.clone(), state.sequence, Some(observed.clone())).await?;
        if let Outcome::Written(_) = &outcome {
            Taken::keep(taken);
            self.tell_with(&draft, Some(target.rule.reaction), severity);
            self.remember_seen(target, observed);
        }
        Ok(outcome)
    }

    pub(super) fn remember_seen(&self, target: &Target, observed: &StoredManifest) {
        let Target { upstream, key, .. } = target;
        let media_type = Some(observed.content.media_type.clone());
        let digest = observed.content.digest;
        self.memory.manifests.insert(digest, observed.clone());
        self.link(&upstream.name, &key.repository, &digest, media_type);
    }

    /// Writes down that the upstream deleted a pinned tag.
    pub(super) async fn write_deleted(
        &self,
        target: &Target,
        state: &TagState,
        kind: EventKind,
    ) -> Result<Outcome, Refusal> {
        let draft = Draft {
            pinned: state.pin.as_ref().map(|pin| pin.content.digest),
            rule: target.rule.name.clone(),
            ..Draft::new(kind, Some(target.key.clone()))
        };
        let outcome = self.edges.ledger.append(draft.clone(), state.sequence, None).await?;
        if let Outcome::Written(_) = &outcome {
            self.tell(&draft, Some(target.rule.reaction));
        }
        Ok(outcome)
    }

    /// Writes down, once per tag and hour, that the upstream's answer broke a rule. Best effort:
    /// nothing is served by it.
    pub(super) async fn write_invalid(
        self: &Arc<Self>,
        target: &Target,
        state: &TagState,
        refusal: &Refusal,
    ) {
        let told = matches!(
            refusal.reason,
            Reason::UpstreamDigestMismatch | Reason::UpstreamInvalid | Reason::UpstreamTooLarge
        );
        if !told || self.memory.invalid.contains_key(&target.key) {
            return;
        }
        let Ok(taken) = self.take_new(&target.upstream, state) else { return };
        self.memory.invalid.insert(target.key.clone(), ());
        let draft = Draft {
            pinned: state.pin.as_ref().map(|pin| pin.content.digest),
            rule: target.rule.name.clone(),
            why: format!("{}: {}", refusal.reason.name(), refusal.message),
            ..Draft::new(EventKind::Invalid, Some(target.key.clone()))
        };
        match self.edges.ledger.append(draft.clone(), state.sequence, None).await {
            Ok(Outcome::Written(_)) => {
                Taken::keep(taken);
                self.tell(&draft, Some(target.rule.reaction));
            }
            Ok(Outcome::Raced(_)) => {}
            Err(error) => {
                let key = &target.key;
                tracing::error!(%key, %error, "an invalid answer could not be written down");
            }
        }
    }

    /// A rule turned stricter: what was last verified and served becomes the pin, unless it is
    /// nothing that a covered tag may stand for; then the tag has none.
    pub(super) async fn promote(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        rule: &Rule,
        mut state: Arc<TagState>,
    ) -> Result<Arc<TagState>, Refusal> {
        // What the lock file says was there first.
        while state.pin.is_none() && !rule.is_exact {
            let Some(recorded) = &state.recorded else { break };
            let content = recorded.content.clone();
            let bytes = self.stored_or_fetched(&request.origin(), content.digest).await.ok();
            if !may_be_pinned(&content, bytes.as_ref()) {
                break;
            }
            let draft = Draft {
                pinned: Some(content.digest),
                observed: Some(content.clone()),
                provenance: Some(Provenance::FirstSeen),
                rule: rule.name.clone(),
                why: "last verified and served before the rule turned stricter".to_owned(),
                ..Draft::new(EventKind::Pinned, Some(key.clone()))
            };
            let outcome = self.edges.ledger.append(draft.clone(), state.sequence, bytes).await?;
            state = match outcome {
                Outcome::Written(state) => {
                    self.tell(&draft, Some(rule.reaction));
                    state
                }
                Outcome::Raced(state) => state,
            };
        }
        Ok(state)
    }

    /// A new digest at a tag under `record`.
    pub(super) async fn write_observed(self: &Arc<Self>, key: &PinKey, content: Content) {
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            match self.try_observed(key, &content).await {
                Ok(true) => return,
                // Another request wrote what it saw at the same time: compare with that.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%key, %error, "a new digest could not be written down");
                    return;
                }
            }
        }
    }

    /// Whether nothing is left to write; `false` if another write came first.
    async fn try_observed(
        self: &Arc<Self>,
        key: &PinKey,
        content: &Content,
    ) -> Result<bool, LedgerError> {
        let state = self.edges.ledger.state(key).await?.unwrap_or_default();
        // In this order: a pin that a stricter rule has made since is not overwritten.
        let Some(rule) = self.recording_rule(key) else { return Ok(true) };
        let is_known = state.pin.is_none()
            && state.recorded.as_ref().is_some_and(|last| last.content == *content);
        if is_known {
            return Ok(true);
        }
        let merging = &self.memory.merging;
        let Some(count) = merging.before(key, self.now_ms()) else { return Ok(true) };
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        // Beyond the quota it was served all the same, and is not written down.
        let taken = match upstream.map(|upstream| self.take_new(&upstream, &state)) {
            Some(Err(_)) => return Ok(true),
            Some(Ok(taken)) => taken,
            None => None,
        };
        let again = state.seen(&content.digest).is_some();
        let draft = Draft {
            pinned: state.standing().map(|last| last.content.digest),
            observed: Some(content.clone()),
            rule,
            why: if again { "seen before".to_owned() } else { String::new() },
            count,
            ..Draft::new(EventKind::Observed, Some(key.clone()))
        };
        let outcome = self.edges.ledger.append(draft.clone(), state.sequence, None).await?;
        let written = matches!(outcome, Outcome::Written(_));
        if written {
            Taken::keep(taken);
            merging.wrote(key, count, self.now_ms());
            self.tell(&draft, Some(Reaction::Record));
        }
        Ok(written)
    }

    /// The name of the rule by which the tag is recorded; `None` if it no longer is.
    fn recording_rule(&self, key: &PinKey) -> Option<String> {
        if !matches!(self.decide(key), Way::Recorded) {
            return None;
        }
        match self.settings.load().policy.decide(key) {
            Decision::Ruled(rule) if rule.reaction == Reaction::Record => Some(rule.name.clone()),
            Decision::Unmatched => Some(String::new()),
            Decision::Ruled(_) | Decision::Exempt => None,
        }
    }

    /// What a tag's rule does on a conflict; `None` if no rule covers it.
    pub fn reaction(&self, key: &PinKey) -> Option<Reaction> {
        if let Way::Covered(rule) = self.decide(key) {
            return Some(rule.reaction);
        }
        match self.settings.load().policy.decide(key) {
            Decision::Ruled(rule) => Some(rule.reaction),
            Decision::Exempt | Decision::Unmatched => None,
        }
    }

    pub(super) fn count_verdict(&self, verdict: Verdict, reaction: Reaction) {
        let labels = [verdict.name(), reaction.name()];
        self.edges.metrics.verdicts.with_label_values(&labels).inc();
    }

    pub(super) fn tell_trouble(target: &Target, refusal: &Refusal) {
        let Target { key, upstream, .. } = target;
        tracing::warn!(
            upstream = %upstream.name,
            repository = %key.repository,
            tag = %key.tag,
            reason = refusal.reason.name(),
            sub_reason = refusal.sub_reason,
            why = %refusal.message,
            "the upstream could not be compared with the ledger"
        );
    }

    pub(super) fn tell(&self, draft: &Draft, reaction: Option<Reaction>) {
        self.tell_with(draft, reaction, None);
    }

    /// Counts and logs an event that is durable, with how alarming it looks.
    fn tell_with(&self, draft: &Draft, reaction: Option<Reaction>, severity: Option<Severity>) {
        let metrics = &self.edges.metrics;
        metrics.events.with_label_values(&[draft.kind.name()]).inc();
        let Some(key) = &draft.key else { return };
        let reaction = reaction.map_or("", Reaction::name);
        let is_conflict =
            matches!(draft.kind, EventKind::Conflict | EventKind::Flapped | EventKind::RolledBack);
        if is_conflict {
            metrics.conflicts.with_label_values(&[reaction]).inc();
        }
        let text = |digest: Option<crate::oci::Digest>| digest.map(|digest| digest.to_string());
        let observed = draft.observed.as_ref().map(|content| content.digest);
        macro_rules! line {
            ($level:ident, $words:literal) => {
                tracing::$level!(
                    event = draft.kind.name(),
                    upstream = %key.registry,
                    repository = %key.repository,
                    tag = %key.tag,
                    pinned = text(draft.pinned),
                    observed = text(observed),
                    reaction,
                    rule = draft.rule,
                    severity = severity.map(Severity::name),
                    why = draft.why,
                    $words
                )
            };
        }
        match draft.kind {
            _ if is_conflict => line!(error, "a tag moved: the upstream answers another digest"),
            EventKind::Pinned => line!(info, "first sight: pinned"),
            EventKind::Confirmed => line!(info, "what was imported is confirmed: pinned"),
            EventKind::Pending => line!(info, "a tag without a pin is too young to be served"),
            EventKind::Observed => line!(info, "a recorded tag has a new digest"),
            EventKind::Followed => line!(warn, "the pin followed the upstream, by rule"),
            EventKind::Accepted => line!(warn, "the new digest stood long enough: it is the pin"),
            EventKind::Deleted => line!(warn, "the upstream says that a pinned tag is gone"),
            EventKind::Healed => line!(warn, "the upstream is back at the pin"),
            EventKind::Extended => line!(info, "the index gained platforms within settle"),
            EventKind::Downgraded => line!(info, "the upstream answered a child of the pin"),
            EventKind::Invalid => line!(warn, "the upstream's answer broke a rule"),
            _ => line!(warn, "the ledger took an event"),
        }
    }
}

/// Whether a covered tag may stand for what was recorded: as far as its bytes are still here, they
/// must pass as those of a first sight would.
fn may_be_pinned(content: &Content, manifest: Option<&StoredManifest>) -> bool {
    content.media_type.manifest_kind().is_some()
        && manifest.is_none_or(|it| Manifest::parse(&it.bytes, Some(&content.media_type)).is_ok())
}
