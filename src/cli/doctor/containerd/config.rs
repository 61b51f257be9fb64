//! containerd's `config.toml` and what it imports.

use crate::cli::clients::CRI_PLUGINS;
use crate::cli::doctor::node::{Node, Value};
use crate::cli::doctor::scene::{Fault, Process, Scene, Settings};

/// Where its settings are, unless `--config` says otherwise.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";

/// Where the CRI plugin's settings are, in files of version 1, 2 and 3; each name turns it off.
pub(super) const LAYOUTS: [&str; 3] = ["cri", CRI_PLUGINS[0], CRI_PLUGINS[1]];

/// The files of the settings, the main one first; a later one goes over those before it.
pub(super) struct Config {
    pub(super) path: String,
    files: Vec<Settings>,
}

/// The main files of those that run; else of the one that would.
pub(super) fn paths(scene: &Scene) -> Vec<String> {
    let given = |process: &Process| {
        let options = ["--config", "-c"].map(|name| process.option(name)).concat();
        options.last().copied().unwrap_or(CONFIG).to_owned()
    };
    let mut paths: Vec<_> = scene.independent("containerd").map(given).collect();
    if paths.is_empty() {
        paths.push(CONFIG.to_owned());
    }
    paths.sort();
    paths.dedup();
    paths
}

impl Config {
    /// Reads a main file, and its imports.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub(super) fn read(scene: &Scene, path: String) -> Result<Self, Fault> {
        let mut files: Vec<_> = scene.toml(&path)?.into_iter().collect();
        let imports = files.first().and_then(|main| main.root.get(&["imports"]));
        let imports = imports.map_or(Vec::new(), Node::texts);
        let imports = imports.iter().flat_map(|(_, pattern)| imported(scene, &path, pattern));
        let imports: Vec<_> = imports.collect();
        for import in imports {
            files.extend(scene.toml(&import)?);
        }
        Ok(Self { path, files })
    }

    /// The version of the main file, which says where settings are.
    pub(super) fn version(&self) -> &str {
        let main = self.files.first();
        main.and_then(|main| main.root.text_at(&["version"])).unwrap_or("1")
    }

    /// Where the main file's version has the plugin's settings.
    pub(super) fn layout(&self) -> &'static str {
        match (self.files.is_empty(), self.version()) {
            (false, "1") => LAYOUTS[0],
            (true, _) | (false, "2") => LAYOUTS[1],
            _ => LAYOUTS[2],
        }
    }

    /// A setting of the plugin, and its place.
    pub(super) fn setting(&self, path: &[&str]) -> Option<(String, &Node)> {
        self.find(&[&["plugins", self.layout()], path].concat())
    }

    /// What the last file says that says anything.
    pub(super) fn find(&self, path: &[&str]) -> Option<(String, &Node)> {
        self.files.iter().rev().find_map(|settings| {
            let entry = settings.root.entry(path)?;
            Some((settings.at(entry.line), &entry.node))
        })
    }

    /// Whether the CRI plugin is on.
    pub(super) fn has_cri(&self) -> bool {
        let disabled =
            self.find(&["disabled_plugins"]).map_or(Vec::new(), |(_, node)| node.texts());
        !disabled.iter().any(|(_, name)| LAYOUTS.contains(name))
    }

    /// Whether the plugin pulls as it did before 2.1, which still takes a list of paths.
    pub(super) fn pulls_itself(&self) -> bool {
        let keys = ["use_local_image_pull", "discard_unpacked_layers"];
        keys.iter().any(|key| {
            self.setting(&[key]).is_some_and(|(_, node)| node.value == Value::Flag(true))
        })
    }

    /// A line of the file that a node is of.
    pub(super) fn place_of(&self, node: &Node, line: usize) -> String {
        let path = ["plugins", self.layout(), "registry", "mirrors"];
        let is_in = |settings: &&Settings| settings.root.get(&path) == Some(node);
        let settings = self.files.iter().rev().find(is_in);
        settings.map_or_else(|| self.path.clone(), |settings| settings.at(line))
    }
}

/// The files that an import names: one, or those of a directory that end alike.
fn imported(scene: &Scene, main: &str, pattern: &str) -> Vec<String> {
    let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder);
    let pattern =
        if pattern.starts_with('/') { pattern.to_owned() } else { format!("{folder}/{pattern}") };
    match pattern.rsplit_once('/') {
        Some((folder, name)) if name.starts_with('*') => scene.files.ending(folder, &name[1..]),
        _ => vec![pattern],
    }
}
