//! `immutag serve`.

mod announce;
mod detach;
mod log_end;
mod pid_file;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::detach::DetachArgs;
use self::pid_file::PidFile;
use super::Global;
use crate::app::App;
use crate::config::{Config, ConfigError, LedgerKind, Sources, load};

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
    #[command(flatten)]
    detach: DetachArgs,
}

impl ServeArgs {
    /// Whether another process is to serve.
    pub(super) const fn is_for_another(&self) -> bool {
        self.detach.is_for_another()
    }

    fn load(&self, global: &Global) -> Result<Config, ConfigError> {
        load(Sources {
            ledger: self.ledger,
            lock: self.lock.clone(),
            is_locked: self.locked,
            ..global.sources()
        })
    }
}

/// Starts this program again, in the background.
pub(super) fn detach(global: &Global, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    detach::detach(&args.load(global)?, &args.detach)
}

pub(super) async fn run(global: &Global, args: ServeArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start();
    let is_announced = args.detach.is_announced();
    if is_announced {
        announce::begin()?;
    }
    let config = args.load(global)?;
    let pid_file = args.detach.pid_file(&config.data_dir);
    let pid_file = pid_file.map(|path| PidFile::prepare(&config.data_dir, path)).transpose()?;
    let ready = |app: &App| {
        if let Some(pid_file) = &pid_file {
            pid_file.publish();
        }
        if is_announced {
            announce::serving(app);
        }
    };
    let served = crate::serve::serve(config, args.accept_rollback, || args.load(global), ready);
    Ok(if served.await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
