//! `immutag export`: what is locked, in the words of others.
//!
//! From the configured lock file or `images.lock` if one is here, else from the ledger; which of them is said on standard
//! error, so that standard output can be a file.

mod buildkit;
mod dockerfile;
mod kustomize;
mod pins;

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::dockerfile::DockerfileArgs;
use self::pins::Pins;
use super::Global;
use super::exit::Code;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 1 something cannot be told to kustomize; 2 the lock file cannot be \
                        used; 6 a Dockerfile names what is not locked, and nothing was written."
)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    format: ExportFormat,
    /// The lock file [default: lock.file of the configuration, else images.lock if it is here, else
    /// the ledger]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "ledger")]
    lock: Option<PathBuf>,
    /// Export the ledger's pins, whatever lock file is here
    #[arg(long, global = true)]
    ledger: bool,
}

#[derive(Debug, Subcommand)]
enum ExportFormat {
    /// A source policy for `docker buildx` and `buildctl`: each tag becomes its digest
    BuildkitPolicy {
        /// Deny all other images
        #[arg(long)]
        deny_rest: bool,
    },
    /// Write the digests into a Dockerfile: `FROM x:1` becomes `FROM x:1@sha256:…`
    Dockerfile(DockerfileArgs),
    /// `images:` for a kustomization
    Kustomize,
    /// `image:tag@sha256:…`, one a line
    References,
}

pub(super) async fn run(global: &Global, args: ExportArgs) -> anyhow::Result<ExitCode> {
    let pins = Pins::open(global, args.lock, args.ledger).await?;
    let count = pins.images.len();
    let references = if count == 1 { "reference" } else { "references" };
    say(&format!("{count} {references} of {}", pins.origin))?;
    match args.format {
        ExportFormat::BuildkitPolicy { deny_rest } => print(&buildkit::policy(&pins, deny_rest)?),
        ExportFormat::Dockerfile(args) => dockerfile::run(&pins, &args),
        ExportFormat::Kustomize => {
            let (text, unclear) = kustomize::images(&pins);
            for words in &unclear {
                say(words)?;
            }
            print(&text)?;
            Ok(if unclear.is_empty() { Code::Ok } else { Code::Failure }.into())
        }
        ExportFormat::References => {
            let lines = pins.images.iter().map(|(reference, digest)| {
                let mut reference = reference.clone();
                reference.digest = Some(*digest);
                format!("{reference}\n")
            });
            print(&lines.collect::<String>())
        }
    }
}

/// For people.
fn say(words: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{words}")
}

/// For programs.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Code::Ok.into())
}
