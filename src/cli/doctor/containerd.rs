//! containerd: whether its CRI plugin looks into `certs.d` at all, and what it finds there.

mod config;

use super::address::Source;
use super::finding::Finding;
use super::hosts::{self, Look};
use super::node::Node;
use super::scene::Scene;
use super::version::words;
use crate::cli::clients::{ClientKind, Version};
use config::{CONFIG, Config, LAYOUTS, paths};

const CLIENT: ClientKind = ClientKind::Containerd;

/// The default of 2.2 and later, which they read as one path.
const DEFAULT_FOLDERS: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

/// From this version on a colon-separated list is read as one path.
const ONE_PATH: Version = Version(2, 1, 0);

/// From this version on [`DEFAULT_FOLDERS`] is the default.
const HAS_DEFAULT: Version = Version(2, 2, 0);

/// From this version on `server` alone is a valid file.
const SERVER_ALONE: Version = Version(1, 7, 32);

/// Whether anything of it is here. The containerd that Docker or k3s bring is theirs.
pub(super) fn is_here(scene: &Scene) -> bool {
    scene.files.exists(CONFIG)
        || scene.has_program(&["containerd"])
        || scene.independent("containerd").next().is_some()
}

/// What it asks for the registries; nothing, if only Docker uses it.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let each = paths(scene).into_iter().flat_map(|path| match Config::read(scene, path) {
        Ok(config) if config.has_cri() => of_cri(scene, &config),
        Ok(_) if scene.has_program(&["nerdctl"]) => {
            let folders: Vec<_> = DEFAULT_FOLDERS.split(':').map(str::to_owned).collect();
            in_folders(scene, &folders, "nerdctl")
        }
        // The plugin is off and nobody else pulls here by itself.
        Ok(_) => Vec::new(),
        Err(fault) => vec![fault.finding(CLIENT, "what containerd runs with is not seen here")],
    });
    let mut findings: Vec<_> = each.collect();
    if findings.is_empty() {
        return findings;
    }
    let ctr = "ctr reads no hosts.toml by itself, and asks the registry";
    let fix = "ctr images pull --hosts-dir /etc/containerd/certs.d …";
    findings.push(Finding::protected(CLIENT, ctr).fix(fix));
    findings
}

/// Where its `hosts.toml` files are: the first folder of `config_path`, else where they mostly are.
pub(super) fn hosts_folder(scene: &Scene) -> String {
    let path = paths(scene).into_iter().next();
    let config = path.and_then(|path| Config::read(scene, path).ok());
    let setting = config.as_ref().and_then(|config| config.setting(&["registry", "config_path"]));
    let folder = setting.and_then(|(_, node)| node.text()?.split(':').next());
    let default = DEFAULT_FOLDERS.split(':').next().unwrap_or_default();
    folder.filter(|folder| !folder.is_empty()).unwrap_or(default).to_owned()
}

fn of_cri(scene: &Scene, config: &Config) -> Vec<Finding> {
    let version = scene.version("containerd");
    let folders = config
        .setting(&["registry", "config_path"])
        .filter(|(_, node)| node.text().is_some_and(|path| !path.is_empty()));
    let mirrors = config.setting(&["registry", "mirrors"]);
    match (folders, mirrors) {
        (Some((place, _)), Some((other, _))) => {
            let what = format!(
                "config_path and registry.mirrors ({other}) exclude each other: the CRI plugin \
                 does not start with both"
            );
            let fix = "remove registry.mirrors";
            vec![Finding::protected(CLIENT, what).at(place).fix(fix)]
        }
        (Some((place, node)), None) => {
            let list = node.text().unwrap_or_default();
            of_list(scene, config, list, &place)
        }
        (None, Some((_, node))) => of_mirrors(scene, config, node),
        (None, None) if version.is_some_and(|version| version >= HAS_DEFAULT) => {
            of_list(scene, config, DEFAULT_FOLDERS, &config.path)
        }
        (None, None) => vec![unset(config, version)],
    }
}

/// `config_path` is set nowhere where this version looks.
fn unset(config: &Config, version: Option<Version>) -> Finding {
    let what = format!(
        "config_path is not set, so containerd ({}) reads no hosts.toml and asks registries \
         themselves",
        words(version)
    );
    let fix = format!(
        "[plugins.\"{}\".registry] config_path = \"/etc/containerd/certs.d\", then restart it",
        config.layout()
    );
    let elsewhere = LAYOUTS
        .iter()
        .find_map(|layout| config.find(&["plugins", layout, "registry", "config_path"]));
    match elsewhere {
        Some((place, _)) => {
            let version = config.version();
            let what =
                format!("{what}: it is set where a file of version {version} has no meaning");
            Finding::bypassable(CLIENT, what).at(place).fix(fix)
        }
        None => Finding::bypassable(CLIENT, what).at(config.path.as_str()).fix(fix),
    }
}

fn of_list(scene: &Scene, config: &Config, list: &str, place: &str) -> Vec<Finding> {
    let version = scene.version("containerd");
    let is_one_path = version.is_none_or(|version| version >= ONE_PATH);
    if list.contains(':') && is_one_path && !config.pulls_itself() {
        let what = format!(
            "config_path = \"{list}\" is read as one path by containerd 2.1 and later (here: {}): \
             no hosts.toml is found, and registries are asked themselves",
            words(version)
        );
        let fix = "config_path = \"/etc/containerd/certs.d\"";
        return vec![Finding::bypassable(CLIENT, what).at(place).fix(fix)];
    }
    let folders: Vec<_> = list.split(':').map(str::to_owned).collect();
    in_folders(scene, &folders, "containerd")
}

fn in_folders(scene: &Scene, folders: &[String], who: &str) -> Vec<Finding> {
    let takes_server_alone =
        scene.version("containerd").is_some_and(|version| version >= SERVER_ALONE);
    let registries = scene.with_named(hosts::named(scene, folders));
    let each = registries.iter().map(|registry| {
        let look = Look { scene, client: CLIENT, registry, takes_server_alone };
        if let Some(folder) = hosts::folder_of(scene, folders, registry) {
            return hosts::check(look, &folder);
        }
        let first = folders.first().map_or("", String::as_str);
        let what = format!("nothing there is about it: {who} asks the registry itself");
        let fix = format!("make {first}/{registry}/hosts.toml: immutag setup containerd");
        let finding = Finding::bypassable(CLIENT, what).of(registry);
        vec![finding.at(folders.join(":")).fix(fix)]
    });
    each.flatten().collect()
}

/// The old way, in the main file: the registry is always asked in the end.
fn of_mirrors(scene: &Scene, config: &Config, mirrors: &Node) -> Vec<Finding> {
    let fix = "remove registry.mirrors; config_path = \"/etc/containerd/certs.d\" and a hosts.toml";
    let each = scene.registries.iter().map(|registry| {
        let entry = mirrors.entry(&[registry]).or_else(|| mirrors.entry(&["*"]));
        let Some(entry) = entry else {
            let what = "registry.mirrors does not name it: the registry itself is asked";
            return Finding::bypassable(CLIENT, what)
                .of(registry)
                .at(config.path.as_str())
                .fix(fix);
        };
        let endpoints = entry.node.get(&["endpoint"]).map_or(Vec::new(), Node::texts);
        let (line, first) = endpoints.first().map_or((entry.line, ""), |(line, url)| (*line, *url));
        let place = config.place_of(mirrors, line);
        let finding = if scene.source(first) == Source::Mirror {
            let what = "the old registry.mirrors always adds the registry, after immutag";
            Finding::hold_only(CLIENT, what)
        } else {
            let what = format!("\"{first}\" is asked first, and is not immutag's mirror listener");
            Finding::bypassable(CLIENT, what)
        };
        finding.of(registry).at(place).fix(fix)
    });
    each.collect()
}
