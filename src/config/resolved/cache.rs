//! `[cache]`, valid.

use std::time::Duration;

use crate::units::{DiskSize, Percent};

/// The cache, and what is held for pins.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// The most that stored content may take, held content included.
    pub max_size: DiskSize,
    /// Nothing is cached while the disk has less free space than this.
    pub min_free: DiskSize,
    /// What is synced to the disk before it counts as stored.
    pub durable: Durability,
    /// What is kept of what a pin needs.
    pub retain: Retention,
    /// Held content that nobody pulled for this long is let go, if the upstream still has it; 0:
    /// it never is.
    pub retain_idle: Duration,
    /// Within what time all stored content is hashed again; 0: never.
    pub scrub: Duration,
    /// How many blobs are fetched at once; more wait.
    pub max_fills: usize,
    /// What share of a blob must be here for its fetch to go on when nobody reads it any more.
    pub finish_from: Percent,
}

/// What is synced to the disk before it counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything.
    All,
    /// What is held for pins; the rest is hashed again before it is served if the machine went
    /// down meanwhile.
    Held,
    /// Nothing: content held for pins is hashed again then, too.
    None,
}

/// What is kept, under `hold` and `block`, of what a pin leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// All of it: what no client pulled yet is fetched in the background.
    AllPlatforms,
    /// What clients have pulled of it.
    Pulled,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_size: DiskSize::Bytes(20 << 30),
            min_free: DiskSize::Bytes(2 << 30),
            durable: Durability::Held,
            retain: Retention::Pulled,
            retain_idle: Duration::from_hours(90 * 24),
            scrub: Duration::from_hours(30 * 24),
            max_fills: 128,
            finish_from: Percent(25),
        }
    }
}
