//! How a finding is printed.

use std::io;

use super::whose::{DigestIs, OtherTag, Source, Whose};
use super::{Finding, TagIs};
use crate::cli::output::Printer;
use crate::cli::table::{escape, time};

pub(super) fn print(printer: &mut Printer, finding: &Finding) -> io::Result<()> {
    if printer.is_json {
        printer.json(finding)?;
        return printer.flush();
    }
    printer.line(&headline(finding))?;
    for line in details(finding) {
        printer.line(&format!("             {}", escape(&line)))?;
    }
    printer.flush()
}

fn headline(finding: &Finding) -> String {
    let Finding { reference, found, observed, expected, remark, .. } = finding;
    let mut parts = vec![format!("{:<11}  {reference}", found.words())];
    parts.extend(observed.map(|observed| observed.to_string()));
    let missed = expected.filter(|expected| Some(*expected) != *observed);
    parts.extend(missed.map(|expected| format!("expected {expected}")));
    parts.extend(remark.as_ref().map(|remark| format!("({})", escape(remark))));
    parts.join("  ")
}

/// What is said of a tag with a digest, and of the lock file.
fn details(finding: &Finding) -> Vec<String> {
    let mut lines = Vec::new();
    match finding.tag_is {
        Some(TagIs::Elsewhere) => lines.push("the tag points elsewhere at the upstream".to_owned()),
        Some(TagIs::Unknown) => lines.push("the tag is unknown to the upstream".to_owned()),
        Some(TagIs::There) | None => {}
    }
    lines.extend(finding.whose.as_ref().and_then(whose));
    lines.extend(ledger(finding));
    lines.extend(finding.locked.map(|locked| format!("the lock file has {locked}")));
    lines
}

fn whose(whose: &Whose) -> Option<String> {
    let cut = if whose.is_cut {
        let Whose { tags_asked, tags_listed, .. } = whose;
        format!("; only {tags_asked} of {tags_listed} tags or more were asked for")
    } else {
        String::new()
    };
    Some(match whose.digest_is {
        DigestIs::ThisTag | DigestIs::Unknown => return None,
        DigestIs::Absent => "the digest is not in the repository".to_owned(),
        DigestIs::ConfigOfThisTag => {
            "the digest is that of the tag's config, which `docker images` \
                                      calls the image's id, and names no manifest"
                .to_owned()
        }
        DigestIs::NoTag => {
            format!("the digest is in the repository, and no tag was found that has it{cut}")
        }
        DigestIs::OtherTag => {
            let tags: Vec<_> = whose.other_tags.iter().map(other).collect();
            format!("the digest belongs to {}{cut}", tags.join(", "))
        }
        DigestIs::PlatformOfThisTag => {
            let platform = whose.platform.as_deref().unwrap_or("a platform");
            format!("the digest is the image for {platform} of what the tag points to")
        }
    })
}

fn other(other: &OtherTag) -> String {
    let says = match other.says {
        Source::LedgerPin => "its pin",
        Source::LedgerRecorded => "last recorded there",
        Source::LedgerSeen => "seen there",
        Source::Upstream => "at the upstream",
    };
    format!("{} ({says})", other.tag)
}

fn ledger(finding: &Finding) -> Vec<String> {
    let Some(known) = &finding.ledger else { return Vec::new() };
    let mut lines = Vec::new();
    let pinned = known.pin.zip(known.pin_since_ms);
    lines.extend(pinned.map(|(pin, ms)| format!("the ledger has {pin}, pinned {}", time(ms))));
    lines.extend(known.recorded.map(|last| format!("the ledger recorded {last} last")));
    let open = known.conflict.zip(known.conflict_since_ms);
    lines.extend(open.map(|(other, ms)| format!("in conflict with {other} since {}", time(ms))));
    if let Some(first_ms) = known.digest_first_ms {
        let until = known.digest_until_ms.map(|ms| format!(", until {}", time(ms)));
        let served = if known.digest_was_served { "" } else { "; it was never served there" };
        let until = until.unwrap_or_default();
        lines.push(format!(
            "the digest was seen at the tag first {}{until}{served}",
            time(first_ms)
        ));
    } else if finding.tag_is != Some(TagIs::There) {
        lines.push("the digest was never seen at the tag".to_owned());
    }
    lines
}
