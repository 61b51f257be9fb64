//! `immutag audit now [GLOB]`: the running server asks for its tags; this tells what it finds.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Global;
use super::client::{ask_server, is_nobody, next_line, refused};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::{Table, escape, short};
use crate::admin::socket::{self, AuditRequest, Line};
use crate::audit::now::{Finding, Outcome, Progress, Tally};

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask upstreams for all tags that have a pin or an open question, now
    Now(NowArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 3 if there is an open conflict, 5 if an upstream could not be \
                        asked, 1 if something else failed."
)]
struct NowArgs {
    /// Only tags that this names: `docker.io/library/*`, `alpine:3.*`, `**/app:*-prod`
    #[arg(value_name = "GLOB")]
    glob: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// The last line of the JSON form.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Total {
    total: Tally,
}

pub(super) async fn run(global: &Global, args: AuditArgs) -> anyhow::Result<ExitCode> {
    let Command::Now(NowArgs { glob, format }) = args.command;
    let data_dir = global.load()?.data_dir;
    match socket::connect(&data_dir).await {
        Ok(_) => {}
        Err(error) if is_nobody(&error) => bail!(
            "no immutag runs on {}, and only a running one audits: start `immutag serve`, or \
             compare single tags without it by `immutag check REF`; --data-dir or --config name \
             another place",
            data_dir.display()
        ),
        Err(error) => return Err(refused(&data_dir, error)),
    }
    let request = serde_json::json!({ "audit": AuditRequest { glob } });
    let mut lines = ask_server(&data_dir, &request).await?;
    let bar = Bar::new();
    let mut findings = Vec::new();
    let tally = loop {
        match next_line(&mut lines).await? {
            Line::AuditFinding(finding) => findings.push(finding),
            Line::Auditing(progress) => bar.set(progress),
            Line::Audited(tally) => break tally,
            Line::Failed(fault) => return Err(fault.into()),
            _ => bail!("the server answered what nobody asked for"),
        }
    };
    drop(bar);
    print(&mut Printer::new(format), &findings, tally)?;
    Ok(code(tally).into())
}

/// A conflict outweighs an upstream that is down, and that what else failed.
const fn code(tally: Tally) -> Code {
    match tally {
        Tally { conflicts: 1.., .. } => Code::Finding,
        Tally { unreachable: 1.., .. } => Code::Unreachable,
        Tally { failed: 1.., .. } => Code::Failure,
        _ => Code::Ok,
    }
}

fn print(printer: &mut Printer, findings: &[Finding], tally: Tally) -> io::Result<()> {
    if printer.is_json {
        findings.iter().try_for_each(|finding| printer.json(finding))?;
        printer.json(&Total { total: tally })?;
        return printer.flush();
    }
    if !findings.is_empty() {
        let mut table = Table::new(printer, &["REFERENCE", "FOUND", "PINNED", "ANSWERS", "WHY"]);
        for Finding { key, outcome, pinned, observed, why } in findings {
            let digest = |it: &Option<_>| it.as_ref().map(short).unwrap_or_default();
            let found = words(*outcome).to_owned();
            table.row(&[key.to_string(), found, digest(pinned), digest(observed), why.clone()])?;
        }
        table.finish()?;
    }
    // Standard error is gone: the exit code is what is left.
    let _ = writeln!(io::stderr(), "{}", escape(&summary(tally)));
    Ok(())
}

const fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Conflict => "CONFLICT",
        Outcome::Failed => "failed",
        Outcome::Gone => "GONE",
        Outcome::Unreachable => "unreachable",
    }
}

fn summary(tally: Tally) -> String {
    let Tally { matching, conflicts, gone, pending, failed, unreachable, skipped } = tally;
    let parts = [
        (matching, "as they were"),
        (conflicts, "in conflict"),
        (gone, "gone"),
        (pending, "too young to be served"),
        (failed, "failed"),
        (unreachable, "whose upstream could not be asked"),
        (skipped, "skipped (asked with the clients' own credentials only, or not configured)"),
    ];
    let told = parts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told.map(|(count, words)| format!("{count} {words}")).collect();
    if told.is_empty() { "no tags to ask for".to_owned() } else { told.join(", ") }
}

/// How far it is, on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new() -> Self {
        Self(io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{pos} of {len} {bar:40} {eta}");
            ProgressBar::new(0).with_style(style.expect("our own template is valid"))
        }))
    }

    fn set(&self, Progress { done, total }: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_outweighs_an_upstream_that_is_down() {
        let tally = Tally { matching: 3, gone: 1, pending: 1, skipped: 1, ..Tally::default() };
        assert_eq!(code(tally), Code::Ok);
        let tally = Tally { failed: 1, ..tally };
        assert_eq!(code(tally), Code::Failure);
        let tally = Tally { unreachable: 1, ..tally };
        assert_eq!(code(tally), Code::Unreachable);
        let tally = Tally { conflicts: 1, ..tally };
        assert_eq!(code(tally), Code::Finding);
        assert!(summary(tally).starts_with("3 as they were, 1 in conflict, 1 gone, "));
    }
}
