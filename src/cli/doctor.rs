//! `immutag doctor`: which clients of this host immutag protects, and which can go round it.
//!
//! A [`Scene`] is gathered first; what is said of a client is a pure function of it. Whatever is
//! read there was written by others: it is bounded, and escaped where it is printed.

mod address;
mod buildkit;
mod containerd;
mod docker;
mod files;
mod finding;
mod hosts;
mod json;
mod live;
mod node;
mod podman;
mod proxies;
mod question;
mod rancher;
mod registries;
mod report;
mod running;
mod scene;
mod version;
mod yaml;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, ValueEnum as _};

use super::Global;
use super::clients::{ClientKind, Endpoint, Endpoints};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use crate::config::{Config, reachable};
use crate::oci::Registry;
use finding::{Finding, Standing};
use live::Trial;
use report::{Diagnosis, Report};
use running::weigh;
use scene::Scene;
use scene::gather::{Order, gather};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The clients to look at [default: all that are here]
    #[arg(value_name = "CLIENT")]
    clients: Vec<ClientKind>,
    /// Look at the files below another directory, that of an image say
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The registries that are to be protected [default: docker.io, the configured upstreams, and
    /// those that settings name beside immutag]
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<Registry>,
    /// Where clients find immutag's mirror listener [default: as configured]
    #[arg(long, value_name = "URL")]
    mirror: Option<Endpoint>,
    /// Where clients find immutag's direct listener [default: as configured]
    #[arg(long, value_name = "URL")]
    direct: Option<Endpoint>,
    /// Prove it: a tag of a built-in test registry moves, and Docker, containerd (through ctr) and
    /// Podman are made to pull it through the immutag that runs here
    #[arg(long, conflicts_with_all = ["root", "mirror", "direct"])]
    live: bool,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(global: &Global, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    ensure!(args.root.is_dir(), "{} is no directory", args.root.display());
    let is_elsewhere = args.mirror.is_some() || args.direct.is_some();
    let configured = Endpoints::of(&config);
    let endpoints = Endpoints {
        mirror: args.mirror.or(configured.mirror),
        direct: args.direct.or(configured.direct),
    };
    let is_narrowed = !args.registries.is_empty();
    let mut registries: Vec<_> = args.registries.iter().map(ToString::to_string).collect();
    if !is_narrowed {
        registries.push(Registry::docker_io().to_string());
        registries.extend(config.upstreams.keys().map(ToString::to_string));
    }
    let order = Order { endpoints, registries, is_narrowed };
    let mut scene = tokio::task::spawn_blocking(move || gather(&args.root, order)).await?;
    docker::ask(&mut scene).await;
    let clients = clients(args.clients);
    let mut diagnoses = diagnose(&scene, &clients);
    let admin = Endpoint { is_tls: false, authority: reachable(config.admin.address).to_string() };
    let admin = Some(&admin).filter(|_| !is_elsewhere);
    let running = running::ask(&scene.endpoints, admin, &set(&diagnoses)).await;
    for diagnosis in &mut diagnoses {
        let Diagnosis { client, findings, .. } = diagnosis;
        let troubles = running.troubles(*client, findings);
        findings.extend(troubles);
    }
    if args.live {
        prove(&config, &scene, &mut diagnoses).await?;
    }
    let report = Report { running, diagnoses };
    let mut printer = Printer::new(args.format);
    report.print(&mut printer)?;
    printer.flush()?;
    let is_open = report.worst() == Some(Standing::Bypassable);
    Ok(if is_open { Code::Finding } else { Code::Ok }.into())
}

/// Makes each client that is here pull what moves.
async fn prove(config: &Config, scene: &Scene, diagnoses: &mut [Diagnosis]) -> anyhow::Result<()> {
    let folder = containerd::hosts_folder(scene);
    let registry = scene.registries.first().map_or("docker.io", String::as_str);
    for diagnosis in diagnoses.iter_mut().filter(|diagnosis| !diagnosis.findings.is_empty()) {
        let client = diagnosis.client;
        // Docker's mirrors are Docker Hub's alone.
        let registry = if client == ClientKind::Docker { "docker.io" } else { registry };
        let trial = Trial { client, registry, hosts_folder: &folder };
        diagnosis.findings.extend(live::prove(&config.data_dir, &trial).await?);
    }
    Ok(())
}

/// Those that were asked for, each once; else all that a host can have.
fn clients(asked: Vec<ClientKind>) -> Vec<ClientKind> {
    if asked.is_empty() {
        let all = ClientKind::value_variants().iter().copied();
        return all.filter(|client| *client != ClientKind::Talos).collect();
    }
    asked.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is said of each client, from the scene alone.
fn diagnose(scene: &Scene, clients: &[ClientKind]) -> Vec<Diagnosis> {
    clients.iter().map(|client| examine(scene, *client)).collect()
}

fn examine(scene: &Scene, client: ClientKind) -> Diagnosis {
    if client == ClientKind::Talos {
        let note = "a machine's configuration is not seen from here: look for skipFallback: true \
                    beside each mirror";
        return Diagnosis { client, findings: Vec::new(), note: Some(note) };
    }
    let mut findings = check(scene, client);
    if findings.is_empty() {
        return Diagnosis { client, findings, note: Some("not here") };
    }
    let endpoint = match client {
        ClientKind::Crio | ClientKind::Podman => {
            scene.endpoints.direct.as_ref().or(scene.endpoints.mirror.as_ref())
        }
        _ => scene.endpoints.mirror.as_ref(),
    };
    let proxied = proxies::check(scene, client, endpoint);
    if let Some(trouble) = proxied.trouble {
        let set: Vec<_> = findings.iter().filter(|finding| finding.is_set()).collect();
        let trouble = weigh(trouble, &set, &proxies::THEN);
        findings.push(trouble);
    }
    findings.extend(proxied.notes);
    Diagnosis { client, findings, note: None }
}

/// The findings of a client; none: it is not here.
fn check(scene: &Scene, client: ClientKind) -> Vec<Finding> {
    match client {
        ClientKind::Buildkit if buildkit::is_here(scene) => buildkit::check(scene),
        ClientKind::Containerd if containerd::is_here(scene) => containerd::check(scene),
        ClientKind::Crio if podman::is_crio_here(scene) => podman::check_crio(scene),
        ClientKind::Docker if docker::is_here(scene) => docker::check(scene),
        ClientKind::K3s | ClientKind::Rke2 if rancher::is_here(scene, client) => {
            rancher::check(scene, client)
        }
        ClientKind::Podman if podman::is_here(scene) => podman::check(scene),
        _ => Vec::new(),
    }
}

/// The registries for which some client is set to immutag.
fn set(diagnoses: &[Diagnosis]) -> BTreeSet<String> {
    let findings = diagnoses.iter().flat_map(|diagnosis| &diagnosis.findings);
    let set = findings.filter(|finding| finding.is_set());
    set.filter_map(|finding| finding.registry.clone()).collect()
}

#[cfg(test)]
mod tests;
