//! What is counted of the store.

use prometheus::{IntCounter, IntGauge};

use super::Maker;

/// How the store is.
#[derive(Clone)]
pub struct CacheMetrics {
    /// Contents stored.
    pub blobs: IntGauge,
    /// Bytes stored, held content included.
    pub bytes: IntGauge,
    /// Stored content that was found damaged, and dropped.
    pub damaged: IntCounter,
    /// Bytes of content that was evicted.
    pub evicted_bytes: IntCounter,
    /// Contents that were evicted.
    pub evictions: IntCounter,
    /// Whether nothing more fits.
    pub full: IntGauge,
    /// Bytes that pins hold.
    pub held_bytes: IntGauge,
    /// The quota in bytes.
    pub max_bytes: IntGauge,
    /// Bytes that were hashed again.
    pub scrubbed_bytes: IntCounter,
    /// Contents that are hashed before they are served.
    pub suspects: IntGauge,
}

impl CacheMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            blobs: make.gauge("cache_blobs", "Contents stored"),
            bytes: make.gauge("cache_bytes", "Bytes stored, held content included"),
            damaged: make.counter("cache_damaged_total", "Stored contents found damaged"),
            evicted_bytes: make.counter("cache_evicted_bytes_total", "Bytes evicted"),
            evictions: make.counter("cache_evictions_total", "Contents evicted"),
            full: make.gauge("cache_full", "1 while new content passes through uncached"),
            held_bytes: make.gauge("cache_held_bytes", "Bytes that pins hold"),
            max_bytes: make.gauge("cache_max_bytes", "The most bytes that may be stored"),
            scrubbed_bytes: make.counter("cache_scrubbed_bytes_total", "Bytes hashed again"),
            suspects: make
                .gauge("cache_suspect_blobs", "Contents that are hashed before they are served"),
        }
    }
}

impl Default for CacheMetrics {
    /// Counters that nobody scrapes.
    fn default() -> Self {
        Self::new(&Maker(&prometheus::Registry::new()))
    }
}
