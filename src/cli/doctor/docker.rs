//! Docker: which store it has, and what that store asks.

mod info;
mod store;

use super::address::Source;
use super::finding::Finding;
use super::hosts::{self, Look};
use super::node::Node;
use super::scene::{Fault, Process, Scene, Settings};
use crate::cli::clients::{ClientKind, DockerStore, Version};
pub(super) use info::{DockerInfo, ask};

const CLIENT: ClientKind = ClientKind::Docker;

/// Where its settings are, unless `--config-file` says otherwise.
const FOLDER: &str = "/etc/docker";

/// One daemon: the one that runs, or the one that would.
struct Daemon<'s> {
    scene: &'s Scene,
    process: Option<&'s Process>,
    /// Its folder of settings.
    folder: String,
    config: Settings,
}

/// Whether anything of it is here.
pub(super) fn is_here(scene: &Scene) -> bool {
    let files = ["daemon.json", "certs.d"].map(|name| format!("{FOLDER}/{name}"));
    files.iter().any(|path| scene.files.exists(path))
        || scene.has_program(&["dockerd"])
        || scene.anywhere("dockerd").next().is_some()
}

/// What each daemon asks for the registries.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let mut processes: Vec<_> = scene.anywhere("dockerd").map(Some).collect();
    if processes.is_empty() {
        processes.push(None);
    }
    let mut findings = Vec::new();
    for process in processes {
        match Daemon::read(scene, process) {
            Ok(daemon) => findings.extend(daemon.check()),
            Err(fault) => {
                let then = "dockerd does not start with it, and what one that runs goes by is not \
                            seen here";
                findings.push(fault.finding(CLIENT, then));
            }
        }
    }
    findings
}

impl<'s> Daemon<'s> {
    fn read(scene: &'s Scene, process: Option<&'s Process>) -> Result<Self, Fault> {
        let seen = |path: &str| process.map_or_else(|| path.to_owned(), |it| it.path(path));
        let folder = process.and_then(rootless_folder);
        let folder = seen(folder.as_deref().unwrap_or(FOLDER));
        let given = process.and_then(|process| process.option("--config-file").pop());
        let path = given.map_or_else(|| format!("{folder}/daemon.json"), seen);
        let config = scene.json(&path)?.unwrap_or(Settings { path, root: Node::empty() });
        Ok(Self { scene, process, folder, config })
    }

    fn check(&self) -> Vec<Finding> {
        let folders = [format!("{}/certs.d", self.folder)];
        let (store, why) = self.store();
        let reads_hosts = store == DockerStore::Containerd
            && self.version().is_none_or(|version| version >= Version::DOCKER_READS_HOSTS);
        let named = if reads_hosts { hosts::named(self.scene, &folders) } else { Vec::new() };
        let mut findings: Vec<_> = self.stale().into_iter().collect();
        for registry in &self.scene.with_named(named) {
            let folder = hosts::folder_of(self.scene, &folders, registry);
            let folder =
                folder.filter(|folder| self.scene.files.exists(&format!("{folder}/hosts.toml")));
            match folder {
                Some(folder) if reads_hosts => {
                    let scene = self.scene;
                    let look = Look { scene, client: CLIENT, registry, takes_server_alone: false };
                    findings.extend(hosts::check(look, &folder));
                }
                Some(folder) => {
                    let what = format!("it is not read: {why}");
                    let finding = Finding::protected(CLIENT, what).of(registry);
                    findings.push(finding.at(format!("{folder}/hosts.toml")));
                    findings.push(self.mirrors(registry, reads_hosts, &why));
                }
                None => findings.push(self.mirrors(registry, reads_hosts, &why)),
            }
        }
        findings
    }

    /// Settings that the running daemon has not read.
    fn stale(&self) -> Option<Finding> {
        let info = self.info().filter(|info| self.differs(info))?;
        let mirrors = info.mirrors.join(", ");
        let what = format!("the running dockerd has other mirrors than this file: [{mirrors}]");
        let finding = Finding::protected(CLIENT, what).at(self.config.path.as_str());
        Some(finding.fix("systemctl restart docker"))
    }

    /// What `registry-mirrors` come to, the only setting that the classic store has.
    fn mirrors(&self, registry: &str, reads_hosts: bool, why: &str) -> Finding {
        let mirrors = self.mirror_list();
        let fix = self.fix(registry, reads_hosts);
        let finding = |finding: Finding| finding.of(registry).fix(fix.as_str());
        if registry != "docker.io" {
            let what = format!(
                "registry-mirrors are for docker.io alone: this registry is asked itself ({why})"
            );
            return finding(Finding::bypassable(CLIENT, what)).at(self.config.path.as_str());
        }
        let Some((place, first)) = mirrors.first() else {
            let what = format!("no registry mirror is set: Docker Hub itself is asked ({why})");
            return finding(Finding::bypassable(CLIENT, what)).at(self.config.path.as_str());
        };
        let finding = |kind: Finding| finding(kind).at(place.as_str());
        match self.scene.source(first) {
            Source::Mirror => finding(Finding::hold_only(
                CLIENT,
                format!(
                    "Docker Hub is asked when immutag refuses plainly or is down, and when a layer \
                     fails; {why}"
                ),
            )),
            Source::Direct => finding(Finding::bypassable(
                CLIENT,
                format!("{first} is immutag's direct listener, which is no mirror of Docker Hub"),
            )),
            Source::Misspelt => finding(Finding::bypassable(
                CLIENT,
                format!("{first} has the wrong scheme for immutag: http and https are not one"),
            )),
            Source::Other => finding(Finding::bypassable(
                CLIENT,
                format!("{first} is asked first, and is not immutag's mirror listener"),
            )),
        }
    }

    /// The mirrors, each with its place: what a running daemon says goes over what it should have
    /// read.
    fn mirror_list(&self) -> Vec<(String, String)> {
        let set = self.set_mirrors();
        match self.info() {
            Some(info) if self.differs(info) => {
                let each = info.mirrors.iter().map(|url| (info.place(), url.clone()));
                each.collect()
            }
            _ => set,
        }
    }

    /// Those of the command line, else those of the file. dockerd does not start with both.
    fn set_mirrors(&self) -> Vec<(String, String)> {
        let flags = self.process.map_or(Vec::new(), |process| {
            let place = process.place();
            let urls = process.option("--registry-mirror").into_iter();
            urls.map(|url| (place.clone(), url.to_owned())).collect()
        });
        if !flags.is_empty() {
            return flags;
        }
        let listed = self.config.root.get(&["registry-mirrors"]).map_or(Vec::new(), Node::texts);
        listed.into_iter().map(|(line, url)| (self.config.at(line), url.to_owned())).collect()
    }

    /// Whether the daemon runs with other mirrors than those that are set.
    fn differs(&self, info: &DockerInfo) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        let set = self.set_mirrors().into_iter().map(|(_, url)| plain(&url));
        !set.eq(info.mirrors.iter().map(|url| plain(url)))
    }

    /// What the daemon says of itself.
    fn info(&self) -> Option<&'s DockerInfo> {
        self.scene.dockers.get(&self.process?.id)
    }

    fn fix(&self, registry: &str, reads_hosts: bool) -> String {
        let (mirror, direct) = (self.scene.mirror_url(), self.scene.direct_authority());
        if reads_hosts {
            return format!(
                "{}/certs.d/{registry}/hosts.toml, with server and host {mirror}: immutag setup \
                 docker",
                self.folder
            );
        }
        if registry == "docker.io" {
            return format!(
                "daemon.json: \"registry-mirrors\": [\"{mirror}\"], then restart docker. That is hold \
                 only, for no setting keeps this store from Docker Hub; containerd's store of \
                 Docker 28 and later with a hosts.toml does, or the rules of immutag setup egress"
            );
        }
        format!("pull {direct}/{registry}/…, or use containerd's store (Docker 28 and later)")
    }
}

/// The folder of settings of a daemon without root.
fn rootless_folder(process: &Process) -> Option<String> {
    let is_rootless = process.has_flag("--rootless");
    let config = process.variable("XDG_CONFIG_HOME").map(str::to_owned);
    let config = config.or_else(|| Some(format!("{}/.config", process.variable("HOME")?)));
    config.filter(|_| is_rootless).map(|config| format!("{config}/docker"))
}
