//! A look at a tag that nobody pulls: the same look, and the same events, as by a pull.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asking::Question;
use super::covered::Asked;
use super::refusal::{Reason, Refusal};
use super::sight::Target;
use super::{Pull, Way, canary};
use crate::config::Credentials;
use crate::oci::manifest::CANONICAL_ACCEPT;
use crate::oci::{Digest, ManifestReference};
use crate::pin::{PinKey, TagState};
use crate::policy::Rule;
use crate::upstream::Upstream;

/// Beyond so many tags it is not remembered in memory when a tag that nobody pulls was asked for.
const REMEMBERED: u64 = 50_000;

/// What came of a look.
#[derive(Clone, Debug)]
pub enum Looked {
    /// The upstream answers something else than the pin, and nobody has decided yet.
    Conflict {
        /// The pin, or what was imported.
        pinned: Option<Digest>,
        /// What the upstream answers.
        observed: Digest,
    },
    /// It could not be looked at, or the answer is not valid.
    Failed(Refusal),
    /// The upstream has no such tag.
    Gone,
    /// The upstream answers what is pinned or recorded, or what a rule lets pass.
    Match,
    /// There is no pin yet: the tag is younger than `min-age`.
    Pending,
    /// Nobody asks for it: its upstream is not configured, or takes the clients' own credentials
    /// and may show nobody else what it has; or it is exempt.
    Skipped(&'static str),
}

impl Pull {
    /// Asks the upstream of a tag, judges and writes down, as for a pull.
    pub async fn audit_tag(self: &Arc<Self>, key: &PinKey) -> Looked {
        let upstream = match self.audited_upstream(key) {
            Ok(upstream) => upstream,
            Err(why) => return Looked::Skipped(why),
        };
        match self.decide(key) {
            Way::Covered(rule) => {
                let (key, credential) = (key.clone(), None);
                let target = Target { upstream, key, rule, credential, is_audit: true };
                self.sight(target).await.map_or_else(failed, |state| looked(&state))
            }
            Way::Exempt => Looked::Skipped("its tag is mutable by specification"),
            Way::Recorded => self.audit_recorded(upstream, key).await,
            Way::Unlocked => Looked::Skipped("it is not in the lock file"),
        }
    }

    /// The upstream that may be asked for a tag with no client waiting, or why none.
    pub fn audited_upstream(&self, key: &PinKey) -> Result<Arc<Upstream>, &'static str> {
        if key.registry.as_str() == canary::REGISTRY {
            return Err("it is the doctor's");
        }
        let upstream = self.settings.load().upstreams.locate(&key.registry);
        let upstream = upstream.ok_or("its registry is not configured")?;
        // Asked as nobody, such an upstream may say that there is nothing.
        if upstream.config.credentials == Credentials::Client {
            return Err("its upstream takes the clients' own credentials");
        }
        Ok(upstream)
    }

    /// The rule that covers a tag.
    pub fn covering_rule(&self, key: &PinKey) -> Option<Arc<Rule>> {
        match self.decide(key) {
            Way::Covered(rule) => Some(rule),
            Way::Exempt | Way::Recorded | Way::Unlocked => None,
        }
    }

    /// When a tag was last asked for, by the monotonic clock, as far as that is remembered.
    pub fn asked_at(&self, key: &PinKey) -> Option<Duration> {
        let at_ms = self.memory.asked.get(key)?.at_ms.load(Ordering::Relaxed);
        at_ms.checked_sub(1).map(Duration::from_millis)
    }

    /// What is remembered of a tag's looks; of a great many tags that nobody pulls, nothing is.
    pub(super) fn asked_by_audit(&self, key: &PinKey) -> Arc<Asked> {
        if self.memory.asked.entry_count() < REMEMBERED {
            return self.asked(key);
        }
        self.memory.asked.get(key).unwrap_or_default()
    }

    /// A tag under `record` with an open question from before its rule changed.
    async fn audit_recorded(self: &Arc<Self>, upstream: Arc<Upstream>, key: &PinKey) -> Looked {
        let question = Question {
            upstream,
            repository: key.repository.clone(),
            reference: ManifestReference::Tag(key.tag.clone()),
            accept: Some(CANONICAL_ACCEPT.to_owned()),
            credential: None,
        };
        match self.get_manifest(&question).await {
            Ok(Some(fetched)) => {
                self.write_observed(key, fetched.manifest.content).await;
                Looked::Match
            }
            Ok(None) => Looked::Gone,
            Err(refusal) => Looked::Failed(refusal),
        }
    }
}

fn looked(state: &TagState) -> Looked {
    match &state.conflict {
        _ if state.deleted_ms.is_some() => Looked::Gone,
        Some(open) => Looked::Conflict {
            pinned: state.pin.as_ref().map(|pin| pin.content.digest),
            observed: open.observed,
        },
        None => Looked::Match,
    }
}

fn failed(refusal: Refusal) -> Looked {
    match (refusal.reason, refusal.observed) {
        // A look is refused so only where the answer is not what was imported.
        (Reason::DigestChanged, Some(observed)) => {
            Looked::Conflict { pinned: refusal.pinned, observed }
        }
        (Reason::ManifestUnknown, _) => Looked::Gone,
        (Reason::PinPending, _) => Looked::Pending,
        _ => Looked::Failed(refusal),
    }
}
