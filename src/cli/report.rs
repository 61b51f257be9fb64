//! `immutag report`: what the running server gave to its clients, in the form that a job's reader
//! takes.

mod github;
mod gitlab;
mod junit;
mod markdown;
mod places;
mod sarif;
mod words;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use self::places::{Place, Places};
use super::Global;
use super::client::{ask_server, is_nobody, next_line, refused};
use super::exit::Code;
use super::pulls::{Since, now_ms, parse_since};
use crate::admin::socket::{self, Line, ReportRequest};
use crate::oci::ComputedDigest;
use crate::printable::escape_json;
use crate::report::{Head, Report, Row};

/// Where GitHub Actions takes a job's summary from.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 3 a conflict, or a pull that was denied; 6 something that is \
                        not in the lock file; 1 the record is not whole, or no server runs: ask \
                        before `immutag stop`. 3 goes before 6, and 6 before 1.")]
pub(super) struct ReportArgs {
    /// The form
    #[arg(long, value_enum, default_value_t = Form::Markdown)]
    format: Form,
    /// Write it to this file, not to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Look for the lines of images in this file, too: a Dockerfile, a Compose project, a
    /// Kubernetes manifest; may be given several times. Those of the lock file are looked into
    /// anyway
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
    /// Only since then: `1h`, `2026-04-22T09:13:00Z` [default: the server's start]
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
}

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Annotations of GitHub Actions, and its job summary
    Github,
    /// GitLab's Code Quality
    Gitlab,
    /// All of it, as data
    Json,
    /// XML, as test runners write it
    Junit,
    /// For people
    Markdown,
    /// SARIF 2.1.0
    Sarif,
}

/// A report, and where its images are named.
struct Page {
    report: Report,
    places: Places,
}

pub(super) async fn run(global: &Global, args: ReportArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    let since_ms = args.since.map(|since| since.at_ms(now_ms()));
    let report = fetch(&config.data_dir, ReportRequest { since_ms }).await?;
    let working_dir = std::env::current_dir().unwrap_or_default();
    let places = Places::read(report.head.lock.as_deref(), &args.source, &working_dir);
    for unread in &places.unread {
        writeln!(io::stderr(), "no lines are known of {unread}")?;
    }
    let page = Page { report, places };
    deliver(&render(&page, args.format)?, args.output.as_deref())?;
    if args.format == Form::Github {
        add_step_summary(&page)?;
    }
    Ok(code_of(&page.report).into())
}

/// What the server of a data directory gave.
pub(super) async fn fetch(data_dir: &Path, request: ReportRequest) -> anyhow::Result<Report> {
    match socket::connect(data_dir).await {
        Ok(_) => {}
        Err(error) if is_nobody(&error) => {
            bail!(
                "no server runs on {}, and what it gave is known while it runs: ask before \
                 `immutag stop`",
                data_dir.display()
            );
        }
        Err(error) => return Err(refused(data_dir, error)),
    }
    let mut lines = ask_server(data_dir, &json!({ "report": request })).await?;
    let head = match next_line(&mut lines).await? {
        Line::ReportHead(head) => *head,
        Line::Failed(fault) => return Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    };
    let mut rows = Vec::new();
    loop {
        match next_line(&mut lines).await? {
            Line::ReportRow(row) => rows.push(*row),
            Line::Done => return Ok(Report { head, rows }),
            Line::Failed(fault) => return Err(fault.into()),
            _ => bail!("the server answered what nobody asked for"),
        }
    }
}

/// What scripts go by. What is wrong is wrong whatever is missing; that nothing is wrong is known
/// only of a record that is whole.
fn code_of(report: &Report) -> Code {
    if report.has_finding() {
        Code::Finding
    } else if report.has_unlocked() {
        Code::Unlocked
    } else if !report.is_whole() {
        Code::Failure
    } else {
        Code::Ok
    }
}

fn render(page: &Page, form: Form) -> anyhow::Result<String> {
    Ok(match form {
        Form::Github => github::commands(page),
        Form::Gitlab => as_json(&gitlab::document(page))?,
        Form::Json => as_json(&Document::of(page))?,
        Form::Junit => junit::document(page),
        Form::Markdown => markdown::page(page),
        Form::Sarif => as_json(&sarif::document(page))?,
    })
}

fn as_json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    // As in `words::plain`; outside of its strings JSON has no `#`.
    Ok(escape_json(&text).replace("##", "#\\u0023"))
}

fn deliver(text: &str, output: Option<&Path>) -> anyhow::Result<()> {
    match output {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("the report cannot be written to {}", path.display())),
        None => Ok(io::stdout().write_all(text.as_bytes())?),
    }
}

/// Adds the page to the job's summary, where GitHub asks for one.
fn add_step_summary(page: &Page) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(github::step_summary(page).as_bytes()));
    written.with_context(|| format!("the file of ${STEP_SUMMARY} cannot be written"))
}

/// The report as data, with the places of each row.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    #[serde(flatten)]
    head: &'a Head,
    is_whole: bool,
    rows: Vec<Placed<'a>>,
}

#[derive(Serialize)]
struct Placed<'a> {
    #[serde(flatten)]
    row: &'a Row,
    places: Vec<Place>,
}

impl<'a> Document<'a> {
    fn of(page: &'a Page) -> Self {
        let placed = |row: &'a Row| Placed { row, places: page.places.of(&row.reference) };
        Self {
            head: &page.report.head,
            is_whole: page.report.is_whole(),
            rows: page.report.rows.iter().map(placed).collect(),
        }
    }
}

/// A name for a finding, the same each time.
fn fingerprint(parts: &[&str]) -> String {
    ComputedDigest::of(parts.join("\0").as_bytes(), None).digest().hex()
}

#[cfg(test)]
mod tests;
