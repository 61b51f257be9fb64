//! The page for people: what is wrong first, the rest folded.
//!
//! Whatever is not a word of ours stands in a code span, where Markdown, HTML, links and mentions
//! are nothing; in tables `|` is escaped there, too.

use std::fmt::Write as _;

use super::super::table::{short, time};
use super::Page;
use super::places::Place;
use super::words::{advice, gaps, lock_name, plain, summary, title};
use crate::oci::Digest;
use crate::report::{Conflict, Row, Status};

/// The most rows of a table, and the most conflicts that are told at length.
const ROWS: usize = 200;
const CONFLICTS: usize = 50;

/// The most places of a row.
const PLACES: usize = 10;

/// The page.
pub(super) fn page(page: &Page) -> String {
    let report = &page.report;
    let head = &report.head;
    let mut text = format!("## immutag: what was pulled\n\n**{}**\n\n", summary(report));
    if let Some(gaps) = gaps(head) {
        let _ = writeln!(text, "> **Warning:** {}\n", code(&gaps));
    }
    let _ = write!(text, "From {} to {}", time(head.since_ms), time(head.until_ms));
    let _ = match &head.lock {
        Some(_) if head.is_locked => {
            writeln!(text, ", locked to {} ({} entries).", code(&lock_name(head)), head.entries)
        }
        Some(_) => writeln!(
            text,
            ", with {} ({} entries); what it does not have was let through.",
            code(&lock_name(head)),
            head.entries
        ),
        None => writeln!(text, ", without a lock file."),
    };
    conflicts(&mut text, page);
    for (status, heading) in [
        (Status::Refused, "Refused"),
        (Status::Unlocked, "Not in the lock file"),
        (Status::New, "New"),
    ] {
        let rows = rows_of(page, status);
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n### {heading}\n");
        table(&mut text, page, &rows);
        if let Some(advice) = rows.first().and_then(|row| advice(head, row)) {
            let _ = writeln!(text, "\n{}", format_args!("{advice}."));
        }
    }
    let rest = rows_of(page, Status::Ok);
    if !rest.is_empty() {
        let what = match rest.len() {
            1 => "1 image is as it should be".to_owned(),
            count => format!("{count} images are as they should be"),
        };
        let _ = writeln!(text, "\n<details>\n<summary>{what}</summary>\n");
        table(&mut text, page, &rest);
        text += "\n</details>\n";
    }
    text
}

fn rows_of(page: &Page, status: Status) -> Vec<&Row> {
    page.report.rows.iter().filter(|row| row.status == status).collect()
}

fn conflicts(text: &mut String, page: &Page) {
    let rows = rows_of(page, Status::Conflict);
    if rows.is_empty() {
        return;
    }
    *text += "\n### Conflicts\n";
    for (row, conflict) in
        rows.iter().filter_map(|row| Some((row, row.conflict.as_ref()?))).take(CONFLICTS)
    {
        let _ = writeln!(text, "\n#### {}\n", code(&row.reference.to_string()));
        let title = title(row);
        let about = title.strip_prefix(&row.reference.to_string()).unwrap_or(&title).trim_start();
        let named = places(page, row);
        let at = if named.is_empty() { named } else { format!(" See {named}.") };
        let _ = writeln!(
            text,
            "It {about}.{at}
"
        );
        digests(text, row, conflict);
        if !conflict.hint.is_empty() {
            let _ = writeln!(text, "\nWhat changed, as a hint: {}", code(&conflict.hint));
        }
        if let Some(advice) = advice(&page.report.head, row) {
            let _ = writeln!(text, "\n{}", format_args!("{advice}."));
        }
    }
    if rows.len() > CONFLICTS {
        let _ = writeln!(text, "\nAnd {} more conflicts.", rows.len() - CONFLICTS);
    }
}

fn digests(text: &mut String, row: &Row, conflict: &Conflict) {
    *text += "| | digest |\n|---|---|\n";
    let mut line = |what: &str, digest: Option<&Digest>| {
        if let Some(digest) = digest {
            let _ = writeln!(text, "| {what} | `{digest}` |");
        }
    };
    line("locked", row.locked.as_ref());
    line("pinned", conflict.pinned.as_ref().filter(|pinned| row.locked != Some(**pinned)));
    let is = if conflict.is_open { "is" } else { "was" };
    let what = format!("{is} at the registry, since {}", time(conflict.since_ms));
    line(&what, Some(&conflict.observed));
    for digest in &row.digests {
        line("was given to clients", Some(digest));
    }
    if row.digests.is_empty() {
        *text += "| was given to clients | nothing |\n";
    }
}

fn table(text: &mut String, page: &Page, rows: &[&Row]) {
    *text += "| image | digest | requests | decided by | where |\n|---|---|---|---|---|\n";
    for row in rows.iter().take(ROWS) {
        let given: Vec<_> = row.digests.iter().map(|digest| code(&short(digest))).collect();
        let reason = row.reason().map(code);
        let requests = row.requests.get + row.requests.head + row.requests.by_digest;
        let rule = if row.rule.is_empty() { "its digest".to_owned() } else { code(&row.rule) };
        let cells = [
            code(&row.reference.to_string()),
            reason.unwrap_or_else(|| given.join(" ")),
            format!("{requests} by {}", row.clients),
            rule,
            places(page, row),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    if rows.len() > ROWS {
        let _ = writeln!(text, "\nAnd {} more.", rows.len() - ROWS);
    }
}

fn places(page: &Page, row: &Row) -> String {
    let places = page.places.of(&row.reference);
    let more = places.len().saturating_sub(PLACES);
    let mut named: Vec<_> = places
        .iter()
        .take(PLACES)
        .map(|Place { path, line, .. }| code(&format!("{path}:{line}")))
        .collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}

/// A code span. It cannot be left: there is no backtick in it, and it ends on its line.
fn code(text: &str) -> String {
    let text = plain(text).replace('`', "'");
    if text.trim().is_empty() { "` `".to_owned() } else { format!("`{text}`") }
}
