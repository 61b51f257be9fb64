//! Alerts, wired: from ledger, rules, triage and journal to the webhooks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::StartError;
use crate::alert::{Alerts, Explain, Explained, Pulls, Sources, Who};
use crate::config::Config;
use crate::journal::{Filter, Journal, Pulled};
use crate::oci::Digest;
use crate::pin::PinKey;
use crate::pull::{Pull, Reader};

/// How many entries of the journal are counted for one digest.
const ENTRIES: usize = 10_000;

/// For how long the journal is read for one digest, the newest files first: an alert waits, and
/// nothing of it may go on behind its back.
const WITHIN: Duration = Duration::from_millis(1500);

/// What tells webhooks of events.
pub(super) fn alerts(
    config: &Config,
    pull: &Arc<Pull>,
    journal: &Arc<Journal>,
) -> Result<Arc<Alerts>, StartError> {
    let edges = pull.edges();
    let rules = Arc::clone(pull);
    let reaction = move |key: &PinKey| rules.reaction(key).map(crate::policy::Reaction::name);
    let sources = Sources {
        ledger: Arc::clone(&edges.ledger),
        clock: Arc::clone(&edges.clock),
        metrics: edges.metrics.notify.clone(),
        explain: Arc::new(ByTriage(Arc::clone(pull))),
        who: Arc::new(ByJournal(Arc::clone(journal))),
        reaction: Arc::new(reaction),
    };
    Ok(Arc::new(Alerts::new(sources, &config.data_dir, &config.webhooks)?))
}

/// What changed, from the triage of both manifests.
struct ByTriage(Arc<Pull>);

#[async_trait]
impl Explain for ByTriage {
    async fn explain(&self, key: &PinKey, before: Digest, after: Digest) -> Option<Explained> {
        let triage = self.0.explain(key, before, after, Reader::Alert).await?;
        let summary = triage.summary();
        Some(Explained { severity: triage.severity, reasons: triage.reasons, summary })
    }
}

/// Who pulled it, from the journal.
struct ByJournal(Arc<Journal>);

#[async_trait]
impl Who for ByJournal {
    async fn who(&self, digest: Digest, limit: usize) -> Option<Pulls> {
        let journal = Arc::clone(&self.0);
        let until = Some(Instant::now() + WITHIN);
        let filter = Filter { digests: vec![digest], only_given: true, until, ..Filter::default() };
        let found =
            tokio::task::spawn_blocking(move || journal.who(&filter, ENTRIES)).await.ok()?;
        let found =
            found.inspect_err(|error| tracing::warn!(%error, "the journal gives no answer"));
        Some(by_client(&found.ok()?, limit))
    }
}

/// Up to `limit` clients, the latest first, and how often all of them pulled.
fn by_client(entries: &[Pulled], limit: usize) -> Pulls {
    let mut clients: BTreeMap<IpAddr, (u64, u64, u64)> = BTreeMap::new();
    for entry in entries {
        let known = clients.entry(entry.client).or_insert((0, entry.first_ms, entry.last_ms));
        known.0 += entry.count;
        known.1 = known.1.min(entry.first_ms);
        known.2 = known.2.max(entry.last_ms);
    }
    let total = clients.values().map(|(count, ..)| count).sum();
    let mut clients: Vec<_> = clients
        .into_iter()
        .map(|(client, (count, first, last))| (client.to_string(), count, first, last))
        .collect();
    clients.sort_by_key(|(.., last_ms)| std::cmp::Reverse(*last_ms));
    clients.truncate(limit);
    Pulls { total, clients }
}
