//! `immutag serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Global;
use crate::config::{LedgerKind, Sources, load};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Go on with a ledger that is older than its anchor says, and write that down
    #[arg(long)]
    pub(super) accept_rollback: bool,
    /// Where the ledger is kept [default: ledger.store]
    #[arg(long, value_enum)]
    ledger: Option<LedgerKind>,
    /// The lock file: what it names is held to it [default: lock.file]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Refuse what is not in the lock file [default: lock.locked]
    #[arg(long)]
    locked: bool,
}

pub(super) async fn run(global: &Global, args: ServeArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start();
    let load = || {
        load(Sources {
            ledger: args.ledger,
            lock: args.lock.clone(),
            is_locked: args.locked,
            ..global.sources()
        })
    };
    let is_clean = crate::serve::serve(load()?, args.accept_rollback, load).await?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
