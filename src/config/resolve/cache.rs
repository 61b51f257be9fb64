//! `[cache]`.

use super::Report;
use crate::config::problem::KeyPath;
use crate::config::raw::{RawCache, RawDurable, RawRetain};
use crate::config::resolved::{CacheConfig, Durability, Retention};

pub(super) fn resolve(
    raw: &RawCache,
    defaults: CacheConfig,
    report: &mut Report<'_>,
) -> CacheConfig {
    let path = KeyPath::new("cache");
    if raw.max_fills == Some(0) {
        report.add(&path.key("max-fills"), "it must be more than 0");
    }
    CacheConfig {
        max_size: raw.max_size.unwrap_or(defaults.max_size),
        min_free: raw.min_free.unwrap_or(defaults.min_free),
        durable: raw.durable.map_or(defaults.durable, |durable| match durable {
            RawDurable::All => Durability::All,
            RawDurable::Held => Durability::Held,
            RawDurable::None => Durability::None,
        }),
        retain: raw.retain.map_or(defaults.retain, |retain| match retain {
            RawRetain::AllPlatforms => Retention::AllPlatforms,
            RawRetain::Pulled => Retention::Pulled,
        }),
        retain_idle: raw.retain_idle.map_or(defaults.retain_idle, |span| span.0),
        scrub: raw.scrub.map_or(defaults.scrub, |span| span.0),
        max_fills: raw.max_fills.unwrap_or(defaults.max_fills),
        finish_from: raw.finish_from.unwrap_or(defaults.finish_from),
    }
}
