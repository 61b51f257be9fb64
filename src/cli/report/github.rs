//! Annotations of GitHub Actions: a command for each place of each image that is not as it should
//! be, and the page for the job's summary.
//!
//! Source: docs.github.com, "Workflow commands for GitHub Actions"; what is escaped, and how, is
//! `escapeData` and `escapeProperty` of actions/toolkit.

use std::fmt::Write as _;

use super::places::Place;
use super::words::{advice, detail, gaps, plain, summary, title};
use super::{Page, markdown};
use crate::report::{Row, Status};

/// The most annotations: GitHub shows ten of each kind for a step.
const MOST: usize = 50;

/// The most that a job's summary takes is 1 MiB, or all of it is lost.
const SUMMARY_BYTES: usize = 900 << 10;

/// The commands, a line each.
pub(super) fn commands(page: &Page) -> String {
    let mut text = String::new();
    if let Some(gaps) = gaps(&page.report.head) {
        command(&mut text, "error", None, "The record is not whole", &gaps);
    }
    let places = page.report.rows.iter().filter_map(|row| Some((row, kind(row)?)));
    let mut places = places.flat_map(|(row, kind)| {
        let at = page.places.of(&row.reference);
        let at = if at.is_empty() { vec![None] } else { at.into_iter().map(Some).collect() };
        at.into_iter().map(move |place| (row, kind, place))
    });
    for (row, kind, place) in places.by_ref().take(MOST) {
        let mut words = detail(&page.report.head, row);
        if let Some(advice) = advice(&page.report.head, row) {
            let _ = write!(words, "\n{advice}.");
        }
        command(&mut text, kind, place.as_ref(), &title(row), &words);
    }
    let more = places.count();
    if more > 0 {
        let words = format!("{more} more are not shown here. {}", summary(&page.report));
        command(&mut text, "notice", None, "immutag report", &words);
    }
    text
}

/// The page for the job's summary, cut where it would be too much.
pub(super) fn step_summary(page: &Page) -> String {
    let mut text = markdown::page(page);
    if text.len() > SUMMARY_BYTES {
        let end = text[..text.floor_char_boundary(SUMMARY_BYTES)].rfind('\n').unwrap_or(0);
        text.truncate(end);
        text += "\n\nThe rest does not fit here: `immutag report --format json` has all.\n";
    }
    text
}

const fn kind(row: &Row) -> Option<&'static str> {
    match row.status {
        Status::Conflict | Status::Refused | Status::Unlocked => Some("error"),
        Status::New => Some("notice"),
        Status::Ok | Status::Unused => None,
    }
}

fn command(text: &mut String, kind: &str, place: Option<&Place>, title: &str, words: &str) {
    let _ = write!(text, "::{kind} ");
    if let Some(Place { path, line, column }) = place {
        let _ = write!(text, "file={},line={line},", property(path));
        if let Some(column) = column {
            let _ = write!(text, "col={column},");
        }
    }
    let _ = writeln!(text, "title={}::{}", property(title), data(words));
}

/// The text of a command; its lines are ours.
fn data(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(plain).collect();
    lines.join("\n").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
