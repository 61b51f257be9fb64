//! `immutag ledger …`: through the server if one runs, on the files themselves if not.

mod restore;
mod view;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::client::{Answer, Place};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::{Global, parse_key};
use crate::decide::{Filter, Reason, Reply, Request};
use crate::ledger::Point;
use crate::oci::Digest;
use crate::pin::PinKey;

#[derive(Debug, Args)]
pub(super) struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
    #[command(flatten)]
    format: FormatArgs,
    /// Open a ledger that is older than its anchor says, and write that down
    #[arg(long, global = true)]
    accept_rollback: bool,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// List tags
    List {
        /// Only these: `docker.io/library/*:3.*`, `acme/**`, `alpine`
        glob: Option<String>,
        /// Only those with an open conflict
        #[arg(long)]
        conflicts: bool,
    },
    /// Show all that is known of a tag
    Show(TagArg),
    /// Show what happened to a tag
    History(TagArg),
    /// Make a digest that was observed at a tag its pin
    Approve {
        #[command(flatten)]
        decision: TagDecision,
        /// Also deny this digest everywhere: the cure for a hostile first pin
        #[arg(long, value_name = "DIGEST")]
        revoke: Option<Digest>,
    },
    /// Never serve a digest for a tag, and never alert of it again
    Reject(TagDecision),
    /// Deny a digest everywhere, by tag and by digest
    Revoke {
        /// The digest
        digest: Digest,
        /// Take the revocation back
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Forget a tag: the upstream's next answer is a first sight
    Forget {
        #[command(flatten)]
        tag: TagArg,
        #[command(flatten)]
        why: Why,
    },
    /// Write all events as JSON lines
    Export {
        /// To this file instead of standard output; it must not exist
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Copy the log, as it is now, to a directory that must not exist; a running server goes on
    Backup {
        /// Where
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Put a backup in the place of the ledger; no server may run
    Restore(restore::RestoreArgs),
    /// Read all of the log, every hash and every manifest
    Verify {
        /// Fail (exit code 4) unless the ledger went through this point, which its log, its
        /// alerts and `ledger status` once named
        #[arg(long, value_name = "SIZE:HASH")]
        against: Option<Point>,
    },
    /// Make the index anew from the log
    Rebuild,
    /// Show how the ledger is
    Status,
}

#[derive(Debug, Args)]
struct TagArg {
    /// The tag: `alpine:3.19`, `ghcr.io/acme/app:1.2.3`
    #[arg(value_name = "REF", value_parser = parse_key)]
    key: PinKey,
}

#[derive(Debug, Args)]
struct Why {
    /// Why; kept with the decision for ever
    #[arg(long)]
    reason: Reason,
}

#[derive(Debug, Args)]
struct TagDecision {
    #[command(flatten)]
    tag: TagArg,
    /// The digest, in full
    #[arg(long)]
    digest: Digest,
    #[command(flatten)]
    why: Why,
}

pub(super) async fn run(global: &Global, args: LedgerArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    if let LedgerCommand::Restore(restore) = args.command {
        return restore::run(&config, restore, args.accept_rollback, args.format).await;
    }
    let place = Place::new(&config, args.accept_rollback);
    let mut printer = Printer::new(args.format);
    let (request, output) = request(args.command)?;
    let file = output.map(|path| create(&path)).transpose()?;
    let client = place.open().await?;
    let in_full = matches!(request, Request::Show { .. });
    let mut answer = client.ask(request).await?;
    match file {
        Some(file) => export(file, &mut answer).await?,
        None => view::print(&mut printer, &mut answer, in_full).await?,
    }
    client.close().await;
    Ok(Code::Ok.into())
}

/// The request, and the file for its answer, if one was named.
fn request(command: LedgerCommand) -> anyhow::Result<(Request, Option<PathBuf>)> {
    let request = match command {
        LedgerCommand::Approve { decision, revoke } => {
            let TagDecision { tag, digest, why } = decision;
            Request::Approve { key: tag.key, digest, revoke, reason: why.reason }
        }
        LedgerCommand::Backup { to } => Request::Backup { to: std::path::absolute(to)? },
        LedgerCommand::Export { output } => return Ok((Request::Export, output)),
        LedgerCommand::Forget { tag, why } => Request::Forget { key: tag.key, reason: why.reason },
        LedgerCommand::History(tag) => Request::History { key: tag.key },
        LedgerCommand::List { glob, conflicts } => {
            Request::List(Filter { glob, only_conflicts: conflicts })
        }
        LedgerCommand::Rebuild => Request::Rebuild,
        LedgerCommand::Reject(TagDecision { tag, digest, why }) => {
            Request::Reject { key: tag.key, digest, reason: why.reason }
        }
        LedgerCommand::Revoke { digest, undo, why } => {
            Request::Revoke { digest, undo, reason: why.reason }
        }
        LedgerCommand::Show(tag) => Request::Show { key: tag.key },
        LedgerCommand::Status => Request::Status,
        LedgerCommand::Verify { against } => Request::Verify { against },
        LedgerCommand::Restore(_) => unreachable!("it asks no ledger"),
    };
    Ok((request, None))
}

fn create(path: &Path) -> anyhow::Result<File> {
    let made = File::create_new(path);
    made.with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes events to a file, durable when this returns. An error leaves a part.
async fn export(file: File, answer: &mut Answer) -> anyhow::Result<()> {
    let mut out = BufWriter::new(file);
    while let Some(reply) = answer.next().await? {
        if let Reply::Event(event) = reply {
            serde_json::to_writer(&mut out, &event)?;
            out.write_all(b"\n")?;
        }
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}
