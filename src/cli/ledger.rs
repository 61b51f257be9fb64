//! `immutag ledger …`: through the server if one runs, on the files themselves if not.

mod diff;
pub(super) mod export;
mod import;
mod restore;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::export::ExportFormat;
use self::import::ImportArgs;
use super::client::Place;
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::{Global, parse_key};
use crate::decide::{Filter, Reason, Request};
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
    #[command(flatten)]
    Asking(Asking),
    /// Show what changed at a tag, and how alarming that looks
    Diff(diff::DiffArgs),
    /// Write everything as JSON lines, or the pins as references
    Export {
        /// What is written
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ExportFormat,
        /// To this file instead of standard output; it must not exist
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Put a backup in the place of the ledger; no server may run
    Restore(restore::RestoreArgs),
    /// Take pins of a list or of another ledger over, until the upstream confirms them
    Import(ImportArgs),
}

/// What is one request, and its answer.
#[derive(Debug, Subcommand)]
enum Asking {
    /// List tags
    List {
        /// Only these: `docker.io/library/*:3.*`, `acme/**`, `alpine`
        glob: Option<String>,
        /// Only those with an open conflict
        #[arg(long)]
        conflicts: bool,
        /// Only those that the upstream says are gone
        #[arg(long)]
        deleted: bool,
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
    /// Copy the log, as it is now, to a directory that must not exist; a running server goes on
    Backup {
        /// Where
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
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
    let place = Place::new(&config, args.accept_rollback);
    let mut printer = Printer::new(args.format);
    let asking = match args.command {
        LedgerCommand::Asking(asking) => asking,
        LedgerCommand::Diff(diff) => return diff::run(&config, &place, diff, printer).await,
        LedgerCommand::Export { format, output } => {
            let client = place.open().await?;
            export::export(&client, format, output.as_deref()).await?;
            client.close().await;
            return Ok(Code::Ok.into());
        }
        LedgerCommand::Restore(restore) => {
            return restore::run(&config, restore, args.accept_rollback, args.format).await;
        }
        LedgerCommand::Import(args) => {
            return import::run(&config, &place, args, &mut printer).await;
        }
    };
    let request = request(asking)?;
    let client = place.open().await?;
    let in_full = matches!(request, Request::Show { .. });
    let mut answer = client.ask(request).await?;
    view::print(&mut printer, &mut answer, in_full).await?;
    client.close().await;
    Ok(Code::Ok.into())
}

/// The request that a command is.
fn request(command: Asking) -> anyhow::Result<Request> {
    Ok(match command {
        Asking::Approve { decision, revoke } => {
            let TagDecision { tag, digest, why } = decision;
            Request::Approve { key: tag.key, digest, revoke, reason: why.reason }
        }
        Asking::Backup { to } => Request::Backup { to: std::path::absolute(to)? },
        Asking::Forget { tag, why } => Request::Forget { key: tag.key, reason: why.reason },
        Asking::History(tag) => Request::History { key: tag.key },
        Asking::List { glob, conflicts, deleted } => {
            Request::List(Filter { glob, only_conflicts: conflicts, only_deleted: deleted })
        }
        Asking::Rebuild => Request::Rebuild,
        Asking::Reject(TagDecision { tag, digest, why }) => {
            Request::Reject { key: tag.key, digest, reason: why.reason }
        }
        Asking::Revoke { digest, undo, why } => {
            Request::Revoke { digest, undo, reason: why.reason }
        }
        Asking::Show(tag) => Request::Show { key: tag.key },
        Asking::Status => Request::Status,
        Asking::Verify { against } => Request::Verify { against },
    })
}
