//! Docker: which store it has, and what that store asks.

use super::address::Source;
use super::finding::Finding;
use super::hosts::{self, Look};
use super::node::{Node, Value};
use super::scene::{Fault, Process, Scene, Settings};
use super::version::{Version, words};
use crate::cli::clients::ClientKind;

const CLIENT: ClientKind = ClientKind::Docker;

/// Where its settings are, unless `--config-file` says otherwise.
const FOLDER: &str = "/etc/docker";

/// From this version on a new installation has containerd's store.
const CONTAINERD_BY_DEFAULT: Version = (29, 0, 0);

/// From this version on containerd's store reads `certs.d/<registry>/hosts.toml`.
const READS_HOSTS: Version = (28, 0, 0);

/// The drivers of containerd's store; every other one is of the classic store.
const SNAPSHOTTERS: [&str; 5] =
    ["fuse-overlayfs-snapshotter", "native", "nydus", "overlayfs", "stargz"];

/// Where a daemon keeps images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Classic,
    Containerd,
}

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
        let reads_hosts = store == Store::Containerd
            && self.version().is_none_or(|version| version >= READS_HOSTS);
        let named = if reads_hosts { hosts::named(self.scene, &folders) } else { Vec::new() };
        let mut findings = Vec::new();
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

    /// The mirrors, each with its place: those of the command line, else those of the file. dockerd
    /// does not start with both.
    fn mirror_list(&self) -> Vec<(String, String)> {
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

    /// The store, and how it is known.
    fn store(&self) -> (Store, String) {
        let version = self.version();
        let feature = self.config.root.entry(&["features", "containerd-snapshotter"]);
        if let Some(entry) = feature
            && let Value::Flag(is_on) = entry.node.value
        {
            let store = if is_on { Store::Containerd } else { Store::Classic };
            return (store, format!("{}, by {}", name(store), self.config.at(entry.line)));
        }
        if let Some(driver) = self.driver() {
            let is_classic = !SNAPSHOTTERS.contains(&driver.as_str());
            let store = if is_classic { Store::Classic } else { Store::Containerd };
            return (store, format!("{}, by the storage driver {driver}", name(store)));
        }
        // An upgrade keeps what there was.
        let data_root = self.value("data-root").unwrap_or_else(|| "/var/lib/docker".to_owned());
        let data_root = self.process.map_or(data_root.clone(), |it| it.path(&data_root));
        let is_upgraded = self.scene.files.exists(&format!("{data_root}/image"));
        let is_new = version.is_some_and(|version| version >= CONTAINERD_BY_DEFAULT);
        let is_remapped = self.value("userns-remap").is_some();
        let is_containerd = is_new && !is_upgraded && !is_remapped;
        let store = if is_containerd { Store::Containerd } else { Store::Classic };
        (store, format!("{}, the default here of dockerd {}", name(store), words(version)))
    }

    /// Its version; of one in a container nothing is known.
    fn version(&self) -> Option<Version> {
        let is_contained = self.process.is_some_and(|process| process.container.is_some());
        self.scene.version("dockerd").filter(|_| !is_contained)
    }

    fn driver(&self) -> Option<String> {
        let short = self.process.and_then(|process| process.option("-s").pop());
        self.value("storage-driver").or_else(|| short.map(str::to_owned))
    }

    /// An option: on the command line, else in the file.
    fn value(&self, name: &str) -> Option<String> {
        let flag = self.process.and_then(|process| process.option(&format!("--{name}")).pop());
        let value = flag.or_else(|| self.config.root.text_at(&[name]));
        value.filter(|value| !value.is_empty()).map(str::to_owned)
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
                "\"registry-mirrors\": [\"{mirror}\"] alone; that is hold only, since the classic \
                 store always falls back: Docker 28 and later with containerd's store and a \
                 hosts.toml, or the rules of immutag setup egress, close it"
            );
        }
        format!("pull {direct}/{registry}/…, or use containerd's store (Docker 28 and later)")
    }
}

const fn name(store: Store) -> &'static str {
    match store {
        Store::Classic => "the classic store",
        Store::Containerd => "containerd's store",
    }
}

/// The folder of settings of a daemon without root.
fn rootless_folder(process: &Process) -> Option<String> {
    let is_rootless = process.has_flag("--rootless");
    let config = process.variable("XDG_CONFIG_HOME").map(str::to_owned);
    let config = config.or_else(|| Some(format!("{}/.config", process.variable("HOME")?)));
    config.filter(|_| is_rootless).map(|config| format!("{config}/docker"))
}
