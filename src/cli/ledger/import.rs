//! `immutag ledger import`: lists of others, and our own export.
//!
//! The file is read and understood here, with the rights of whoever typed the command; the ledger
//! is given claims, or, if it is empty and no server runs, another ledger's whole history.

mod bounded;
mod compose;
mod dockerfile;
mod gather;
mod inspect;
mod jsonl;
mod kubernetes;
mod lines;
mod lock;
mod whole;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::gather::Gather;
use super::super::client::Place;
use super::super::exit::Code;
use super::super::output::Printer;
use super::super::table::{escape, short};
use super::view::imports;
use crate::config::Config;
use crate::decide::{Claimed, Fault, ImportConflict, ImportOrder, Imported, Reason};
use crate::policy::{Decision, Reaction};

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file, or `-` for standard input
    file: PathBuf,
    /// What the file is
    #[arg(long, value_enum, default_value = "auto")]
    format: ImportFormat,
    /// Say what would be, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out tags that are in conflict, and import the others
    #[arg(long)]
    skip_conflicts: bool,
    /// Why, kept for ever [default: where it came from]
    #[arg(long)]
    reason: Option<Reason>,
}

/// What a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImportFormat {
    /// Look at it
    Auto,
    /// What `immutag ledger export` writes
    Jsonl,
    /// `images.lock`, as `immutag lock` writes it
    Lock,
    /// `image:tag@sha256:…`, one a line
    Tags,
    /// `docker image inspect`
    DockerInspect,
    /// `podman image inspect`
    PodmanInspect,
    /// `kubectl get pods -A -o json`
    Kubernetes,
    /// `docker compose config --format json`
    Compose,
    /// A Dockerfile
    Dockerfile,
}

/// How much of a file is looked at to tell what it is, in bytes.
const LOOK: u64 = 64 << 10;

type Input = Box<dyn BufRead + Send>;

pub(super) async fn run(
    config: &Config,
    place: &Place,
    args: ImportArgs,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    let name = escape(&args.file.display().to_string()).into_owned();
    let (format, input) = open(&args.file, args.format).with_context(|| name.clone())?;
    let reason = match args.reason {
        Some(reason) => reason,
        None => format!("imported from {name}").parse().or_else(|_| plain_reason())?,
    };
    if format == ImportFormat::Jsonl && place.is_blank().await? {
        let taken = whole::import(place, input, &reason, args.dry_run).with_context(|| name)?;
        printer.line(&taken)?;
        printer.flush()?;
        return Ok(Code::Ok.into());
    }
    let gather = read(format, input).with_context(|| name)?;
    let (is_dry_run, skips_conflicts) = (args.dry_run, args.skip_conflicts);
    list(config, place, gather, ImportOrder { reason, is_dry_run, skips_conflicts }, printer).await
}

fn plain_reason() -> Result<Reason, Fault> {
    "imported from a file".parse()
}

/// Imports what was gathered, and says all that is to be said of it.
async fn list(
    config: &Config,
    place: &Place,
    gather: Gather,
    order: ImportOrder,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    tell_skipped(&gather)?;
    let claims = gather.claims();
    if claims.is_empty() && gather.contradictions.is_empty() {
        bail!(
            "there is nothing in it that could be imported; --format says what it is, if that was \
             guessed wrongly"
        );
    }
    let contradictory = !gather.contradictions.is_empty() && !order.skips_conflicts;
    let is_dry_run = order.is_dry_run || contradictory;
    let client = place.open().await?;
    let imported = client.import(ImportOrder { is_dry_run, ..order }, &claims).await;
    client.close().await;
    let imported = with_contradictions(imported?, &gather);
    if printer.is_json {
        printer.json(&imported)?;
    } else {
        imports::print(printer, &imported)?;
        if let Some(words) = recorded(config, &claims) {
            printer.line(&words)?;
        }
    }
    printer.flush()?;
    Ok(if imported.conflicting > 0 { Code::Finding } else { Code::Ok }.into())
}

/// A list that says two things of one tag is in conflict with itself.
fn with_contradictions(mut imported: Imported, gather: &Gather) -> Imported {
    imported.conflicting += gather.contradictions.len() as u64;
    let told = gather.contradictions.values().take(1_000).map(|found| ImportConflict {
        key: found.key.clone(),
        claimed: found.digests[1],
        ledger: None,
        why: format!("the list also says {} (at {})", short(&found.digests[0]), found.places[0]),
        place: found.places[1],
    });
    imported.conflicts.extend(told);
    imported
}

fn tell_skipped(gather: &Gather) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for skipped in &gather.skipped {
        writeln!(
            out,
            "left out, at {}: {}: {}",
            skipped.place,
            escape(&skipped.what),
            skipped.why
        )?;
    }
    let told = gather.skipped.len() as u64;
    if told < gather.skipped_count {
        writeln!(out, "left out: {} more", gather.skipped_count - told)?;
    }
    Ok(())
}

/// Claims wait until a rule covers their tag.
fn recorded(config: &Config, claims: &[Claimed]) -> Option<String> {
    let is_recorded = |claimed: &&Claimed| match config.policy.decide(&claimed.key) {
        Decision::Ruled(rule) => rule.reaction == Reaction::Record,
        Decision::Exempt | Decision::Unmatched => true,
    };
    let count = claims.iter().filter(is_recorded).count();
    (count > 0).then(|| {
        format!(
            "{count} of the list's tags are only recorded by the rules: a claim about one of them \
             has no effect before a rule covers it"
        )
    })
}

fn open(path: &Path, format: ImportFormat) -> anyhow::Result<(ImportFormat, Input)> {
    let input: Box<dyn Read + Send> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut input = BufReader::new(input);
    if format != ImportFormat::Auto {
        return Ok((format, Box::new(input)));
    }
    let mut first = Vec::new();
    (&mut input).take(LOOK).read_to_end(&mut first)?;
    let format = look(&first)?;
    Ok((format, Box::new(Cursor::new(first).chain(input))))
}

/// What a file that begins so is.
fn look(first: &[u8]) -> anyhow::Result<ImportFormat> {
    let text = String::from_utf8_lossy(first);
    let text = text.trim_start();
    let has = |key: &str| text.contains(key);
    if text.starts_with("{\"format\":") {
        return Ok(ImportFormat::Jsonl);
    }
    if text.starts_with('[') {
        return Ok(ImportFormat::DockerInspect);
    }
    if is_lock(text) {
        return Ok(ImportFormat::Lock);
    }
    if text.starts_with('{') {
        return match (has("\"services\""), has("\"apiVersion\"") || has("\"items\"")) {
            (true, false) => Ok(ImportFormat::Compose),
            (false, true) => Ok(ImportFormat::Kubernetes),
            _ => bail!("it cannot be told what this JSON is: say so with --format"),
        };
    }
    let is_from = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        word.eq_ignore_ascii_case("FROM") || word.eq_ignore_ascii_case("ARG")
    };
    let is_dockerfile = text.lines().any(is_from);
    Ok(if is_dockerfile { ImportFormat::Dockerfile } else { ImportFormat::Tags })
}

/// A lock file begins with its version, a number; in a Compose project that is a text.
fn is_lock(text: &str) -> bool {
    let version = text.strip_prefix('{').and_then(|it| it.trim_start().strip_prefix("\"version\""));
    let version = version.and_then(|it| it.trim_start().strip_prefix(':'));
    version.is_some_and(|it| it.trim_start().starts_with(|first: char| first.is_ascii_digit()))
}

fn read(format: ImportFormat, input: Input) -> anyhow::Result<Gather> {
    match format {
        ImportFormat::Auto | ImportFormat::Tags => lines::read(input),
        ImportFormat::Compose => compose::read(input),
        ImportFormat::DockerInspect | ImportFormat::PodmanInspect => inspect::read(input),
        ImportFormat::Dockerfile => dockerfile::read(input),
        ImportFormat::Jsonl => jsonl::read(input),
        ImportFormat::Kubernetes => kubernetes::read(input),
        ImportFormat::Lock => lock::read(input),
    }
}
