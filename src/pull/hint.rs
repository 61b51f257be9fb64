//! One line beside the event of a moved tag: what changed, as far as two manifests that are at hand
//! tell. No upstream is asked for it, and nothing is waited for.

use std::time::Duration;

use bytes::Bytes;

use super::Pull;
use crate::event::EventKind;
use crate::ledger::StoredManifest;
use crate::oci::Digest;
use crate::pin::TagState;
use crate::policy::judge::is_young;
use crate::triage::{Case, Material, Severity, Side, YOUNG_PIN, compare};

/// How long the ledger may take to give a manifest back, and a comparison. The event waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What stands beside an event, and how alarming it looks.
#[derive(Default)]
pub(super) struct Remark {
    pub(super) why: String,
    pub(super) severity: Option<Severity>,
}

/// Reads an attacker's text where it holds nobody up; `None` if that panics.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(%error, "a comparison of manifests ended early")).ok()
}

impl Pull {
    /// What stands beside an event for whoever reads the history, or the log.
    pub(super) async fn remark(
        &self,
        kind: EventKind,
        state: &TagState,
        observed: &StoredManifest,
    ) -> Remark {
        let is_conflict =
            matches!(kind, EventKind::Conflict | EventKind::Flapped | EventKind::RolledBack);
        if !is_conflict && kind != EventKind::Followed {
            return Remark::default();
        }
        let now_ms = self.edges.clock.wall_ms();
        let is_young = is_conflict && state.pin.as_ref().is_some_and(|pin| is_young(pin, now_ms));
        let warning = if is_young { YOUNG_PIN } else { "" };
        let alone = || Remark { why: warning.to_owned(), severity: None };
        let Some(pin) = state.standing().filter(|pin| pin.content != observed.content) else {
            return alone();
        };
        let Some(bytes) = self.at_hand(pin.content.digest).await else { return alone() };
        let (content, observed) = (pin.content.clone(), observed.clone());
        let comparing = move || {
            compare(&Case {
                before: Side { content: &content, bytes: &bytes },
                after: Side { content: &observed.content, bytes: &observed.bytes },
                material: &Material::default(),
                signatures: None,
                is_young,
                now_ms,
            })
        };
        let Some(triage) = tokio::time::timeout(PATIENCE, apart(comparing)).await.ok().flatten()
        else {
            return alone();
        };
        let summary = triage.summary();
        let says_it = !is_young || summary.contains(YOUNG_PIN);
        let why = if says_it { summary } else { format!("{warning}; {summary}") };
        Remark { why, severity: Some(triage.severity) }
    }

    /// A pinned manifest's bytes, from memory or the ledger.
    async fn at_hand(&self, digest: Digest) -> Option<Bytes> {
        if let Some(manifest) = self.memory.manifests.get(&digest) {
            return Some(manifest.bytes);
        }
        let reading = self.edges.ledger.manifest(&digest);
        let manifest = tokio::time::timeout(PATIENCE, reading).await.ok()?.ok()??;
        Some(manifest.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_comparison_runs_on_a_thread_of_its_own_and_stops_nobody_who_waits_for_it() {
        let here = std::thread::current().id();
        assert!(apart(move || std::thread::current().id() != here).await.unwrap());
        assert_eq!(apart(|| panic!("as wanted")).await, None::<()>);
    }
}
