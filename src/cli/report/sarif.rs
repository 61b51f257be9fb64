//! SARIF 2.1.0, as code scanning reads it: a result for each image that is not as it should be.
//!
//! Source: OASIS SARIF 2.1.0, 3.13 to 3.52.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::places::Place;
use super::words::{CHECKS, advice, detail, gaps, title};
use super::{Page, fingerprint};
use crate::report::{Row, Status};
use crate::units::rfc3339;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The document.
pub(super) fn document(page: &Page) -> Value {
    let head = &page.report.head;
    let gap =
        gaps(head).map(|gaps| json!({ "level": "error", "message": { "text": text(&gaps) } }));
    let notifications: Vec<_> = gap.into_iter().collect();
    let results = page.report.rows.iter().filter_map(|row| result(page, row));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver() },
            "invocations": [{
                "executionSuccessful": notifications.is_empty(),
                "startTimeUtc": stamp(head.since_ms),
                "endTimeUtc": stamp(head.until_ms),
                "toolExecutionNotifications": notifications,
            }],
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

fn driver() -> Value {
    let rules = CHECKS.map(|(status, words)| {
        json!({
            "id": id(status),
            "shortDescription": { "text": words },
            "defaultConfiguration": { "level": level(status) },
        })
    });
    json!({ "name": "immutag", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules })
}

fn result(page: &Page, row: &Row) -> Option<Value> {
    let rule = CHECKS.iter().position(|(status, _)| *status == row.status)?;
    let head = &page.report.head;
    let advice = advice(head, row).map_or_else(String::new, |advice| format!(" {advice}."));
    let words = format!("{}. {}{advice}", title(row), detail(head, row));
    let locations = page.places.of(&row.reference);
    let reference = row.reference.to_string();
    Some(json!({
        "ruleId": id(row.status),
        "ruleIndex": rule,
        "level": level(row.status),
        "message": { "text": text(&words) },
        "locations": locations.iter().map(location).collect::<Vec<_>>(),
        "partialFingerprints": { "reference/v1": fingerprint(&[id(row.status), &reference]) },
    }))
}

fn location(place: &Place) -> Value {
    let mut region = json!({ "startLine": place.line });
    if let Some(column) = place.column {
        region["startColumn"] = column.into();
    }
    json!({
        "physicalLocation": { "artifactLocation": { "uri": uri(&place.path) }, "region": region },
    })
}

const fn id(status: Status) -> &'static str {
    match status {
        Status::Conflict => "immutag/conflict",
        Status::New => "immutag/new",
        Status::Ok => "immutag/ok",
        Status::Refused => "immutag/refused",
        Status::Unlocked => "immutag/unlocked",
        Status::Unused => "immutag/unused",
    }
}

const fn level(status: Status) -> &'static str {
    match status {
        Status::Conflict | Status::Refused | Status::Unlocked => "error",
        Status::New => "note",
        Status::Ok | Status::Unused => "none",
    }
}

fn stamp(ms: u64) -> String {
    rfc3339(ms).unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// In a message, brackets make links and braces stand for arguments: ours has neither.
fn text(text: &str) -> String {
    text.replace(['[', '{'], "(").replace([']', '}'], ")")
}

/// A path as a relative URI; of one that is absolute, a `file` URI.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
