//! What a report says of an image, in words that every form of it shares.

use std::fmt::Write as _;
use std::path::Path;

use super::super::table::time;
use crate::journal::Outcome;
use crate::oci::Digest;
use crate::printable::escape;
use crate::report::{Head, Report, Row, Status};

/// How an image was served, as its form's reader is told: for filters, and for what a rule is.
pub(super) const CHECKS: [(Status, &str); 4] = [
    (Status::Conflict, "a registry answers another digest than the one that is locked or pinned"),
    (Status::Refused, "a pull was refused"),
    (Status::Unlocked, "an image was pulled that is not in the lock file"),
    (Status::New, "a tag was seen for the first time"),
];

/// What it may mean that nobody asked for what the lock file has.
pub(super) const UNUSED: &str = "This job does not need it; or the client had it already and did not ask; or the client went \
     round immutag, as Docker does for everything that is not on docker.io, and any client that \
     has no mirror set up: then nothing here vouches for it.";

/// Text of somebody else. Control characters are spelled out, and no two `#` stand together: `##[`
/// and `##vso[` are commands to the machines that run jobs, wherever they stand in a line.
pub(super) fn plain(text: &str) -> String {
    let mut shown = escape(text).into_owned();
    while shown.contains("##") {
        shown = shown.replace("##", "# #");
    }
    shown
}

/// The first sentence of a report.
pub(super) fn summary(report: &Report) -> String {
    let counts = report.head.counts;
    let total = report.rows.len() as u64 - counts.unused;
    let bad = counts.conflicts + counts.refused + counts.unlocked;
    let as_meant = if report.head.lock.is_some() { "as locked" } else { "as pinned" };
    let parts = [
        (counts.conflicts, "in conflict"),
        (counts.refused, "refused"),
        (counts.unlocked, "not in the lock file"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let first = match (bad, total) {
        (_, 0) => "Nothing was pulled.".to_owned(),
        (0, 1) => format!("The image is {as_meant}."),
        (0, total) => format!("All {total} images are {as_meant}."),
        (1, 1) => format!("The only image is not {as_meant}: {}.", parts.join(", ")),
        (1, total) => format!("1 of {total} images is not {as_meant}: {}.", parts.join(", ")),
        (bad, total) => {
            format!("{bad} of {total} images are not {as_meant}: {}.", parts.join(", "))
        }
    };
    let new = match counts.new {
        0 => String::new(),
        1 => " 1 was seen for the first time.".to_owned(),
        new => format!(" {new} were seen for the first time."),
    };
    let unused = match counts.unused {
        0 => String::new(),
        1 => " 1 in the lock file was not asked for.".to_owned(),
        unused => format!(" {unused} in the lock file were not asked for."),
    };
    first + &new + &unused
}

/// What is missing in a report; `None`: nothing.
pub(super) fn gaps(head: &Head) -> Option<String> {
    let gaps = head.gaps.iter().map(|gap| plain(gap)).collect::<Vec<_>>().join("; ");
    let words = || format!("The record is not whole, so this report proves nothing: {gaps}.");
    (!head.gaps.is_empty()).then(words)
}

/// How the lock file is called.
pub(super) fn lock_name(head: &Head) -> String {
    let name = head.lock.as_deref().and_then(Path::file_name);
    plain(&name.map_or_else(|| "the lock file".into(), |name| name.to_string_lossy()))
}

/// What is wrong with an image, in a few words.
pub(super) fn title(row: &Row) -> String {
    let reference = &row.reference;
    match row.status {
        Status::Conflict if is_served_otherwise(row) => {
            format!("{reference} was not served as locked")
        }
        Status::Conflict => format!("{reference} has another digest at its registry"),
        Status::New => format!("{reference} was seen for the first time"),
        Status::Ok => format!("{reference} is as it should be"),
        Status::Refused if row.is_outside() => {
            format!("{reference} was refused: it is not in the lock file")
        }
        Status::Refused => format!("{reference} was refused"),
        Status::Unlocked => format!("{reference} is not in the lock file"),
        Status::Unused => format!("{reference} is in the lock file, and nobody asked for it"),
    }
}

/// What is to be known of an image, in sentences: no line of it ends, and nothing in it is
/// anybody's but ours, digests, names, and the hint at its end.
pub(super) fn detail(head: &Head, row: &Row) -> String {
    let mut words = match row.status {
        Status::Conflict => conflict(head, row),
        Status::New | Status::Ok => String::new(),
        Status::Refused if row.is_outside() => {
            format!("Nothing that {} does not have is let through.", lock_name(head))
        }
        Status::Refused => {
            format!("immutag refused it: {}.", plain(row.reason().unwrap_or("see its log")))
        }
        Status::Unlocked => format!("{} does not have it.", lock_name(head)),
        Status::Unused => return UNUSED.to_owned(),
    };
    if !words.is_empty() {
        words.push(' ');
    }
    words += &served(row);
    if let Some(conflict) = row.conflict.as_ref().filter(|conflict| !conflict.hint.is_empty()) {
        let _ = write!(words, " What changed: {}.", plain(&conflict.hint));
    }
    words
}

/// What to do about it, its commands and names in backticks; `None`: nothing.
pub(super) fn advice(head: &Head, row: &Row) -> Option<String> {
    let reference = &row.reference;
    let lock = format!("`{}`", lock_name(head).replace('`', "'"));
    match row.status {
        Status::New | Status::Ok | Status::Unused => None,
        Status::Conflict => {
            let observed = row.conflict.as_ref().map(|it| it.observed)?;
            let taken = match row.locked {
                Some(_) => {
                    format!("`immutag lock --update={reference}`, and review the change of {lock}")
                }
                None => {
                    format!("`immutag ledger approve {reference} --digest {observed} --reason …`")
                }
            };
            Some(format!(
                "While immutag runs, `immutag ledger diff {reference}` shows what changed. If the \
                 new digest is meant: {taken}. If it is not: leave it as it is"
            ))
        }
        Status::Refused if !row.is_outside() => {
            Some("`immutag ledger list --conflicts`, and the log of immutag, say more".to_owned())
        }
        Status::Refused | Status::Unlocked => Some(format!(
            "If the build needs it: `immutag lock`, or where no source of {lock} names it \
                 `immutag lock --add REF`; and review the change of {lock}"
        )),
    }
}

fn conflict(head: &Head, row: &Row) -> String {
    let Some(conflict) = &row.conflict else { return String::new() };
    let since = time(conflict.since_ms);
    let observed = conflict.observed;
    let stands = match (row.locked, conflict.pinned) {
        (Some(locked), _) => format!("{} has {locked}", lock_name(head)),
        (None, Some(pinned)) => format!("It stood for {pinned}"),
        (None, None) => "It moved".to_owned(),
    };
    let now = if is_served_otherwise(row) {
        format!("{observed} was served")
    } else if conflict.is_open {
        format!("its registry has answered {observed} since {since}")
    } else {
        format!("its registry answered {observed} at {since}")
    };
    format!("{stands}, and {now}.")
}

/// Whether clients got the other digest.
fn is_served_otherwise(row: &Row) -> bool {
    row.conflict.as_ref().is_some_and(|conflict| row.digests.contains(&conflict.observed))
}

/// What clients got.
fn served(row: &Row) -> String {
    let pulls: u64 = row.requests.get + row.requests.head + row.requests.by_digest;
    if pulls == 0 {
        return "Nobody asked for it.".to_owned();
    }
    let digests: Vec<_> = row.digests.iter().map(Digest::to_string).collect();
    let is_by_digest = row.reference.digest.is_some() || !row.outcomes.iter().any(is_given);
    match digests.as_slice() {
        [] if row.status == Status::Refused || !is_by_digest => "Clients got nothing.".to_owned(),
        [] => "Clients asked for its content by digest.".to_owned(),
        digests => format!("Clients got {}.", digests.join(" and then ")),
    }
}

fn is_given(came: &crate::report::Came) -> bool {
    came.outcome != Outcome::Refused
}
