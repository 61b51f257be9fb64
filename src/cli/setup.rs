//! `immutag setup`: the settings by which a client asks immutag and, where it can be told so,
//! nobody else; and the rules under which nobody but immutag reaches a registry.
//!
//! What is to be written is computed first, from options alone (one module for each client) and
//! then from the files that are there (`plan`); only `install` changes anything.

mod args;
mod buildkit;
mod containerd;
mod docker;
mod egress;
mod hosts;
mod install;
mod json_lists;
mod k3s;
mod merge;
mod options;
mod plan;
mod podman;
mod setting;
mod show;
mod talos;
mod toml_tables;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use self::args::{ClientArgs, ContainerdArgs, DockerArgs};
use self::egress::EgressArgs;
use self::k3s::Distribution;
use self::plan::Plan;
use self::setting::{About, Setting};
use super::Global;
use super::clients::ClientKind;
use super::exit::Code;
use super::output::{FormatArgs, Printer};

#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What becomes of the settings.
#[derive(Debug, Args)]
struct TargetArgs {
    /// Install them: show what changes, back up what is there, then write
    #[arg(long, global = true)]
    write: bool,
    /// Show what --write would change here, and change nothing
    #[arg(long, global = true, conflicts_with = "write")]
    dry_run: bool,
    /// Read and write files below this directory instead of /
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(about = "Settings for BuildKit")]
    Buildkit(ClientArgs),
    /// Settings for containerd
    Containerd(ContainerdArgs),
    /// Settings for CRI-O
    Crio(ClientArgs),
    /// Settings for Docker
    Docker(DockerArgs),
    /// Rules under which only immutag reaches registries
    Egress(EgressArgs),
    /// Settings for k3s
    K3s(ClientArgs),
    /// Settings for Podman, Buildah and skopeo
    Podman(ClientArgs),
    /// Settings for RKE2
    Rke2(ClientArgs),
    /// A machine configuration patch for Talos
    Talos(ClientArgs),
}

pub(super) fn run(global: &Global, args: SetupArgs) -> anyhow::Result<ExitCode> {
    let SetupArgs { what, target, format } = args;
    let setting = setting(global, &what, &target)?;
    let mut printer = Printer::new(format);
    if target.write || target.dry_run {
        let plan = Plan::new(&setting, &target.root)?;
        show::plan(&mut printer, &setting, &plan, target.write)?;
        // What changes is shown before it changes.
        printer.flush()?;
        if target.write {
            write(&mut printer, &plan)?;
        }
    } else {
        show::setting(&mut printer, &setting)?;
    }
    printer.flush()?;
    Ok(Code::Ok.into())
}

/// Writes what changes, file by file, and tells each. Where one cannot be written, what was written
/// before it stays, and the error says so.
fn write(printer: &mut Printer, plan: &Plan) -> anyhow::Result<()> {
    let all = plan.changes().count();
    for (before, change) in plan.changes().enumerate() {
        let backup = install::install(change).with_context(|| {
            format!("{before} of {all} files were written; mend this, then run it again")
        })?;
        show::written(printer, change, backup.as_deref())?;
        printer.flush()?;
    }
    Ok(())
}

/// The settings that are asked for; nothing but the configuration and `--ca-file` is read, and
/// programs are asked for their version where none is given.
fn setting(global: &Global, what: &What, target: &TargetArgs) -> anyhow::Result<Setting> {
    let config = global.load()?;
    // The programs of this host say nothing about another root.
    let may_ask = target.root == *"/";
    let setting = match what {
        What::Buildkit(args) => buildkit::setting(&args.options(&config)?),
        What::Containerd(args) => {
            let found = version::containerd(args.version, may_ask);
            containerd::setting(&args.options(&config)?, &found)
        }
        What::Crio(args) => podman::setting(ClientKind::Crio, &args.options(&config)?),
        What::Docker(args) => {
            let found = version::docker(args.version, args.store, may_ask);
            docker::setting(&args.options(&config)?, &found)
        }
        What::Egress(args) => egress::setting(args, &config),
        What::K3s(args) => k3s::setting(Distribution::K3s, &args.options(&config)?),
        What::Podman(args) => podman::setting(ClientKind::Podman, &args.options(&config)?),
        What::Rke2(args) => k3s::setting(Distribution::Rke2, &args.options(&config)?),
        What::Talos(args) => talos::setting(&args.options(&config)?),
    };
    let mut setting = setting?;
    if let Some(client) = what.seen_by_doctor() {
        let check = format!(
            "see whether it is on: `immutag doctor {client}`, as root, on the client's host; with \
             --mirror and --direct, where they were given here"
        );
        setting.note(About::Then, check);
    }
    Ok(setting)
}

impl What {
    /// The client's name, if the doctor looks at it.
    const fn seen_by_doctor(&self) -> Option<&'static str> {
        let client = match self {
            Self::Buildkit(_) => ClientKind::Buildkit,
            Self::Containerd(_) => ClientKind::Containerd,
            Self::Crio(_) => ClientKind::Crio,
            Self::Docker(_) => ClientKind::Docker,
            Self::K3s(_) => ClientKind::K3s,
            Self::Podman(_) => ClientKind::Podman,
            Self::Rke2(_) => ClientKind::Rke2,
            Self::Egress(_) | Self::Talos(_) => return None,
        };
        Some(client.name())
    }
}
