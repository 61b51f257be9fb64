//! What is counted of watching tags, and of what upstreams let us ask.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Maker;

/// How watching goes.
pub struct AuditMetrics {
    /// Tags that were asked for with nobody pulling them, by what came of it.
    pub asks: IntCounterVec,
    /// How long the tag that is due longest has been, in seconds.
    pub oldest_due_seconds: IntGauge,
    /// Tags that are due and not asked yet.
    pub overdue: IntGauge,
    /// Looks through the ledger for what is due next.
    pub rounds: IntCounter,
    /// Tags that are watched.
    pub watched: IntGauge,
}

/// What upstreams say of their limits, and what is taken of them.
pub struct LimitMetrics {
    /// Requests that an upstream allows in its window.
    pub limit: IntGaugeVec,
    /// How many of these are left.
    pub remaining: IntGaugeVec,
    /// New tags beyond `max-new-tags-per-hour`.
    pub new_tags_refused: IntCounterVec,
}

impl AuditMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            asks: make.counters(
                "audit_asks_total",
                "Tags that were asked for with nobody pulling them",
                &["outcome"],
            ),
            oldest_due_seconds: make.gauge(
                "audit_oldest_due_seconds",
                "How long the tag that waits longest to be asked for has been due",
            ),
            overdue: make.gauge("audit_overdue", "Tags that are due to be asked for"),
            rounds: make
                .counter("audit_rounds_total", "Looks through the ledger for what is due next"),
            watched: make.gauge("audit_watched", "Tags that are watched"),
        }
    }
}

impl LimitMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            limit: make.gauges(
                "upstream_ratelimit_limit",
                "Requests that an upstream allows in its window",
                &["upstream"],
            ),
            remaining: make.gauges(
                "upstream_ratelimit_remaining",
                "How many of these are left, as it said last",
                &["upstream"],
            ),
            new_tags_refused: make.counters(
                "new_tags_refused_total",
                "Tags never seen before that were not taken, beyond max-new-tags-per-hour",
                &["upstream"],
            ),
        }
    }
}
