//! Metrics: one struct, one registry per process, no statics.
//!
//! No label carries a repository, a tag, a digest or a client: upstreams come from the
//! configuration and the built-in list, everything else is an enumeration of ours.

mod cache;
mod journal;
mod ledger;
mod lock;
mod notify;
mod watch;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use cache::CacheMetrics;
pub use journal::JournalMetrics;
pub use ledger::LedgerMetrics;
pub use lock::LockMetrics;
pub use notify::NotifyMetrics;
pub use watch::{AuditMetrics, LimitMetrics};

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// How watching goes.
    pub audit: AuditMetrics,
    /// How the store is.
    pub cache: CacheMetrics,
    /// Answers from what is held or cached, by kind: `manifest`, `blob`.
    pub cache_hits: IntCounterVec,
    /// Answers that needed the upstream, by kind.
    pub cache_misses: IntCounterVec,
    /// Clients that asked for what they had just been refused under block.
    pub bypasses: IntCounter,
    /// Pins whose content was completed after their tag moved or vanished, by outcome: `complete`,
    /// `incomplete`.
    pub completions: IntCounterVec,
    /// Conflict events written, by reaction.
    pub conflicts: IntCounterVec,
    /// Tags with an open conflict.
    pub conflicts_open: IntGauge,
    /// Connections open, by listener kind.
    pub connections: IntGaugeVec,
    /// Events written, by kind.
    pub events: IntCounterVec,
    /// Fills of blobs from an upstream.
    pub fills: FillMetrics,
    /// How the journal of pulls is.
    pub journal: JournalMetrics,
    /// How the ledger is.
    pub ledger: LedgerMetrics,
    /// What is in the lock file.
    pub lock: LockMetrics,
    /// What upstreams say of their limits.
    pub limits: LimitMetrics,
    /// What else listeners tell.
    pub listeners: ListenerMetrics,
    /// Messages to webhooks.
    pub notify: NotifyMetrics,
    /// Tags with a pin.
    pub pins: IntGauge,
    /// Plain errors for covered tags on mirror listeners: the client may have gone elsewhere.
    pub possible_bypass: IntCounter,
    /// Refusals, by reason.
    pub refusals: IntCounterVec,
    /// What pins keep.
    pub retention: RetentionMetrics,
    /// Requests, by listener, method and status.
    pub requests: IntCounterVec,
    /// Time to the answer's header, by listener.
    pub request_seconds: HistogramVec,
    /// Bytes of bodies sent to clients.
    pub sent_bytes: IntCounter,
    /// Requests to upstreams, by upstream and status (`error` for none).
    pub upstream_requests: IntCounterVec,
    /// Time to an upstream's answer header, by upstream.
    pub upstream_seconds: HistogramVec,
    /// Verdicts, by verdict and reaction.
    pub verdicts: IntCounterVec,
}

/// Fills of blobs from an upstream.
pub struct FillMetrics {
    /// What became of them: `abandoned`, `complete`, `failed`; `uncached` are no fills.
    pub ended: IntCounterVec,
    /// Bytes of bodies that came from upstreams, by upstream.
    pub received_bytes: IntCounterVec,
    /// Requests for the rest of a body that broke off.
    pub resumes: IntCounter,
    /// Fills that run.
    pub running: IntGauge,
    /// Fills that wait for a place.
    pub waiting: IntGauge,
}

impl FillMetrics {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            ended: make.counters("fills_total", "Blobs fetched from upstreams", &["outcome"]),
            received_bytes: make.counters(
                "upstream_received_bytes_total",
                "Bytes of bodies that came from upstreams",
                &["upstream"],
            ),
            resumes: make
                .counter("fill_resumes_total", "Requests for the rest of a body that broke off"),
            running: make.gauge("fills_running", "Blobs that are being fetched"),
            waiting: make.gauge("fills_waiting", "Blobs whose fetch waits for its turn"),
        }
    }
}

/// What listeners tell, beside connections and requests.
pub struct ListenerMetrics {
    /// When the certificate expires, by address and listener kind, Unix time.
    pub certificate_expiry: IntGaugeVec,
    /// New certificates that could not be used.
    pub certificate_failures: IntCounter,
    /// Connections closed at once, by listener kind and reason.
    pub refused: IntCounterVec,
}

/// What pins keep.
pub struct RetentionMetrics {
    /// Held content that was let go.
    pub let_go: IntCounter,
    /// How much that was, in bytes.
    pub let_go_bytes: IntCounter,
    /// What was fetched for pins in the background, by need and outcome.
    pub retained: IntCounterVec,
    /// Walks over all pins that came to their end.
    pub walks: IntCounter,
}

impl RetentionMetrics {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            let_go: make.counter("let_go_total", "Held content that was let go"),
            let_go_bytes: make.counter("let_go_bytes_total", "Bytes of it"),
            retained: make.counters(
                "retained_total",
                "What was fetched for pins in the background",
                &["need", "outcome"],
            ),
            walks: make.counter("retention_walks_total", "Walks over all pins"),
        }
    }
}

/// Latencies from 0.1 ms to about 30 s.
const SECONDS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0];

/// Registers what it makes; every name is ours and unique, so registering cannot fail.
struct Maker<'a>(&'a Registry);

const UNIQUE: &str = "every metric has a valid, unique name";

impl Maker<'_> {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> C {
        let collector = made.expect(UNIQUE);
        self.0.register(Box::new(collector.clone())).expect(UNIQUE);
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(format!("immutag_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(format!("immutag_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(format!("immutag_{name}"), help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(format!("immutag_{name}"), help), labels))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(format!("immutag_{name}"), help).buckets(SECONDS.to_vec());
        self.add(Histogram::with_opts(opts))
    }

    fn time(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(format!("immutag_{name}"), help))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::new(format!("immutag_{name}"), help).buckets(SECONDS.to_vec());
        self.add(HistogramVec::new(opts, labels))
    }
}

impl ListenerMetrics {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            certificate_expiry: make.gauges(
                "listener_certificate_expiry_timestamp_seconds",
                "When the certificate of a listener expires, Unix time",
                &["address", "listener"],
            ),
            certificate_failures: make.counter(
                "certificate_reload_failures_total",
                "New certificates that could not be used",
            ),
            refused: make.counters(
                "connections_refused_total",
                "Client connections closed at once",
                &["listener", "reason"],
            ),
        }
    }
}

/// A registry with the process's own metrics.
fn registry_of_process() -> Registry {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect(UNIQUE);
    registry
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    pub fn new() -> Self {
        let registry = registry_of_process();
        let make = Maker(&registry);
        Self {
            audit: AuditMetrics::new(&make),
            cache: CacheMetrics::new(&make),
            cache_hits: make.counters("cache_hits_total", "Answers from stored content", &["kind"]),
            cache_misses: make.counters("cache_misses_total", "Answers from upstreams", &["kind"]),
            bypasses: make.counter(
                "bypasses_total",
                "Clients that asked for a digest right after it was refused to them",
            ),
            completions: make.counters("completions_total", "Moved pins completed", &["outcome"]),
            conflicts: make.counters("conflicts_total", "Conflict events written", &["reaction"]),
            conflicts_open: make.gauge("conflicts_open", "Tags with an open conflict"),
            connections: make.gauges("connections", "Client connections open", &["listener"]),
            events: make.counters("events_total", "Ledger events written", &["kind"]),
            fills: FillMetrics::new(&make),
            journal: JournalMetrics::new(&make),
            ledger: LedgerMetrics::new(&make),
            limits: LimitMetrics::new(&make),
            listeners: ListenerMetrics::new(&make),
            lock: LockMetrics::new(&make),
            notify: NotifyMetrics::new(&make),
            pins: make.gauge("pins", "Tags with a pin"),
            possible_bypass: make.counter(
                "possible_bypass_total",
                "Plain errors for covered tags on mirror listeners",
            ),
            refusals: make.counters("refusals_total", "Refusals", &["reason"]),
            retention: RetentionMetrics::new(&make),
            requests: make.counters(
                "requests_total",
                "Requests answered",
                &["listener", "method", "status"],
            ),
            request_seconds: make.histograms(
                "request_seconds",
                "Time from a request to its answer's header",
                &["listener"],
            ),
            sent_bytes: make.counter("sent_bytes_total", "Bytes of bodies sent to clients"),
            upstream_requests: make.counters(
                "upstream_requests_total",
                "Requests to upstreams",
                &["upstream", "status"],
            ),
            upstream_seconds: make.histograms(
                "upstream_seconds",
                "Time to an upstream's answer header",
                &["upstream"],
            ),
            verdicts: make.counters("verdicts_total", "Verdicts", &["verdict", "reaction"]),
            registry,
        }
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 << 10);
        // Writing to memory cannot fail, and every family was registered valid.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_with_their_help() {
        let metrics = Metrics::new();
        metrics.verdicts.with_label_values(&["conflict", "hold"]).inc();
        metrics.pins.set(7);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("# HELP immutag_pins Tags with a pin"), "{text}");
        assert!(text.contains("immutag_pins 7"), "{text}");
        assert!(text.contains(r#"immutag_verdicts_total{reaction="hold",verdict="conflict"} 1"#));
    }
    /// `| metric | labels | type |`, as the documentation's rows begin.
    fn row(family: &prometheus::proto::MetricFamily) -> String {
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        let labels = family.get_metric().first().map_or_else(Vec::new, |metric| {
            metric.get_label().iter().map(|label| format!("`{}`", label.name())).collect()
        });
        format!("| `{}` | {} | {kind} |", family.name(), labels.join(", ")).replace("|  |", "| |")
    }

    #[test]
    fn every_metric_is_documented_with_its_labels_and_no_other() {
        let metrics = Metrics::new();
        let text = include_str!("../docs/metrics.md");
        let documented: Vec<&str> =
            text.lines().filter(|line| line.starts_with("| `immutag_")).collect();
        metrics.touch();
        let families = metrics.registry.gather();
        let ours: Vec<_> =
            families.iter().filter(|family| family.name().starts_with("immutag_")).collect();
        for family in &ours {
            let row = row(family);
            assert!(documented.iter().any(|line| line.starts_with(&row)), "{row} is not there");
        }
        assert_eq!(documented.len(), ours.len());
    }

    impl Metrics {
        /// Lets every family have a series: a family without one is not gathered.
        fn touch(&self) {
            for one in [&self.cache_hits, &self.cache_misses, &self.conflicts, &self.events] {
                one.with_label_values(&["x"]).inc();
            }
            self.audit.asks.with_label_values(&["x"]).inc();
            self.limits.limit.with_label_values(&["x"]).inc();
            self.limits.remaining.with_label_values(&["x"]).inc();
            self.limits.new_tags_refused.with_label_values(&["x"]).inc();
            self.completions.with_label_values(&["x"]).inc();
            self.fills.ended.with_label_values(&["x"]).inc();
            self.fills.received_bytes.with_label_values(&["x"]).inc();
            self.refusals.with_label_values(&["x"]).inc();
            self.retention.retained.with_label_values(&["x", "y"]).inc();
            self.listeners.certificate_expiry.with_label_values(&["x", "y"]).inc();
            self.connections.with_label_values(&["x"]).inc();
            self.notify.deliveries.with_label_values(&["x", "y"]).inc();
            self.notify.last_success.with_label_values(&["x"]).inc();
            self.notify.pending.with_label_values(&["x"]).inc();
            self.listeners.refused.with_label_values(&["x", "y"]).inc();
            self.requests.with_label_values(&["x", "y", "z"]).inc();
            self.request_seconds.with_label_values(&["x"]).observe(1.0);
            self.upstream_requests.with_label_values(&["x", "y"]).inc();
            self.upstream_seconds.with_label_values(&["x"]).observe(1.0);
            self.verdicts.with_label_values(&["x", "y"]).inc();
        }
    }
}
