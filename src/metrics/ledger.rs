//! What is told of the ledger.

use prometheus::{Gauge, Histogram, IntGauge};

use super::Maker;

/// How the ledger is.
pub struct LedgerMetrics {
    /// When it was created.
    pub created: Gauge,
    /// Whether it refuses to write.
    pub failed: IntGauge,
    /// How long its fdatasync takes.
    pub fdatasync: Histogram,
    /// Whether its index is being rebuilt.
    pub rebuilding: IntGauge,
    /// The last durable event.
    pub sequence: IntGauge,
}

impl LedgerMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            created: make
                .time("ledger_created_timestamp_seconds", "When the ledger was created, Unix time"),
            failed: make.gauge("ledger_failed", "1 while the ledger refuses to write"),
            fdatasync: make
                .histogram("ledger_fdatasync_seconds", "How long the ledger's fdatasync takes"),
            rebuilding: make.gauge("ledger_rebuilding", "1 while the index is rebuilt"),
            sequence: make.gauge("ledger_sequence", "Sequence of the last durable event"),
        }
    }
}
