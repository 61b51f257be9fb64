//! What is counted of messages to webhooks. Their names come from the configuration.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Maker;

/// Messages to webhooks.
#[derive(Clone)]
pub struct NotifyMetrics {
    /// Tries, by webhook and outcome: `delivered`, `failed`, `dead`.
    pub deliveries: IntCounterVec,
    /// When a message was last taken, by webhook.
    pub last_success: IntGaugeVec,
    /// Events that wait to be told, by webhook.
    pub pending: IntGaugeVec,
}

impl NotifyMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            deliveries: make.counters(
                "notify_deliveries_total",
                "Messages sent to webhooks",
                &["webhook", "outcome"],
            ),
            last_success: make.gauges(
                "notify_last_success_timestamp_seconds",
                "When a webhook last took a message, Unix time",
                &["webhook"],
            ),
            pending: make.gauges(
                "notify_pending",
                "Events that wait to be told to a webhook",
                &["webhook"],
            ),
        }
    }
}

impl Default for NotifyMetrics {
    /// Counters that nobody scrapes.
    fn default() -> Self {
        Self::new(&Maker(&prometheus::Registry::new()))
    }
}
