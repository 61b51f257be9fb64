//! The canary: one repository of a test registry on this machine, which stands in for a repository
//! of that name in every registry for as long as the doctor watches what clients make of it.
//!
//! Its tags go the way of all tags, ledger and all, under rules of their own; `canary.invalid` is
//! their registry, a name that no request can carry (RFC 2606).

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::Pull;
use crate::config::UpstreamConfig;
use crate::event::{Draft, EventKind};
use crate::oci::{Registry, Repository, Tag};
use crate::pin::{PinKey, TagState};
use crate::policy::matcher::{Matcher, TagMatcher};
use crate::policy::{Decision, Policy, Reaction, Rule};
use crate::upstream::{Upstream, Upstreams};

/// The tags of a canary, by what holds them.
pub const CANARY_TAGS: [&str; 2] = ["block", "hold"];

/// The name of its registry.
pub(super) const REGISTRY: &str = "canary.invalid";

/// Why there is no canary. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CanaryError {
    /// Another one is there.
    #[error("another doctor is at work: wait until it is done")]
    Busy,
    /// The number that makes its repository's name is none.
    #[error("a canary is called by 16 hex digits")]
    SpoilsNonce,
}

/// A canary in place.
pub(super) struct Canary {
    upstream: Arc<Upstream>,
    repository: Repository,
    policy: Policy,
}

/// Takes the canary away when it is dropped.
pub struct CanaryGuard {
    pull: Arc<Pull>,
    /// The tags that it leaves in the ledger.
    pub keys: Vec<PinKey>,
}

impl Pull {
    /// Puts a canary in place: `immutag-canary/<nonce>` of any registry is what the registry at
    /// `port` of the loopback has, the tag `hold` under hold, `block` under block.
    pub fn place_canary(
        self: &Arc<Self>,
        port: u16,
        nonce: &str,
    ) -> Result<CanaryGuard, CanaryError> {
        let canary = Canary::new(port, nonce)?;
        let key = |tag: &str| {
            let tag: Tag = tag.parse().expect("our own tags are tags");
            let (registry, repository) = (canary.upstream.name.clone(), canary.repository.clone());
            PinKey { registry, repository, tag }
        };
        let keys = CANARY_TAGS.map(key).to_vec();
        let before = self.canary.compare_and_swap(&None::<Arc<Canary>>, Some(Arc::new(canary)));
        self.turn();
        if before.is_some() {
            return Err(CanaryError::Busy);
        }
        Ok(CanaryGuard { pull: Arc::clone(self), keys })
    }

    /// Where a repository is asked for, if it is the canary's.
    pub fn canary_upstream(&self, repository: &str) -> Option<Arc<Upstream>> {
        let canary = self.canary.load();
        let canary = canary.as_ref()?;
        (canary.repository.as_str() == repository).then(|| Arc::clone(&canary.upstream))
    }

    /// Lets the ledger forget a canary that a killed process left: its conflict would stand open.
    pub(super) async fn forget_canary(&self, key: &PinKey, state: &TagState) {
        let is_left = is_canary(&key.registry) && state.pin.is_some();
        if !is_left || self.canary_upstream(key.repository.as_str()).is_some() {
            return;
        }
        let draft = Draft {
            who: "immutag".to_owned(),
            why: "the doctor's canary is gone".to_owned(),
            ..Draft::new(EventKind::Forgotten, Some(key.clone()))
        };
        if let Err(error) = self.edges.ledger.append(draft, state.sequence, None).await {
            tracing::warn!(%key, %error, "the canary stays in the ledger");
        }
    }

    /// The canary's rule, if the tag is the canary's.
    pub(super) fn canary_rule(&self, key: &PinKey) -> Option<Arc<Rule>> {
        if !is_canary(&key.registry) {
            return None;
        }
        match self.canary.load().as_ref()?.policy.decide(key) {
            Decision::Ruled(rule) => Some(Arc::clone(rule)),
            Decision::Exempt | Decision::Unmatched => None,
        }
    }
}

/// Whether a registry is a canary's: what asks there is no client, but the doctor watching one.
pub fn is_canary(registry: &Registry) -> bool {
    registry.as_str() == REGISTRY
}

impl Drop for CanaryGuard {
    fn drop(&mut self) {
        self.pull.canary.store(None);
        self.pull.turn();
    }
}

impl Canary {
    fn new(port: u16, nonce: &str) -> Result<Self, CanaryError> {
        let is_nonce = nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        let repository = format!("immutag-canary/{nonce}").parse().ok().filter(|_| is_nonce);
        let repository: Repository = repository.ok_or(CanaryError::SpoilsNonce)?;
        let name: Registry = REGISTRY.parse().expect("a valid name");
        let config = UpstreamConfig {
            plain_http: true,
            allow_private: true,
            proxy: Some(String::new()),
            ..UpstreamConfig::for_origin(format!("http://127.0.0.1:{port}"))
        };
        let upstreams = Upstreams::new(&[(name.clone(), config)].into());
        let upstream = upstreams.ok().and_then(|upstreams| upstreams.locate(&name));
        let upstream = upstream.ok_or(CanaryError::SpoilsNonce)?;
        let hold = TagMatcher::Suffix(vec!["hold".to_owned()]);
        let policy = Policy {
            rules: vec![rule(hold, Reaction::Hold), rule(TagMatcher::Any, Reaction::Block)],
        };
        Ok(Self { upstream, repository, policy })
    }
}

fn rule(tag: TagMatcher, reaction: Reaction) -> Arc<Rule> {
    Arc::new(Rule {
        name: "the doctor's canary".to_owned(),
        matcher: Matcher::everywhere(tag),
        reaction,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: Duration::ZERO,
        include_referrers: false,
        is_exact: false,
    })
}
