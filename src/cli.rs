//! The command line: what is typed, what is printed, what the exit code says.

mod audit;
mod cache;
mod check;
mod client;
mod clients;
mod completions;
mod demo;
mod doctor;
mod exit;
mod export;
mod ledger;
mod lock;
mod notify;
mod output;
mod pulls;
mod registry;
mod report;
mod rules;
mod serve;
mod setup;
mod stop;
mod table;
mod validate;
mod verify_image;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Sources, load};
use crate::oci::Reference;
use crate::pin::PinKey;

/// A caching proxy in front of container registries that makes tags immutable.
#[derive(Debug, Parser)]
#[command(name = "immutag", version, propagate_version = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 a finding \
                        (conflict, bypassable), 4 ledger damaged or rolled back, 5 upstream unreachable, \
                        6 not in the lock file.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(
        help = "The configuration file [default: $IMMUTAG_CONFIG, else immutag.toml if it is there]"
    )]
    config: Option<PathBuf>,
    /// Where ledger, held content and cache are
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Serve(serve::ServeArgs),
    /// Show in ten seconds what it does, without Docker or network
    Demo(demo::DemoArgs),
    /// Find the clients of this host that can go round it
    Doctor(doctor::DoctorArgs),
    /// Check the configuration and print what it comes to
    Validate(validate::ValidateArgs),
    /// Look into the ledger, and decide
    Ledger(ledger::LedgerArgs),
    /// Ask upstreams for what the ledger has, now
    Audit(audit::AuditArgs),
    /// Write what is locked as a build's source policy, for kustomize, or into a Dockerfile
    Export(export::ExportArgs),
    /// Look into the cache, fill it, and make room in it
    Cache(cache::CacheArgs),
    /// Write images.lock, which says what each image of a project is, or check it
    Lock(lock::LockArgs),
    /// Try the webhooks, and see how it is with them
    Notify(notify::NotifyArgs),
    /// Show which clients pulled what
    Pulls(pulls::PullsArgs),
    /// Tell what the running server gave, for the end of a CI job
    Report(report::ReportArgs),
    /// Ask the rules
    Rules(rules::RulesArgs),
    /// Compare what upstreams answer now with the ledger; writes nothing
    Check(check::CheckArgs),
    /// Say whether an image may run, as containerd's verifiers are asked
    VerifyImage(verify_image::VerifyImageArgs),
    /// Print or install the settings of clients, and rules that let only immutag out
    Setup(setup::SetupArgs),
    /// End the server, and wait until it is gone
    Stop(stop::StopArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let arguments = verify_image::translated(std::env::args_os());
    let is_gate = verify_image::is_gate(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if is_gate && error.use_stderr() => return verify_image::misused(&error),
        Err(error) => {
            // Nobody reads it any more: the exit code still says it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    exit::code(execute(cli))
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    if !matches!(command, Command::Serve(_)) && std::env::var_os("IMMUTAG_LOG").is_some() {
        crate::telemetry::start();
    }
    let of_many = tokio::runtime::Builder::new_multi_thread;
    let of_one = tokio::runtime::Builder::new_current_thread;
    match command {
        Command::Audit(args) => wait(of_one(), audit::run(&global, args)),
        Command::Cache(args) => wait(of_one(), cache::run(&global, args)),
        Command::Check(args) => wait(of_one(), check::run(&global, args)),
        Command::Completions(args) => completions::run(&args),
        Command::Demo(args) => wait(of_many(), demo::run(args)),
        Command::Doctor(args) => wait(of_one(), doctor::run(&global, args)),
        Command::Export(args) => wait(of_one(), export::run(&global, args)),
        Command::Ledger(args) => wait(of_one(), ledger::run(&global, args)),
        Command::Lock(args) => wait(of_one(), lock::run(&global, args)),
        Command::Notify(args) => wait(of_one(), notify::run(&global, args)),
        Command::Pulls(args) => pulls::run(&global, args),
        Command::Report(args) => wait(of_one(), report::run(&global, args)),
        Command::Rules(args) => wait(of_one(), rules::run(&global, args)),
        Command::Serve(args) if args.is_for_another() => serve::detach(&global, &args),
        Command::Serve(args) => wait(of_many(), serve::run(&global, args)),
        Command::Setup(args) => setup::run(&global, args),
        Command::Stop(args) => wait(of_one(), stop::run(&global, args)),
        Command::Validate(args) => validate::run(&global, &args),
        Command::VerifyImage(args) => Ok(verify_image::run(&global, args)),
    }
}

fn wait(
    mut runtime: tokio::runtime::Builder,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    // Bodies that are sent by the piece keep threads busy: sockets are looked at between them.
    runtime.event_interval(16).enable_all().build()?.block_on(command)
}

impl Global {
    /// The configuration that these options lead to.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        load(self.sources())
    }

    /// Where the configuration that these options lead to comes from.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            path: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..Sources::of_process()
        }
    }
}

/// Reads a tag from the command line: `alpine:3.19`, `ghcr.io/acme/app:1.2.3`.
fn parse_key(text: &str) -> Result<PinKey, String> {
    let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
    if reference.digest.is_some() {
        return Err("a tag is meant here: leave out what begins with @".to_owned());
    }
    Ok(key_of(&reference))
}

/// The tag that a reference names, `latest` if it names none.
fn key_of(reference: &Reference) -> PinKey {
    PinKey {
        registry: reference.registry.clone(),
        repository: reference.repository.clone(),
        tag: reference.tag_or_latest(),
    }
}

#[cfg(test)]
mod tests;
