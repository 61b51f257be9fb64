//! `immutag cache …`: what is stored.

mod warm;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Global;
use super::output::FormatArgs;

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Pull into the cache, through the server that runs
    Warm(warm::WarmArgs),
}

pub(super) async fn run(global: &Global, args: CacheArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CacheCommand::Warm(warm) => warm::run(global, warm, args.format).await,
    }
}
