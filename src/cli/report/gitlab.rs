//! GitLab's Code Quality report: an entry for each place of each image that is not as it should be.
//!
//! Source: docs.gitlab.com, "Code Quality report format". A fingerprint must be another one for each
//! entry, and the same for the same finding.

use serde_json::{Value, json};

use super::places::Place;
use super::words::{advice, detail, gaps, title};
use super::{Page, fingerprint};
use crate::lockfile::LOCK_NAME;
use crate::report::Status;

/// The report.
pub(super) fn document(page: &Page) -> Value {
    let head = &page.report.head;
    let missing = gaps(head).map(|gaps| {
        let places = page.places.lock();
        entry("incomplete", "critical", &gaps, &places.unwrap_or_else(nowhere))
    });
    let mut entries: Vec<_> = missing.into_iter().collect();
    for row in &page.report.rows {
        let severity = match row.status {
            Status::Conflict => "blocker",
            Status::Refused | Status::Unlocked => "major",
            Status::New => "info",
            Status::Ok | Status::Unused => continue,
        };
        let advice = advice(head, row).map_or_else(String::new, |advice| format!(" {advice}."));
        let words = format!("{}. {}{advice}", title(row), detail(head, row));
        let mut places = page.places.of(&row.reference);
        if places.is_empty() {
            places.push(nowhere());
        }
        for place in places {
            entries.push(entry(row.status.name(), severity, &words, &place));
        }
    }
    Value::Array(entries)
}

/// An entry must have a place.
fn nowhere() -> Place {
    Place { path: LOCK_NAME.to_owned(), line: 1, column: None }
}

fn entry(check: &str, severity: &str, words: &str, place: &Place) -> Value {
    let Place { path, line, .. } = place;
    // Of what is reported, not of its words: these name times.
    let what = words.split(' ').next().unwrap_or_default();
    json!({
        "description": words,
        "check_name": format!("immutag/{check}"),
        "fingerprint": fingerprint(&[check, what, path, &line.to_string()]),
        "severity": severity,
        "location": { "path": path, "lines": { "begin": line } },
    })
}
