//! A tag of the lock file: held to the very digest, whatever upstream, person or clock say.
//!
//! It goes the way of every covered tag, under the lock's own rule. What is different is here: the
//! ledger must agree with the file, and what cannot be had is refused so that no client goes round.

use std::sync::Arc;

use super::claim::{Claimed, Ground, open_claim};
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use super::standing::Epoch;
use super::{Lock, ManifestReply, ManifestRequest, Pull};
use crate::config::ListenerKind;
use crate::event::{Draft, EventKind};
use crate::ledger::{Outcome, StoredManifest};
use crate::oci::Digest;
use crate::pin::{PinKey, Provenance, TagState};
use crate::policy::Rule;

impl Pull {
    /// Answers for a tag of the lock file.
    pub(super) async fn locked(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: PinKey,
        rule: Arc<Rule>,
        epoch: Option<Epoch>,
    ) -> Result<ManifestReply, Refusal> {
        let listener = request.asker.listener;
        self.check_lock(&key, &rule, None).await?;
        let replied = self.covered(request, key.clone(), rule, epoch).await;
        replied.map_err(|refusal| match self.held_by_lock(&key) {
            Some((lock, digest)) => in_words(refusal, &lock, (&key, digest), listener),
            None => refusal,
        })
    }

    /// Whether the digest of the file may be served, and is what the ledger has, as far as it has
    /// a pin. `state` is that after the upstream was asked, or `None`: as it is now.
    pub(super) async fn check_lock(
        &self,
        key: &PinKey,
        rule: &Rule,
        state: Option<&TagState>,
    ) -> Result<(), Refusal> {
        let held = if rule.is_exact { self.held_by_lock(key) } else { None };
        let Some((lock, digest)) = held else { return Ok(()) };
        if self.edges.ledger.is_revoked(&digest) {
            return Err(Refusal { pinned: Some(digest), ..Refusal::revoked(digest).of(key) });
        }
        let read = match state {
            Some(_) => None,
            None => self.edges.ledger.state(key).await.map_err(|it| Refusal::from(it).of(key))?,
        };
        let pin = state.or(read.as_deref()).and_then(|state| state.pin.as_ref());
        match pin.map(|pin| pin.content.digest) {
            Some(other) if other != digest => Err(disagrees(&lock, key, digest, other)),
            _ => Ok(()),
        }
    }

    /// The claim of the file, where a person let the ledger forget it: without it the next answer
    /// of the upstream would be a first sight.
    pub(super) async fn reclaim(
        &self,
        target: &Target,
        mut state: Arc<TagState>,
    ) -> Result<Arc<TagState>, Refusal> {
        let held = if target.rule.is_exact { self.held_by_lock(&target.key) } else { None };
        let Some((lock, digest)) = held else { return Ok(state) };
        while state.pin.is_none() {
            match open_claim(&state) {
                Some(claim) if claim == digest => break,
                Some(other) => return Err(disagrees(&lock, &target.key, digest, other)),
                None => {}
            }
            let draft = Draft {
                pinned: Some(digest),
                provenance: Some(Provenance::Imported),
                who: "immutag".to_owned(),
                why: format!("the lock file {} has it", lock.name),
                ..Draft::new(EventKind::Imported, Some(target.key.clone()))
            };
            state = match self.edges.ledger.append(draft.clone(), state.sequence, None).await? {
                Outcome::Written(state) => {
                    self.tell(&draft, Some(target.rule.reaction));
                    state
                }
                Outcome::Raced(state) => state,
            };
        }
        Ok(state)
    }

    /// The upstream did not say what the tag is, or said nonsense: what the file has is confirmed
    /// by its content alone, from here or from the upstream.
    pub(super) async fn locked_all_the_same(
        self: &Arc<Self>,
        target: &Target,
        refusal: Refusal,
    ) -> Result<Arc<TagState>, Refusal> {
        if !target.rule.is_exact || (refusal.reason.is_ours() && refusal.reason != Reason::Offline)
        {
            return Err(refusal);
        }
        let state = self.edges.ledger.state(&target.key).await?.unwrap_or_default();
        let Some(claim) = open_claim(&state) else { return Err(refusal) };
        match self.claimed_manifest(target, claim).await {
            Ok(Some(held)) => match self.confirm(target, &state, &held, Ground::Unasked).await? {
                Claimed::Again(state) | Claimed::Settled(state) => Ok(state),
            },
            Ok(None) | Err(_) => Err(refusal),
        }
    }

    /// Keeps a locked manifest in the cache, too: a ledger in memory does not outlast the job, and
    /// the next one may have this cache and no upstream.
    pub(super) fn store_locked(&self, manifest: &StoredManifest) {
        let (store, digest) = (Arc::clone(&self.edges.store), manifest.content.digest);
        let bytes = manifest.bytes.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.put(&digest, &bytes) {
                tracing::debug!(%digest, %error, "a manifest was not cached");
            }
        });
    }

    /// The lock, and what it says of a tag.
    fn held_by_lock(&self, key: &PinKey) -> Option<(Arc<Lock>, Digest)> {
        let lock = self.settings.load().lock.clone()?;
        let digest = lock.tag(key)?.digest;
        Some((lock, digest))
    }
}

fn disagrees(lock: &Lock, key: &PinKey, locked: Digest, other: Digest) -> Refusal {
    Refusal {
        pinned: Some(locked),
        observed: Some(other),
        help: format!(
            "if the lock file is right: immutag ledger approve {key} --digest {locked} --reason \
             WHY; if the ledger is: immutag lock --update={key}, and start anew"
        ),
        ..Refusal::new(
            Reason::DigestChanged,
            format!(
                "the lock file {} holds {key} at {locked}, but the ledger has {other}",
                lock.name
            ),
        )
        .of(key)
    }
}

/// A refusal as it is to be read of a locked tag. On a mirror even the upstream's trouble is ours:
/// a plain error sends the client to the registry, for whatever the tag is there.
fn in_words(
    refusal: Refusal,
    lock: &Lock,
    (key, digest): (&PinKey, Digest),
    listener: ListenerKind,
) -> Refusal {
    let name = &lock.name;
    let help = format!("if the change is wanted: immutag lock --update={key}");
    match (refusal.reason, refusal.observed) {
        (Reason::DigestChanged, Some(observed)) if refusal.pinned == Some(digest) => {
            if refusal.message.starts_with("the lock file") {
                return refusal;
            }
            let message = format!(
                "the lock file {name} holds {key} at {digest}, which the upstream has no more; it \
                 answers {observed}"
            );
            Refusal { message, help, ..refusal }
        }
        (Reason::PinnedContentGone, _) => Refusal { help, ..refusal },
        (reason, _) if listener == ListenerKind::Mirror && !reason.is_ours() => Refusal {
            reason: Reason::PinnedContentGone,
            pinned: Some(digest),
            message: format!(
                "the lock file {name} holds {key} at {digest}, which is not to be had now: {} ({})",
                refusal.message,
                reason.name()
            ),
            ..refusal.of(key)
        },
        _ => refusal,
    }
}
