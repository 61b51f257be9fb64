//! `immutag demo`.

use std::process::ExitCode;

use clap::Args;

use super::Global;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {}

#[expect(clippy::unused_async, reason = "the demo is wired in by its own change")]
pub(super) async fn run(_global: &Global, _args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not wired")
}
