//! Alerts, wired: from ledger, rules, triage and journal to the webhooks.

use std::sync::Arc;

use super::StartError;
use crate::alert::{Alerts, Nothing, Sources};
use crate::config::Config;
use crate::pin::PinKey;
use crate::pull::Pull;

/// What tells webhooks of events.
pub(super) fn alerts(config: &Config, pull: &Arc<Pull>) -> Result<Arc<Alerts>, StartError> {
    let edges = pull.edges();
    let rules = Arc::clone(pull);
    let reaction = move |key: &PinKey| rules.reaction(key).map(crate::policy::Reaction::name);
    let sources = Sources {
        ledger: Arc::clone(&edges.ledger),
        clock: Arc::clone(&edges.clock),
        metrics: edges.metrics.notify.clone(),
        explain: Arc::new(Nothing),
        who: Arc::new(Nothing),
        reaction: Arc::new(reaction),
    };
    Ok(Arc::new(Alerts::new(sources, &config.data_dir, &config.webhooks)?))
}
