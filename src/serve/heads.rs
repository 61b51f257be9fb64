//! Says in the log where the ledger is: what a log collector keeps, no roll-back can take back.

use std::sync::Arc;
use std::time::Duration;

use crate::decide::Ledger;
use crate::ledger::LedgerStatus;

/// How often the head is told, if it moved.
const INTERVAL: Duration = Duration::from_hours(1);

/// Tells the head now, and then each hour in which it moved, until it is aborted.
pub(super) async fn tell_heads(ledger: Arc<dyn Ledger>) {
    let mut told = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let status = ledger.status();
        if moved(&mut told, status.sequence) {
            tell(&status);
        }
    }
}

/// One line: `immutag ledger verify --against HEAD` takes its `head`.
pub(super) fn tell(status: &LedgerStatus) {
    let LedgerStatus { id, sequence, head, .. } = status;
    // A ledger in memory has no chain: nothing could be compared with it.
    if head.is_empty() {
        return;
    }
    tracing::info!(ledger = id, sequence, head = status.point(), "the ledger's head");
}

fn moved(told: &mut Option<u64>, sequence: u64) -> bool {
    told.replace(sequence) != Some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_told_once() {
        let mut told = None;
        let moves = [1, 1, 2, 2, 3].map(|sequence| moved(&mut told, sequence));
        assert_eq!(moves, [true, false, true, false, true]);
    }
}
