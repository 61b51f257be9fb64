//! `immutag completions SHELL`.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::exit::Code;
use super::output::{FormatArgs, Printer};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "immutag", &mut script);
    let mut printer = Printer::new(FormatArgs::default());
    printer.line(String::from_utf8_lossy(&script).trim_end())?;
    printer.flush()?;
    Ok(Code::Ok.into())
}
