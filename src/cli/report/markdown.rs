//! The page for people: what is wrong first, the rest folded.
//!
//! Whatever is not a word of ours stands in a code span, where Markdown, HTML, links and mentions
//! are nothing; in tables `|` is escaped there, too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::table::{short, time};
use super::Page;
use super::places::Place;
use super::words::{UNUSED, advice, gaps, lock_name, plain, summary, title};
use crate::oci::Digest;
use crate::report::{Conflict, Head, Row, Status};

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
            writeln!(text, ", locked to {} ({}).", code(&lock_name(head)), entries(head))
        }
        Some(_) => writeln!(
            text,
            ", with {} ({}); what it does not have was let through.",
            code(&lock_name(head)),
            entries(head)
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
        let what = if status == Status::Refused { "why" } else { "digest" };
        table(&mut text, page, what, &rows);
        let advices: BTreeSet<_> = rows.iter().filter_map(|row| advice(head, row)).collect();
        for advice in advices {
            let _ = writeln!(text, "\n{advice}.");
        }
    }
    let rest = rows_of(page, Status::Ok);
    if !rest.is_empty() {
        let what = match rest.len() {
            1 => "1 image is as it should be".to_owned(),
            count => format!("{count} images are as they should be"),
        };
        let _ = writeln!(text, "\n<details>\n<summary>{what}</summary>\n");
        table(&mut text, page, "digest", &rest);
        text += "\n</details>\n";
    }
    unused(&mut text, page);
    text
}

fn unused(text: &mut String, page: &Page) {
    let rows = rows_of(page, Status::Unused);
    let what = match rows.len() {
        0 => return,
        1 => "1 image of the lock file was not asked for".to_owned(),
        count => format!("{count} images of the lock file were not asked for"),
    };
    let _ = writeln!(text, "\n<details>\n<summary>{what}</summary>\n\n{UNUSED}\n");
    *text += "| image | digest | where |\n|---|---|---|\n";
    for row in rows.iter().take(ROWS) {
        let locked = row.locked.as_ref().map(|digest| code(&short(digest))).unwrap_or_default();
        let cells = [code(&row.reference.to_string()), locked, places(page, row)];
        line(text, &cells);
    }
    more(text, rows.len());
    *text += "\n</details>\n";
}

/// A line of a table.
fn line(text: &mut String, cells: &[String]) {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// What a table does not show.
fn more(text: &mut String, rows: usize) {
    if rows > ROWS {
        let _ = writeln!(text, "\nAnd {} more.", rows - ROWS);
    }
}

fn entries(head: &Head) -> String {
    format!("{} {}", head.entries, if head.entries == 1 { "entry" } else { "entries" })
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
            let _ = writeln!(text, "\nWhat changed: {}", code(&conflict.hint));
        }
        if let Some(advice) = advice(&page.report.head, row) {
            let _ = writeln!(text, "\n{advice}.");
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

fn table(text: &mut String, page: &Page, what: &str, rows: &[&Row]) {
    let _ =
        write!(text, "| image | {what} | requests | decided by | where |\n|---|---|---|---|---|\n");
    for row in rows.iter().take(ROWS) {
        let given: Vec<_> = row.digests.iter().map(|digest| code(&short(digest))).collect();
        let reason = row.reason().map(|reason| {
            let words = if row.is_outside() { "not in the lock file: " } else { "" };
            format!("{words}{}", code(reason))
        });
        let requests = row.requests.get + row.requests.head + row.requests.by_digest;
        let rule = if row.rule.is_empty() { "its digest".to_owned() } else { code(&row.rule) };
        let cells = [
            code(&row.reference.to_string()),
            reason.unwrap_or_else(|| given.join(" ")),
            format!("{requests} by {}", row.clients),
            rule,
            places(page, row),
        ];
        line(text, &cells);
    }
    more(text, rows.len());
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
