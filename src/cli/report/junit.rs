//! The XML of `JUnit`: an image is a test, one that is not as it should be a failure.
//!
//! Source: `junit-10.xsd` of Jenkins' xUnit plugin, which is what most readers take.

use std::fmt::Write as _;

use super::Page;
use super::words::{advice, detail, gaps, plain, summary, title};
use crate::report::{Report, Row, Status};
use crate::units::rfc3339;

/// The document.
pub(super) fn document(page: &Page) -> String {
    let report = &page.report;
    let gaps = gaps(&report.head);
    let errors = usize::from(gaps.is_some());
    let (tests, failures) =
        (report.rows.len() + 1, report.rows.iter().filter(|row| is_failure(row)).count());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let skipped = report.head.counts.unused;
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let _ = writeln!(xml, "<testsuites name=\"immutag\" {counts}>");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"immutag\" {counts} skipped=\"{skipped}\" timestamp=\"{}\">",
        stamp(report.head.since_ms)
    );
    whole(&mut xml, report, gaps.as_deref());
    for row in &report.rows {
        case(&mut xml, page, row);
    }
    xml += "  </testsuite>\n</testsuites>\n";
    xml
}

/// The first test: that the record is whole.
fn whole(xml: &mut String, report: &Report, gaps: Option<&str>) {
    *xml += "    <testcase classname=\"immutag.record\" name=\"the record is whole\">\n";
    if let Some(gaps) = gaps {
        let _ =
            writeln!(xml, "      <error type=\"incomplete\" message=\"{}\"></error>", text(gaps));
    }
    let _ = writeln!(xml, "      <system-out>{}</system-out>", text(&summary(report)));
    *xml += "    </testcase>\n";
}

fn case(xml: &mut String, page: &Page, row: &Row) {
    let head = &page.report.head;
    let name = row.reference.to_string();
    let _ = write!(xml, "    <testcase classname=\"immutag.image\" name=\"{}\">", text(&name));
    if is_failure(row) {
        let mut words = detail(head, row);
        for place in page.places.of(&row.reference) {
            let _ = write!(words, "\n{}:{}", plain(&place.path), place.line);
        }
        if let Some(advice) = advice(head, row) {
            let _ = write!(words, "\n{advice}.");
        }
        let (kind, title) = (row.status.name(), text(&title(row)));
        let _ = write!(
            xml,
            "\n      <failure type=\"{kind}\" message=\"{title}\">{}</failure>\n    ",
            text(&words)
        );
    } else if row.status == Status::Unused {
        let (title, words) = (text(&title(row)), text(&detail(head, row)));
        let _ = write!(
            xml,
            "\n      <skipped type=\"unused\" message=\"{title}\">{words}</skipped>\n    "
        );
    } else {
        let words = format!("{}. {}", title(row), detail(head, row));
        let _ = write!(xml, "\n      <system-out>{}</system-out>\n    ", text(&words));
    }
    *xml += "</testcase>\n";
}

const fn is_failure(row: &Row) -> bool {
    matches!(row.status, Status::Conflict | Status::Refused | Status::Unlocked)
}

/// A time as XML writes it, in UTC and without a zone, as readers of this form expect it.
fn stamp(ms: u64) -> String {
    let stamp = rfc3339(ms).unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned());
    stamp.trim_end_matches('Z').to_owned()
}

/// Text of XML, in elements and attributes. What no XML may hold is no text of ours, either.
fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            '\n' => escaped.push('\n'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
