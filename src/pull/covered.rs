//! A tag under `alert`, `hold` or `block`: the ledger decides, the upstream is only a witness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::claim;
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use super::standing::Epoch;
use super::{ManifestReply, ManifestRequest, Pull};
use crate::journal::Outcome;
use crate::ledger::StoredManifest;
use crate::oci::{Digest, Manifest, ManifestReference};
use crate::pin::{Pin, PinKey, TagState};
use crate::policy::judge::{WARN_AFTER_FOLLOWING, is_within, judge_gone};
use crate::policy::{Reaction, Rule, Serve};

/// How long `alert` and `block` wait for the upstream before they answer from the pin.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// When a tag's upstream was asked, in this process: a match writes nothing.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// When any ask last succeeded, in milliseconds of the monotonic clock, plus one; 0: never.
    pub(super) at_ms: AtomicU64,
    /// The same for a GET.
    pub(super) got_ms: AtomicU64,
    /// Repeats of the open conflict that are not written down yet.
    pub(super) repeats: AtomicU64,
    /// The sequence of the pin whose content was read, linked and marked as kept.
    pub(super) linked: AtomicU64,
    /// How many marks there had been by then.
    pub(super) linked_at: AtomicU64,
}

impl Pull {
    pub(super) fn asked(&self, key: &PinKey) -> Arc<Asked> {
        match self.memory.asked.get(key) {
            Some(asked) => asked,
            None => self.memory.asked.get_with(key.clone(), Arc::default),
        }
    }

    /// Milliseconds of the monotonic clock, plus one.
    pub(super) fn now_ms(&self) -> u64 {
        let now = self.edges.clock.monotonic().as_millis();
        u64::try_from(now).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Answers for a covered tag.
    pub(super) async fn covered(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: PinKey,
        rule: Arc<Rule>,
        epoch: Option<Epoch>,
    ) -> Result<ManifestReply, Refusal> {
        let asked = self.asked(&key);
        let result = self.cover(&request, &key, &rule, &asked).await;
        let (state, trouble) = result.map_err(|refusal| refusal.of(&key))?;
        self.check_lock(&key, &rule, Some(&state)).await?;
        let is_unsure = trouble.is_some();
        let warnings = self.stand(&key, &rule, &state, trouble)?;
        let outcome = self.outcome(&state, is_unsure);
        let pin = state.pin.as_ref().ok_or_else(|| unpinned(&key))?;
        let manifest = self.pinned(&request, &key, pin, &asked).await;
        let manifest = manifest.map_err(|refusal| refusal.of(&key))?;
        let shown = self.represent(&request, &key, manifest).await;
        let (manifest, digest) = shown.map_err(|refusal| refusal.of(&key))?;
        let revoked = self.check_revoked(&request.origin(), &manifest).await;
        revoked.map_err(|refusal| refusal.of(&key))?;
        let whole = self.check_whole(&request, &key, &state, &manifest).await;
        whole.map_err(|refusal| refusal.of(&key))?;
        let standing = self.standing_of_tag(epoch, &state, &rule, &asked, digest);
        let standing = standing.filter(|_| warnings.is_empty());
        Ok(ManifestReply { warnings, outcome, digest: Some(digest), standing, ..manifest.into() })
    }

    /// The tag's state after whatever has to be asked first, and what went wrong while asking.
    async fn cover(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        rule: &Arc<Rule>,
        asked: &Asked,
    ) -> Result<(Arc<TagState>, Option<Refusal>), Refusal> {
        let state = self.edges.ledger.state(key).await?;
        self.permit_covered(request, state.as_deref()).await?;
        if is_fresh(asked, rule, self.now_ms())
            && let Some(refusal) = state.as_deref().and_then(|it| claim::contested(key, rule, it))
        {
            return Err(refusal);
        }
        let state = match state {
            // What was recorded is compared with what was imported first.
            Some(state) if state.pin.is_some() => state,
            Some(state) if state.recorded.is_some() && state.claim.is_none() => state,
            state => {
                let target = target(request, key, rule);
                return Ok((self.first_sight(target, state.as_deref(), asked).await?, None));
            }
        };
        let state = self.promote(request, key, rule, state).await?;
        if state.pin.is_none() {
            let target = target(request, key, rule);
            return Ok((self.first_sight(target, Some(&state), asked).await?, None));
        }
        // "Gone" must be true right now: the upstream may have the tag again.
        let is_gone = self.is_gone(&state);
        if !is_gone && is_fresh(asked, rule, self.now_ms()) {
            return Ok((state, None));
        }
        // Nobody is asked, so nothing is known against the pin that was not known before.
        if self.is_offline(&request.upstream) {
            return Ok((state, None));
        }
        let target = target(request, key, rule);
        if !is_gone && self.answers_first(request, rule, &state).await {
            self.board_sight(target);
            return Ok((state, None));
        }
        match tokio::time::timeout(PATIENCE, self.sight(target)).await {
            Ok(Ok(state)) => Ok((state, None)),
            Ok(Err(refusal)) => Ok((state, Some(refusal))),
            Err(_) => {
                // Under hold it counts as a look that failed: nobody else waits for this one.
                if rule.reaction == Reaction::Hold {
                    asked.at_ms.store(self.now_ms(), Ordering::Relaxed);
                }
                let slow = "the upstream did not answer within 5 s";
                Ok((state, Some(Refusal::new(Reason::UpstreamTimeout, slow))))
            }
        }
    }

    /// Whether the pin may be served before the upstream was asked: under `hold`, and if nothing
    /// that the upstream could have deleted meanwhile is missing here.
    async fn answers_first(
        self: &Arc<Self>,
        request: &ManifestRequest,
        rule: &Rule,
        state: &TagState,
    ) -> bool {
        let Some(pin) = &state.pin else { return false };
        rule.reaction == Reaction::Hold && self.is_whole_here(request, pin).await
    }

    /// Whether the upstream lets this client read the tag, or, where it has the tag no more, what
    /// the tag is pinned to.
    async fn permit_covered(
        &self,
        request: &ManifestRequest,
        state: Option<&TagState>,
    ) -> Result<(), Refusal> {
        let ManifestRequest { upstream, repository, reference, asker, .. } = request;
        let permitted = self.permit(upstream, repository, reference, asker).await;
        let pin = state.and_then(|state| state.pin.as_ref());
        match (permitted, pin) {
            (Err(refusal), Some(pin)) if refusal.reason == Reason::ManifestUnknown => {
                let pinned = ManifestReference::Digest(pin.content.digest);
                self.permit(upstream, repository, &pinned, asker).await
            }
            (permitted, _) => permitted,
        }
    }

    /// Whether the pin is served, with which warnings, or what stands against it.
    fn stand(
        &self,
        key: &PinKey,
        rule: &Rule,
        state: &TagState,
        trouble: Option<Refusal>,
    ) -> Result<Vec<String>, Refusal> {
        let now_ms = self.edges.clock.wall_ms();
        if let Some(pin) = &state.pin
            && self.edges.ledger.is_revoked(&pin.content.digest)
        {
            return Err(revoked_pin(key, pin));
        }
        if self.is_gone(state) {
            return Err(gone(key, state));
        }
        let mut warnings = Vec::new();
        if let (Some(pin), Some(open)) = (&state.pin, &state.conflict) {
            if rule.reaction == Reaction::Block {
                return Err(changed(key, pin, open.observed));
            }
            warnings.push(format!(
                "immutag: {key} is held at {}; the upstream now answers {}",
                pin.content.digest, open.observed
            ));
        }
        if let Some((pin, from)) = just_moved(state, now_ms) {
            let digest = pin.content.digest;
            warnings.push(format!("immutag: {key} moved from {from} to {digest}"));
        }
        if let Some(trouble) = trouble {
            let why = trouble.message;
            warnings.push(format!("immutag: the recorded manifest, unverified now: {why}"));
        }
        Ok(warnings)
    }

    /// What came of a request that is answered from the pin.
    fn outcome(&self, state: &TagState, is_unsure: bool) -> Outcome {
        if state.conflict.is_some() {
            Outcome::Held
        } else if is_unsure {
            Outcome::Stale
        } else if just_moved(state, self.edges.clock.wall_ms()).is_some() {
            Outcome::Followed
        } else {
            Outcome::Pinned
        }
    }

    /// Whether the upstream deleted the tag while its pin was young.
    fn is_gone(&self, state: &TagState) -> bool {
        state.deleted_ms.is_some() && judge_gone(state, self.sure_ms()).1 == Serve::Refusal
    }

    /// The pinned bytes: from memory, from the ledger, from the store, else by the pinned digest
    /// from the upstream.
    async fn pinned(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        pin: &Pin,
        asked: &Asked,
    ) -> Result<StoredManifest, Refusal> {
        let digest = pin.content.digest;
        let manifest = match self.memory.manifests.get(&digest) {
            Some(manifest) => Some(manifest),
            None => self.load_pinned(pin).await,
        };
        let manifest = match manifest {
            Some(manifest) => {
                self.edges.metrics.cache_hits.with_label_values(&["manifest"]).inc();
                StoredManifest { content: pin.content.clone(), bytes: manifest.bytes }
            }
            None => self.fetch_pinned(request, key, pin).await?,
        };
        if !self.is_marked(asked, pin) {
            // What was recorded became the pin by its digest alone, if its bytes were not at hand.
            let parsed = Manifest::parse(&manifest.bytes, Some(&pin.content.media_type));
            parsed.map_err(|error| not_held(key, digest, &Refusal::unreadable(&error)))?;
            self.keep_pinned(&request.origin(), key, pin, &manifest);
        }
        Ok(manifest)
    }

    pub(super) async fn load_pinned(&self, pin: &Pin) -> Option<StoredManifest> {
        let digest = pin.content.digest;
        let stored = match self.edges.ledger.manifest(&digest).await {
            Ok(Some(stored)) => Some(stored),
            Ok(None) => self.load_stored(&digest, pin.content.media_type.clone()).await,
            Err(error) => {
                tracing::error!(%digest, %error, "the ledger did not give back a pinned manifest");
                self.load_stored(&digest, pin.content.media_type.clone()).await
            }
        }?;
        self.memory.manifests.insert(digest, stored.clone());
        Some(stored)
    }

    async fn fetch_pinned(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        pin: &Pin,
    ) -> Result<StoredManifest, Refusal> {
        let digest = pin.content.digest;
        let fetched = self.stored_or_fetched(&request.origin(), digest).await;
        let manifest = fetched.map_err(|refusal| not_held(key, digest, &refusal))?;
        Ok(StoredManifest { content: pin.content.clone(), bytes: manifest.bytes })
    }

    /// The representation that the client can take: the canonical bytes, or the linux/amd64
    /// child that the *pinned* index names; and the digest under which the client knows it.
    async fn represent(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        manifest: StoredManifest,
    ) -> Result<(StoredManifest, Digest), Refusal> {
        let pinned = manifest.content.digest;
        let kind = manifest.content.media_type.manifest_kind();
        if kind.is_none_or(|kind| request.accept.takes(kind)) {
            return Ok((manifest, pinned));
        }
        let index = Manifest::parse(&manifest.bytes, Some(&manifest.content.media_type))
            .map_err(|error| not_held(key, pinned, &Refusal::unreadable(&error)))?;
        let child = index.child("linux", "amd64").ok_or_else(|| Refusal {
            pinned: Some(pinned),
            help: "ask with an Accept that takes an index".into(),
            ..Refusal::new(
                Reason::PinnedContentGone,
                "the tag is an index without linux/amd64, and the request accepts no index",
            )
        })?;
        if self.edges.ledger.is_revoked(&child.digest) {
            return Err(Refusal::revoked(child.digest));
        }
        let fetched = self.stored_or_fetched(&request.origin(), child.digest).await;
        let manifest = fetched.map_err(|refusal| not_held(key, child.digest, &refusal))?;
        Ok((manifest, child.digest))
    }
}

/// The pin, and what it followed the upstream from within the last 24 hours.
fn just_moved(state: &TagState, now_ms: u64) -> Option<(&Pin, &Digest)> {
    let (pin, from) = state.pin.as_ref().zip(state.followed_from.as_ref())?;
    is_within(pin.since_ms, now_ms, WARN_AFTER_FOLLOWING).then_some((pin, from))
}

/// Whether the upstream was asked less than `recheck` ago.
fn is_fresh(asked: &Asked, rule: &Rule, now_ms: u64) -> bool {
    let at_ms = asked.at_ms.load(Ordering::Relaxed);
    at_ms != 0 && is_within(at_ms, now_ms, rule.recheck)
}

fn target(request: &ManifestRequest, key: &PinKey, rule: &Arc<Rule>) -> Target {
    Target {
        upstream: Arc::clone(&request.upstream),
        key: key.clone(),
        rule: Arc::clone(rule),
        credential: request.asker.credential_for(&request.upstream),
        is_audit: false,
    }
}

fn unpinned(key: &PinKey) -> Refusal {
    Refusal::new(Reason::LedgerUnavailable, "the ledger gave a covered tag no pin").of(key)
}

fn revoked_pin(key: &PinKey, pin: &Pin) -> Refusal {
    let digest = pin.content.digest;
    Refusal {
        pinned: Some(digest),
        observed: None,
        help: format!("to pin another: immutag ledger approve {key} --digest D --reason WHY"),
        ..Refusal::revoked(digest).of(key)
    }
}

/// In the block's form on a mirror: a plain 404 sends clients to the real registry, where by then
/// there may be something else.
fn gone(key: &PinKey, state: &TagState) -> Refusal {
    let pinned = state.pin.as_ref().map(|pin| pin.content.digest);
    let pin = pinned.map_or_else(|| "D".to_owned(), |digest| digest.to_string());
    Refusal {
        pinned,
        help: format!(
            "to serve the pin all the same: immutag ledger approve {key} --digest {pin} --reason \
             WHY; to start anew: immutag ledger forget {key} --reason WHY"
        ),
        ..Refusal::new(
            Reason::PinnedContentGone,
            format!("the upstream deleted {key} within 72 h of its first sight"),
        )
        .of(key)
    }
}

/// `digest`, the pin or a child of it, is not to be had.
fn not_held(key: &PinKey, digest: Digest, trouble: &Refusal) -> Refusal {
    Refusal {
        pinned: Some(digest),
        help: format!(
            "to follow the upstream instead: immutag ledger approve {key} --digest D --reason WHY; \
             to start anew: immutag ledger forget {key} --reason WHY"
        ),
        retry_after: trouble.retry_after,
        ..Refusal::new(
            Reason::PinnedContentGone,
            format!("the pinned manifest {digest} is not held here: {}", trouble.message),
        )
    }
}

fn changed(key: &PinKey, pin: &Pin, observed: Digest) -> Refusal {
    let pinned = pin.content.digest;
    Refusal {
        pinned: Some(pinned),
        observed: Some(observed),
        help: format!(
            "if the change is wanted: immutag ledger approve {key} --digest {observed} \
             --reason WHY; if not: immutag ledger reject {key} --digest {observed} --reason WHY"
        ),
        ..Refusal::new(
            Reason::DigestChanged,
            format!("{key} is pinned to {pinned}, but the upstream now answers {observed}"),
        )
        .of(key)
    }
}
