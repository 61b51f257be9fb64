//! `immutag serve`.

use std::process::ExitCode;

use clap::Args;

use super::Global;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Go on with a ledger that is older than its anchor says, and write that down
    #[arg(long)]
    pub(super) accept_rollback: bool,
}

pub(super) async fn run(global: &Global, args: ServeArgs) -> anyhow::Result<ExitCode> {
    crate::telemetry::start();
    let config = global.load()?;
    let is_clean = crate::serve::serve(config, args.accept_rollback, || global.load()).await?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
