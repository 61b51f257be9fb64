//! A tag under `record`, and what is exempt: the client gets what the upstream says, as it says
//! it; a new digest is written down after the reply.

use std::sync::Arc;
use std::time::Duration;

use super::asking::Question;
use super::refusal::{Reason, Refusal};
use super::{ManifestReply, ManifestRequest, Pull, place};
use crate::config::Credentials;
use crate::journal::Outcome;
use crate::ledger::StoredManifest;
use crate::oci::{Digest, ManifestKind};
use crate::pin::{Content, PinKey};
use crate::policy::judge::is_within;

impl Pull {
    /// Whether the upstream's HEAD named this digest for the tag within the minute, and the client
    /// was told so; nothing of it was hashed yet.
    pub fn is_claimed(&self, key: &PinKey, digest: &Digest) -> bool {
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        let claim = upstream.map(|it| (place(&it.name, &key.repository), *digest));
        claim.and_then(|claim| self.memory.claims.get(&claim)).is_some_and(|of| of == *key)
    }

    /// Answers for a tag that is not covered: as the upstream does, but for what a person denied
    /// everywhere. `key` is the tag to observe, `None` for what is exempt.
    pub(super) async fn uncovered(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: Option<PinKey>,
    ) -> Result<ManifestReply, Refusal> {
        let origin = request.origin();
        let reply = match key {
            Some(key) => self.recorded(request, key).await?,
            None => ManifestReply { outcome: Outcome::Exempt, ..self.relay(request, None).await? },
        };
        self.check_reply(&origin, &reply).await?;
        Ok(reply)
    }

    /// Answers for a recorded tag; while the upstream fails, with the last verified answer.
    async fn recorded(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: PinKey,
    ) -> Result<ManifestReply, Refusal> {
        let upstream = Arc::clone(&request.upstream);
        let accept = request.accept;
        let is_private = upstream.config.credentials == Credentials::Client;
        match self.relay(request, Some(&key)).await {
            Err(refusal) if is_trouble(refusal.reason) && !is_private => {
                let stale = self.last_verified(&key).await.filter(|manifest| {
                    let kind = manifest.content.media_type.manifest_kind();
                    accept.takes_indexes() || !kind.is_some_and(ManifestKind::is_index)
                });
                let Some(manifest) = stale else { return Err(refusal) };
                let mut reply = ManifestReply::from(manifest);
                reply.outcome = Outcome::Stale;
                let why = if refusal.reason == Reason::Offline {
                    "immutag is offline".to_owned()
                } else {
                    format!("the upstream fails: {}", refusal.message)
                };
                reply.warnings = vec![format!("immutag: the last verified answer, since {why}")];
                Ok(reply)
            }
            reply => reply,
        }
    }

    /// Forwards the request as it came; `key` is the tag to observe, `None` for what is exempt.
    async fn relay(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: Option<&PinKey>,
    ) -> Result<ManifestReply, Refusal> {
        let credential = request.asker.credential_for(&request.upstream);
        let question = Question {
            upstream: Arc::clone(&request.upstream),
            repository: request.repository.clone(),
            reference: request.reference.clone(),
            accept: request.accept_text.clone(),
            credential,
        };
        if request.is_head
            && let Some(reply) = self.relay_head(&question, &request, key).await?
        {
            return Ok(reply);
        }
        let fetched = self.get_manifest(&question).await?.ok_or_else(|| unknown(&question))?;
        self.admit(&question);
        let manifest = fetched.manifest;
        if self.edges.ledger.is_revoked(&manifest.content.digest) {
            return Err(Refusal::revoked(manifest.content.digest));
        }
        self.cache_relayed(&question, &manifest);
        if let Some(key) = key {
            self.asked(key).at_ms.store(self.now_ms(), std::sync::atomic::Ordering::Relaxed);
            if request.accept.takes_indexes() {
                self.observe_later(key.clone(), manifest.content.clone());
            }
        }
        Ok(ManifestReply { outcome: Outcome::Recorded, ..manifest.into() })
    }

    /// Relays a HEAD's claim; `None` if the answer has no digest, so that a GET must tell.
    async fn relay_head(
        &self,
        question: &Question,
        request: &ManifestRequest,
        key: Option<&PinKey>,
    ) -> Result<Option<ManifestReply>, Refusal> {
        let answer = self.head_manifest(question).await?.ok_or_else(|| unknown(question))?;
        self.admit(question);
        let (Some(digest), Some(size_bytes)) = (answer.digest, answer.content_length) else {
            return Ok(None);
        };
        if self.edges.ledger.is_revoked(&digest) {
            return Err(Refusal::revoked(digest));
        }
        if let Some(key) = key.filter(|_| request.accept.takes_indexes()) {
            let at = place(&request.upstream.name, &request.repository);
            self.memory.claims.insert((at, digest), key.clone());
        }
        Ok(Some(ManifestReply {
            digest: Some(digest),
            media_type: answer.content_type,
            size_bytes: Some(size_bytes),
            bytes: None,
            warnings: Vec::new(),
            outcome: Outcome::Recorded,
            standing: None,
        }))
    }

    /// Caches by digest what passed and verified: the client's next request is by that digest.
    fn cache_relayed(&self, question: &Question, manifest: &StoredManifest) {
        let digest = manifest.content.digest;
        self.memory.manifests.insert(digest, manifest.clone());
        let media_type = Some(manifest.content.media_type.clone());
        self.link(&question.upstream.name, &question.repository, &digest, media_type);
        let (store, bytes) = (Arc::clone(&self.edges.store), manifest.bytes.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.put(&digest, &bytes) {
                tracing::debug!(%digest, %error, "a manifest was not cached");
            }
        });
    }

    /// Writes a recorded tag's digest down, after the reply.
    pub(super) fn observe_later(self: &Arc<Self>, key: PinKey, content: Content) {
        let pull = Arc::clone(self);
        tokio::spawn(async move { pull.write_observed(&key, content).await });
    }

    async fn last_verified(&self, key: &PinKey) -> Option<StoredManifest> {
        let settings = self.settings.load();
        // Nobody waits for an upstream that is not asked: the answer counts for ever.
        let limit = if settings.offline { Duration::MAX } else { settings.stale_if_error };
        // After a start nothing was asked yet; the time counts from the start then.
        let started = u64::try_from(self.memory.started.as_millis()).unwrap_or(u64::MAX);
        let asked = self.asked(key).at_ms.load(std::sync::atomic::Ordering::Relaxed);
        if limit == Duration::ZERO || !is_within(asked.max(started), self.now_ms(), limit) {
            return None;
        }
        let state = self.edges.ledger.state(key).await.ok()??;
        let content = &state.standing()?.content;
        if self.edges.ledger.is_revoked(&content.digest) {
            return None;
        }
        match self.memory.manifests.get(&content.digest) {
            Some(manifest) => {
                Some(StoredManifest { content: content.clone(), bytes: manifest.bytes })
            }
            None => self.load_stored(&content.digest, content.media_type.clone()).await,
        }
    }
}

/// Whether the upstream failed, or was not asked, rather than refused.
fn is_trouble(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Offline
            | Reason::Overloaded
            | Reason::UpstreamRateLimited
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnavailable
    )
}

fn unknown(question: &Question) -> Refusal {
    let Question { upstream, repository, reference, .. } = question;
    Refusal::new(
        Reason::ManifestUnknown,
        format!("{} has no {repository} {reference}", upstream.name),
    )
}
