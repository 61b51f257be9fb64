//! What alerts are made from.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::ledger::LedgerStore;
use crate::metrics::NotifyMetrics;
use crate::oci::Digest;
use crate::pin::PinKey;
use crate::triage::Severity;

/// Everything that an alert is made from.
pub struct Sources {
    /// The ledger: the outbox, and what it knows of tags.
    pub ledger: Arc<dyn LedgerStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: NotifyMetrics,
    /// What changed between two manifests.
    pub explain: Arc<dyn Explain>,
    /// Who pulled what.
    pub who: Arc<dyn Who>,
    /// What the rule of a tag does on a conflict: `record`, `alert`, `hold`, `block`.
    pub reaction: Reaction,
}

/// What the rule of a tag does; `None` if no rule covers it.
pub type Reaction = Arc<dyn Fn(&PinKey) -> Option<&'static str> + Send + Sync>;

/// Says what changed between two manifests of a tag. It is waited for a few seconds.
#[async_trait]
pub trait Explain: Send + Sync {
    /// What changed from `before` to `after`; `None` if nothing can be said.
    async fn explain(&self, key: &PinKey, before: Digest, after: Digest) -> Option<Explained>;
}

/// What changed, in words. They are escaped and cut here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// How alarming it looks.
    pub severity: Severity,
    /// Why.
    pub reasons: Vec<String>,
    /// One line.
    pub summary: String,
}

/// Says who pulled a digest. It is waited for a few seconds.
#[async_trait]
pub trait Who: Send + Sync {
    /// Up to `limit` clients, the latest first; `None` if nothing can be said.
    async fn who(&self, digest: Digest, limit: usize) -> Option<Pulls>;
}

/// Pulls of one digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulls {
    /// How many there were, those that are not listed included.
    pub total: u64,
    /// Clients: address, how often, first and last time in milliseconds since the Unix epoch.
    pub clients: Vec<(String, u64, u64, u64)>,
}

/// Says nothing.
pub struct Nothing;

#[async_trait]
impl Explain for Nothing {
    async fn explain(&self, _: &PinKey, _: Digest, _: Digest) -> Option<Explained> {
        None
    }
}

#[async_trait]
impl Who for Nothing {
    async fn who(&self, _: Digest, _: usize) -> Option<Pulls> {
        None
    }
}
