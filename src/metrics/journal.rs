//! What is counted of the journal of pulls.

use prometheus::{IntCounter, IntGauge};

use super::Maker;

/// How the journal of pulls is.
#[derive(Clone)]
pub struct JournalMetrics {
    /// Bytes that its files take.
    pub bytes: IntGauge,
    /// Requests that are not in it: there was no room in memory, or none on the disk.
    pub dropped: IntCounter,
    /// Entries written.
    pub entries: IntCounter,
}

impl JournalMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            bytes: make.gauge("journal_bytes", "Bytes that the journal of pulls takes"),
            dropped: make
                .counter("journal_dropped_total", "Requests that the journal of pulls lost"),
            entries: make
                .counter("journal_entries_total", "Entries written to the journal of pulls"),
        }
    }
}

impl Default for JournalMetrics {
    /// Counters that nobody scrapes.
    fn default() -> Self {
        Self::new(&Maker(&prometheus::Registry::new()))
    }
}
