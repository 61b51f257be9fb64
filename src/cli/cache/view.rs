//! What the cache answers, for people and for programs.

use super::super::output::Printer;
use super::super::table::{Table, age, time};
use super::{Answer, now};
use crate::admin::socket::cache::{CacheReply, CacheStats};
use crate::blob::fs::{Freed, Listed};
use crate::units::ByteSize;

/// Prints an answer as it comes.
pub(super) async fn print(
    printer: &mut Printer,
    answer: &mut Answer,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let mut next = answer.next().await?;
    if printer.is_json {
        while let Some(reply) = next {
            match &reply {
                // A program counts by itself what it is given.
                CacheReply::Fitting(_) => {}
                CacheReply::Listed(listed) => printer.json(listed)?,
                CacheReply::Pruned(freed) => printer.json(freed)?,
                CacheReply::Stats(stats) => printer.json(stats)?,
            }
            next = answer.next().await?;
        }
        return Ok(printer.flush()?);
    }
    match next {
        Some(CacheReply::Stats(stats)) => {
            for (name, value) in pairs(&stats) {
                printer.line(&format!("{name:<14}{value}"))?;
            }
        }
        Some(CacheReply::Pruned(freed)) => printer.line(&pruned(freed, is_dry_run))?,
        listed => return list(printer, listed, answer).await,
    }
    // What is pruned is closed in good order before it is told to be.
    while answer.next().await?.is_some() {}
    Ok(printer.flush()?)
}

async fn list(
    printer: &mut Printer,
    mut next: Option<CacheReply>,
    answer: &mut Answer,
) -> anyhow::Result<()> {
    let now_ms = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
    let mut table = Table::new(printer, &["DIGEST", "SIZE", "USED", "STATE"]);
    let (mut shown, mut fitting) = (0, 0);
    while let Some(reply) = next {
        match reply {
            CacheReply::Listed(listed) => {
                shown += 1;
                table.row(&row(&listed, now_ms))?;
            }
            CacheReply::Fitting(all) => fitting = all,
            CacheReply::Pruned(_) | CacheReply::Stats(_) => {}
        }
        next = answer.next().await?;
    }
    table.finish()?;
    if fitting > shown {
        printer.line(&format!("{} more; --limit shows more of them", fitting - shown))?;
    }
    Ok(printer.flush()?)
}

fn row(listed: &Listed, now_ms: u64) -> [String; 4] {
    let state = match (listed.is_held, listed.is_suspect) {
        (true, false) => "held",
        (true, true) => "held, to be hashed",
        (false, true) => "to be hashed",
        (false, false) => "",
    };
    [
        listed.digest.to_string(),
        ByteSize(listed.size_bytes).to_string(),
        format!("{} ago", age(listed.used_ms, now_ms)),
        state.to_owned(),
    ]
}

fn pruned(freed: Freed, is_dry_run: bool) -> String {
    let verb = if is_dry_run { "would go" } else { "went" };
    format!("{} {verb}, {}", blobs(freed.blobs), ByteSize(freed.bytes))
}

fn blobs(count: u64) -> String {
    format!("{count} blob{}", if count == 1 { "" } else { "s" })
}

fn pairs(stats: &CacheStats) -> Vec<(&'static str, String)> {
    let store = &stats.store;
    let of = |count, bytes| format!("{} in {}", ByteSize(bytes), blobs(count));
    let at = |at_ms: Option<u64>| at_ms.map_or_else(|| "-".to_owned(), time);
    let percent = |ratio: Option<f64>| {
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
    };
    let quota = if store.is_full { " (full: hardly anything more fits)" } else { "" };
    let counting = if store.is_counted { "" } else { " (still being counted)" };
    vec![
        ("stored", of(store.blobs, store.bytes) + counting),
        ("held", of(store.held_blobs, store.held_bytes)),
        ("quota", ByteSize(store.max_bytes).to_string() + quota),
        (
            "disk",
            format!(
                "{} free, {} kept free",
                ByteSize(store.free_bytes),
                ByteSize(store.min_free_bytes)
            ),
        ),
        ("blob hits", percent(stats.blob_hit_ratio)),
        ("manifest hits", percent(stats.manifest_hit_ratio)),
        ("oldest use", at(store.oldest_used_ms)),
        ("to be hashed", blobs(store.suspect_blobs)),
        ("last scrub", at(store.scrub.ended_ms)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn a_row_says_whether_a_pin_holds_it_and_whether_it_may_be_lost() {
        let listed = Listed {
            digest: Digest::sha256([0xab; 32]),
            size_bytes: 3 << 20,
            used_ms: 1000,
            is_held: true,
            is_suspect: false,
        };
        let row = row(&listed, 61_000);
        assert_eq!(row[1..], ["3MiB", "1m ago", "held"]);
        let suspect = Listed { is_held: false, is_suspect: true, ..listed };
        assert_eq!(super::row(&suspect, 61_000)[3], "to be hashed");
    }

    #[test]
    fn what_went_is_told_from_what_would() {
        assert_eq!(pruned(Freed { blobs: 1, bytes: 1024 }, false), "1 blob went, 1KiB");
        assert_eq!(pruned(Freed { blobs: 2, bytes: 0 }, true), "2 blobs would go, 0B");
    }
}
