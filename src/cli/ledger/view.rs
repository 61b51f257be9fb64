//! What the ledger answers, for people and for programs.

pub(super) mod imports;

use std::io;

use super::super::client::Answer;
use super::super::output::Printer;
use super::super::table::{Table, escape, short, time};
use crate::clock::SystemClock;
use crate::decide::{Decided, Reply, TagEntry};
use crate::event::{Event, EventKind};
use crate::ledger::{LedgerStatus, Verified};
use crate::pin::{OpenConflict, Provenance, TagState};
use crate::policy::Serve;
use crate::policy::judge::judge_gone;

/// Prints an answer as it comes; with `in_full`, tags with all that is known of them.
pub(super) async fn print(
    printer: &mut Printer,
    answer: &mut Answer,
    in_full: bool,
) -> anyhow::Result<()> {
    let mut next = answer.next().await?;
    if printer.is_json {
        while let Some(reply) = next {
            json(printer, &reply)?;
            next = answer.next().await?;
        }
        return Ok(printer.flush()?);
    }
    match next {
        Some(Reply::Event(_)) => events(printer, next, answer).await?,
        Some(Reply::Tag(entry)) if in_full => tag(printer, &entry)?,
        Some(Reply::Tag(_)) => tags(printer, next, answer).await?,
        Some(Reply::Decided(Decided { changed, message, .. })) => {
            let remark = if changed { "" } else { "; nothing was written" };
            printer.line(&format!("{}{remark}", escape(&message)))?;
        }
        Some(Reply::Imported(imported)) => imports::print(printer, &imported)?,
        Some(Reply::Manifest(manifest)) => printer.line(&manifest.manifest.to_string())?,
        Some(Reply::Status(status)) => pairs(printer, &status_pairs(&status))?,
        Some(Reply::Verified(verified)) => {
            printer.line("the ledger is sound")?;
            pairs(printer, &verified_pairs(&verified))?;
        }
        None => printer.line("nothing")?,
    }
    Ok(printer.flush()?)
}

fn json(printer: &mut Printer, reply: &Reply) -> io::Result<()> {
    match reply {
        Reply::Decided(decided) => printer.json(decided),
        Reply::Event(event) => printer.json(event),
        Reply::Imported(imported) => printer.json(imported),
        Reply::Manifest(manifest) => printer.json(manifest),
        Reply::Status(status) => printer.json(status),
        Reply::Tag(entry) => printer.json(entry),
        Reply::Verified(verified) => printer.json(verified),
    }
}

async fn tags(
    printer: &mut Printer,
    mut next: Option<Reply>,
    answer: &mut Answer,
) -> anyhow::Result<()> {
    let mut table = Table::new(printer, &["TAG", "DIGEST", "SINCE", "BY", "STATE"]);
    while let Some(reply) = next {
        if let Reply::Tag(entry) = &reply {
            table.row(&tag_row(entry))?;
        }
        next = answer.next().await?;
    }
    Ok(table.finish()?)
}

fn tag_row(entry: &TagEntry) -> [String; 5] {
    let (standing, claim) = (entry.state.standing(), entry.state.claim.as_ref());
    let digest = standing.map(|pin| pin.content.digest).or(claim.map(|claim| claim.digest));
    let since = standing.map(|pin| pin.since_ms).or(claim.map(|claim| claim.since_ms));
    [
        entry.key.to_string(),
        digest.map_or_else(|| "-".to_owned(), |digest| short(&digest)),
        since.map_or_else(|| "-".to_owned(), time),
        how(entry).to_owned(),
        state(entry),
    ]
}

/// How a tag came to what it stands for.
fn how(entry: &TagEntry) -> &'static str {
    match entry.state.pin.as_ref().map(|pin| pin.provenance) {
        Some(Provenance::Approved) => "approved",
        Some(Provenance::FirstSeen) => "first seen",
        Some(Provenance::Imported) => "imported",
        Some(Provenance::Pushed) => "pushed",
        None if entry.state.recorded.is_some() => "recorded",
        None if entry.state.claim.is_some() => "a claim",
        None => "-",
    }
}

/// What is to be known of a tag beside its digest, the worst first.
fn state(entry: &TagEntry) -> String {
    let mut parts = Vec::new();
    let standing = entry.state.standing().map(|pin| pin.content.digest);
    if standing.is_some_and(|digest| entry.revoked.contains(&digest)) {
        parts.push("REVOKED".to_owned());
    }
    if let Some(open) = &entry.state.conflict {
        let (digest, since) = (short(&open.observed), time(open.since_ms));
        parts.push(format!("CONFLICT {digest} since {since}{}", came_back(&entry.state, open)));
    }
    if let Some(young) = &entry.state.pending {
        let digest = short(&young.content.digest);
        parts.push(format!("too young, {digest} since {}", time(young.since_ms)));
    }
    if let Some(since_ms) = entry.state.deleted_ms {
        parts.push(format!("deleted upstream since {}{}", time(since_ms), refused(&entry.state)));
    }
    if let Some(claim) = &entry.state.claim {
        let since = time(claim.since_ms);
        parts.push(format!("PROVISIONAL: imported {since}, not confirmed by the upstream yet"));
    }
    if let Some(from) = &entry.state.followed_from {
        parts.push(format!("moved from {}", short(from)));
    }
    if parts.is_empty() { "ok".to_owned() } else { parts.join(", ") }
}

/// Whether the upstream had been at the digest before, and how: told apart, for a flap is
/// mostly somebody's retry, and a roll-back brings old holes back.
fn came_back(state: &TagState, open: &OpenConflict) -> String {
    let served = state.seen(&open.observed).is_some_and(|seen| seen.was_served);
    match (served, open.flaps) {
        (_, 0) => String::new(),
        (true, _) => ", ROLLED BACK to what this tag served before".to_owned(),
        (false, 1) => ", flapped: it was there before and had gone".to_owned(),
        (false, flaps) => format!(", flaps: it came back {flaps} times"),
    }
}

/// Whether clients are refused for a deletion.
fn refused(state: &TagState) -> &'static str {
    let (_, serve) = judge_gone(state, SystemClock::shared().wall_ms());
    if serve == Serve::Refusal { ", REFUSED: the pin was too young to outlive it" } else { "" }
}

fn tag(printer: &mut Printer, entry: &TagEntry) -> io::Result<()> {
    let state_of = &entry.state;
    let mut lines = vec![("tag", entry.key.to_string()), ("state", state(entry))];
    if let Some(pin) = state_of.standing() {
        let name = if state_of.pin.is_some() { "pin" } else { "recorded" };
        lines.push((name, pin.content.digest.to_string()));
        lines.push(("media type", pin.content.media_type.to_string()));
        lines.push(("size", format!("{} bytes", pin.content.size_bytes)));
        lines.push(("since", format!("{}, {}", time(pin.since_ms), how(entry))));
    }
    if let Some(open) = &state_of.conflict {
        lines.push(("conflict", open.observed.to_string()));
        let (since, repeats) = (time(open.since_ms), open.repeats);
        let seen = format!("since {since}, {repeats} repeats{}", came_back(state_of, open));
        lines.push(("", seen));
    }
    if let Some(since_ms) = state_of.deleted_ms {
        lines.push(("deleted", format!("since {}{}", time(since_ms), refused(state_of))));
    }
    if let Some(claim) = &state_of.claim {
        lines.push(("imported", claim.digest.to_string()));
        lines.push(("", format!("since {}, not confirmed yet", time(claim.since_ms))));
    }
    pairs(printer, &lines)?;
    printer.line("")?;
    seen(printer, entry)
}

fn seen(printer: &mut Printer, entry: &TagEntry) -> io::Result<()> {
    let mut table = Table::new(printer, &["OBSERVED", "FIRST", "REMARK"]);
    for seen in &entry.state.seen {
        let digest = seen.content.digest;
        let standing = entry.state.standing().is_some_and(|pin| pin.content.digest == digest);
        let remarks: Vec<_> = [
            (standing, "stands"),
            (seen.was_served && !standing, "was served"),
            (entry.state.rejected.contains(&digest), "rejected"),
            (entry.revoked.contains(&digest), "revoked"),
        ]
        .into_iter()
        .filter_map(|(is_so, remark)| is_so.then_some(remark))
        .collect();
        table.row(&[digest.to_string(), time(seen.first_ms), remarks.join(", ")])?;
    }
    table.finish()
}

async fn events(
    printer: &mut Printer,
    mut next: Option<Reply>,
    answer: &mut Answer,
) -> anyhow::Result<()> {
    let headings = ["SEQ", "TIME", "EVENT", "DIGEST", "PIN", "WHO", "WHY"];
    let mut table = Table::new(printer, &headings);
    while let Some(reply) = next {
        if let Reply::Event(event) = &reply {
            table.row(&event_row(event))?;
        }
        next = answer.next().await?;
    }
    Ok(table.finish()?)
}

fn event_row(event: &Event) -> [String; 7] {
    let short_or_dash = |digest: Option<_>| digest.map_or_else(|| "-".to_owned(), |d| short(&d));
    let who = if event.who.is_empty() { "-" } else { &event.who };
    let parts = [event.why.as_str(), event.rule.as_str()];
    let parts = [meaning(event.kind)].into_iter().chain(parts);
    let why: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    let count = if event.count > 0 { format!(" ×{}", event.count) } else { String::new() };
    [
        event.sequence.to_string(),
        time(event.time_ms),
        format!("{}{count}", event.kind),
        short_or_dash(event.observed_digest()),
        short_or_dash(event.pinned),
        who.to_owned(),
        why.join("; "),
    ]
}

/// What a kind's name does not say by itself to somebody who was just woken up.
const fn meaning(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Confirmed => "the upstream agrees with what was imported",
        EventKind::Deleted => "the upstream has no such tag any more",
        EventKind::Flapped => "back at a digest that had gone and was never served",
        EventKind::Healed => "the upstream is back at the pin",
        EventKind::RolledBack => "back at a digest that this tag served before",
        _ => "",
    }
}

fn status_pairs(status: &LedgerStatus) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("ledger", status.id.clone()),
        ("created", time(status.created_ms)),
        ("last event", status.sequence.to_string()),
        ("head", status.point()),
        ("pins", status.pins.to_string()),
        ("open conflicts", status.conflicts.to_string()),
    ];
    if status.rebuilding {
        lines.push(("index", "is being rebuilt".to_owned()));
    }
    if let Some(why) = &status.failure {
        lines.push(("failure", why.clone()));
    }
    lines
}

fn verified_pairs(verified: &Verified) -> [(&'static str, String); 7] {
    [
        ("ledger", verified.id.clone()),
        ("last event", verified.sequence.to_string()),
        ("head", verified.head.clone()),
        ("pins", verified.pins.to_string()),
        ("tags", verified.tags.to_string()),
        ("manifests", verified.manifests.to_string()),
        ("batches", verified.batches.to_string()),
    ]
}

fn pairs(printer: &mut Printer, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs {
        printer.line(&format!("{name:<width$}  {}", escape(value)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
