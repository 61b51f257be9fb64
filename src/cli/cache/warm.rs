//! `immutag cache warm REF…`: the server pulls, as it would for a client; this asks and tells.

mod bars;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::super::Global;
use super::super::client::{ask_server, is_nobody, next_line, refused};
use super::super::exit::Code;
use super::super::output::{FormatArgs, Printer};
use super::super::table::{Table, short};
use crate::admin::socket::{self, Line, WarmRequest};
use crate::oci::Reference;
use crate::pull::{WarmPlatform, Warmed};
use crate::units::ByteSize;
use bars::Bars;

#[derive(Debug, Args)]
pub(super) struct WarmArgs {
    /// What to pull: `alpine:3.20.1`, `ghcr.io/acme/app@sha256:…`
    #[arg(value_name = "REF", required_unless_present = "from")]
    references: Vec<Reference>,
    /// Also what stands in this file, one on a line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Platforms of an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', conflicts_with = "all_platforms")]
    platform: Vec<WarmPlatform>,
    /// All platforms of an index, and its attestations
    #[arg(long)]
    all_platforms: bool,
    /// How many are pulled at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=8))]
    jobs: u8,
}

/// What came of one reference.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    reference: String,
    /// `warm`; `conflict`, warm or not; `failed`.
    state: &'static str,
    #[serde(flatten)]
    warmed: Option<Warmed>,
    /// Why not, or what else there is to say.
    remark: String,
}

pub(super) async fn run(
    global: &Global,
    args: WarmArgs,
    format: FormatArgs,
) -> anyhow::Result<ExitCode> {
    let data_dir = global.load()?.data_dir;
    let mut references = args.references;
    references.extend(args.from.as_deref().map(read).transpose()?.unwrap_or_default());
    let platforms = match (args.all_platforms, args.platform) {
        (true, _) => Vec::new(),
        (false, given) if given.is_empty() => vec![this_platform()],
        (false, given) => given,
    };
    find_server(&data_dir).await?;
    let bars = Arc::new(Bars::new(references.len()));
    let warming = stream::iter(references).map(|reference| {
        let (data_dir, bars, platforms) = (data_dir.clone(), Arc::clone(&bars), platforms.clone());
        async move {
            let outcome = warm(&data_dir, &reference, platforms, &bars).await;
            bars.tell(&outcome);
            outcome
        }
    });
    let outcomes: Vec<_> = warming.buffered(usize::from(args.jobs)).collect().await;
    drop(bars);
    print(&mut Printer::new(format), &outcomes)?;
    Ok(worst(&outcomes).into())
}

/// One reference on a line; empty lines, and what follows a `#`, say nothing.
fn read(path: &Path) -> anyhow::Result<Vec<Reference>> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    let mut references = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let reference = line.split('#').next().unwrap_or_default().trim();
        if !reference.is_empty() {
            let parsed = reference.parse();
            references.push(parsed.with_context(|| format!("{}:{number}", path.display()))?);
        }
    }
    Ok(references)
}

/// This machine's platform, as images call it.
fn this_platform() -> WarmPlatform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    format!("linux/{architecture}").parse().expect("an architecture is a word")
}

async fn find_server(data_dir: &Path) -> anyhow::Result<()> {
    match socket::connect(data_dir).await {
        Ok(_) => Ok(()),
        Err(error) if is_nobody(&error) => bail!(
            "no immutag runs on {}, and only a running one pulls: start `immutag serve`; --data-dir \
             or --config name another place",
            data_dir.display()
        ),
        Err(error) => Err(refused(data_dir, error)),
    }
}

async fn warm(
    data_dir: &Path,
    reference: &Reference,
    platforms: Vec<WarmPlatform>,
    bars: &Bars,
) -> Outcome {
    let named = reference.to_string();
    match ask(data_dir, &named, platforms, bars).await {
        Ok(Line::Warmed(warmed)) => {
            let state = if warmed.conflict.is_some() { "conflict" } else { "warm" };
            let remark = warmed.warnings.join("; ");
            Outcome { reference: named, state, warmed: Some(warmed), remark }
        }
        Ok(Line::Refused(refused)) => {
            let is_conflict = refused.reason == "DIGEST_CHANGED";
            let state = if is_conflict { "conflict" } else { "failed" };
            let remark = format!("{} ({})", refused.message, refused.reason);
            Outcome { reference: named, state, warmed: None, remark }
        }
        Ok(_) => failed(named, "the server answered what nobody asked for".to_owned()),
        Err(error) => failed(named, format!("{error:#}")),
    }
}

fn failed(reference: String, remark: String) -> Outcome {
    Outcome { reference, state: "failed", warmed: None, remark }
}

/// Asks the server and follows its progress; gives the last line of its answer.
async fn ask(
    data_dir: &Path,
    reference: &str,
    platforms: Vec<WarmPlatform>,
    bars: &Bars,
) -> anyhow::Result<Line> {
    let warm = WarmRequest { reference: reference.to_owned(), platforms };
    let mut lines = ask_server(data_dir, &serde_json::json!({ "warm": warm })).await?;
    let bar = bars.begin(reference);
    loop {
        match next_line(&mut lines).await? {
            Line::Warming(progress) => bar.set(progress),
            Line::Failed(fault) => return Err(fault.into()),
            last => return Ok(last),
        }
    }
}

fn print(printer: &mut Printer, outcomes: &[Outcome]) -> io::Result<()> {
    if printer.is_json {
        outcomes.iter().try_for_each(|outcome| printer.json(outcome))?;
        return printer.flush();
    }
    let headings = ["REFERENCE", "STATE", "DIGEST", "PLATFORMS", "SIZE", "FETCHED", "REMARK"];
    let mut table = Table::new(printer, &headings);
    for Outcome { reference, state, warmed, remark } in outcomes {
        let cell = |text: fn(&Warmed) -> String| warmed.as_ref().map(text).unwrap_or_default();
        table.row(&[
            reference.clone(),
            (*state).to_owned(),
            cell(|warmed| short(&warmed.digest)),
            cell(|warmed| warmed.platforms.join(",")),
            cell(|warmed| ByteSize(warmed.size_bytes).to_string()),
            cell(|warmed| ByteSize(warmed.fetched_bytes).to_string()),
            remark.clone(),
        ])?;
    }
    table.finish()
}

/// A conflict outweighs a failure.
fn worst(outcomes: &[Outcome]) -> Code {
    let has = |state| outcomes.iter().any(|outcome| outcome.state == state);
    match (has("conflict"), has("failed")) {
        (true, _) => Code::Finding,
        (false, true) => Code::Failure,
        (false, false) => Code::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_one_reference_on_a_line_and_a_bad_one_by_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# ours\nalpine:3.20.1\n\n ghcr.io/acme/app:1 # pinned\n")
            .unwrap();
        let read_back: Vec<_> =
            read(file.path()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read_back, ["docker.io/library/alpine:3.20.1", "ghcr.io/acme/app:1"]);
        std::fs::write(file.path(), "alpine\nUPPER/Case:\n").unwrap();
        let error = format!("{:#}", read(file.path()).unwrap_err());
        assert!(error.contains(":2: "), "{error}");
    }

    #[test]
    fn a_conflict_outweighs_a_failure() {
        let outcome = |state| Outcome { state, ..failed(String::new(), String::new()) };
        assert_eq!(worst(&[outcome("warm")]), Code::Ok);
        assert_eq!(worst(&[outcome("failed"), outcome("warm")]), Code::Failure);
        assert_eq!(worst(&[outcome("failed"), outcome("conflict")]), Code::Finding);
    }
}
