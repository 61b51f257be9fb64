//! Standard output: tables for people, JSON lines for programs.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use clap::Args;
use serde::Serialize;

/// In which form a command prints.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormatArgs {
    /// Print JSON lines [default where the output is no terminal]
    #[arg(long, global = true, conflicts_with = "table")]
    json: bool,
    /// Print a table [default on a terminal]
    #[arg(long, global = true)]
    table: bool,
}

/// Writes to standard output. A closed pipe is an error of kind `BrokenPipe`, never a panic.
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    /// Whether JSON lines are asked for.
    pub(crate) is_json: bool,
}

impl Printer {
    /// A printer for the form that was asked for, else for the one that suits the output.
    pub(crate) fn new(format: FormatArgs) -> Self {
        let stdout = io::stdout();
        let is_json = format.json || !format.table && !stdout.is_terminal();
        Self { out: BufWriter::new(stdout), is_json }
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }

    /// Writes a line of text; the caller has escaped what is not its own.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
