//! `immutag ledger restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::super::client::Place;
use super::super::exit::Code;
use super::super::output::{FormatArgs, Printer};
use crate::admin::user;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::decide::{Decided, Reason};
use crate::ledger::{OpenOptions, Restored, restore};

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup's directory, as `ledger backup` made it
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Why; kept in the ledger for ever
    #[arg(long)]
    reason: Reason,
}

/// Restores, and says what it came to.
pub(super) async fn run(
    config: &Config,
    args: RestoreArgs,
    accept_rollback: bool,
    format: FormatArgs,
) -> anyhow::Result<ExitCode> {
    if Place::new(config, accept_rollback).is_served().await? {
        bail!("a server runs on {}; stop it first", config.data_dir.display());
    }
    let options = OpenOptions {
        expected_id: config.expected_ledger.clone(),
        accept_rollback,
        ..OpenOptions::new(&config.data_dir)
    };
    let who = user::name_of(rustix::process::getuid().as_raw());
    let RestoreArgs { from, reason } = args;
    let work = move || restore(&options, &from, (&who, reason.as_str()), &*SystemClock::shared());
    let restored = tokio::task::spawn_blocking(work).await??;
    let decided = told(&restored);
    let mut printer = Printer::new(format);
    if printer.is_json {
        printer.json(&decided)?;
    } else {
        let remark = if decided.changed { "" } else { "; nothing was written" };
        printer.line(&format!("{}{remark}", super::super::table::escape(&decided.message)))?;
    }
    printer.flush()?;
    Ok(Code::Ok.into())
}

fn told(restored: &Restored) -> Decided {
    let Restored { from, now, aside } = restored;
    let Some(now) = now else {
        let message = format!("the ledger is at {from}, as the backup is");
        return Decided { changed: false, message, sequence: None };
    };
    let before = aside.as_ref().map_or_else(String::new, |aside| {
        format!(
            "; the ledger before is in {}, remove it when nothing of it is needed",
            aside.display()
        )
    });
    let message = format!("the ledger was restored up to {from} and is now at {now}{before}");
    Decided { changed: true, message, sequence: Some(now.sequence) }
}
