//! What the doctor looks at: files, processes, versions, and where immutag is.

pub(super) mod gather;

use std::collections::BTreeMap;

use super::address::{Address, Source, source_of};
use super::docker::DockerInfo;
use super::files::Files;
use super::finding::Finding;
use super::json::from_json;
use super::node::{Node, Spoilt, from_toml};
use super::yaml::from_yaml;
use crate::cli::clients::{ClientKind, Endpoints, Version};

/// Where programs are.
pub(super) const PROGRAM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A host, as far as clients of registries go.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) files: Files,
    pub(super) endpoints: Endpoints,
    /// The registries that are to be protected, by the names that references carry.
    pub(super) registries: Vec<String>,
    /// Whether the user named them: then no others are looked for.
    pub(super) is_narrowed: bool,
    pub(super) processes: Vec<Process>,
    /// Of whoever runs the doctor; empty where another root is looked at.
    pub(super) environment: BTreeMap<String, String>,
    /// Whether it is the host that the doctor runs on, whose daemons can be asked.
    pub(super) is_own: bool,
    /// By program.
    pub(super) versions: BTreeMap<&'static str, Version>,
    /// What running dockerds say of themselves, by their process ids.
    pub(super) dockers: BTreeMap<u32, DockerInfo>,
}

/// A running program.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Who started it, if that is known.
    pub(super) parent: Option<u32>,
    /// Whose it is, if that is known.
    pub(super) user: Option<u32>,
    /// The program's name, without its folder.
    pub(super) name: String,
    /// As it was called, the program first.
    pub(super) arguments: Vec<String>,
    /// The variables that matter here; `None`: this user may not see them.
    pub(super) environment: Option<BTreeMap<String, String>>,
    /// The root of its container's files, if it runs in one: `/proc/12/root`.
    pub(super) container: Option<String>,
}

/// A file of settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) path: String,
    pub(super) root: Node,
}

/// A file that is there and cannot be read as settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: String,
    pub(super) why: String,
}

impl Scene {
    /// A file of settings in TOML; `None`: it is not there.
    pub(super) fn toml(&self, path: &str) -> Result<Option<Settings>, Fault> {
        self.settings(path, from_toml)
    }

    /// The same in JSON.
    pub(super) fn json(&self, path: &str) -> Result<Option<Settings>, Fault> {
        self.settings(path, from_json)
    }

    /// The same in YAML.
    pub(super) fn yaml(&self, path: &str) -> Result<Option<Settings>, Fault> {
        self.settings(path, from_yaml)
    }

    fn settings(
        &self,
        path: &str,
        parse: fn(&str) -> Result<Node, Spoilt>,
    ) -> Result<Option<Settings>, Fault> {
        let text = self.files.text(path);
        let text = text.map_err(|why| Fault { place: path.to_owned(), why })?;
        let Some(text) = text else { return Ok(None) };
        let root = parse(&text).map_err(|Spoilt { line, why }| {
            let place = line.map_or_else(|| path.to_owned(), |line| format!("{path}:{line}"));
            Fault { place, why }
        })?;
        Ok(Some(Settings { path: path.to_owned(), root }))
    }

    /// Whether one of these programs is installed.
    pub(super) fn has_program(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.program(name).is_some())
    }

    /// The path of a program.
    pub(super) fn program(&self, name: &str) -> Option<String> {
        let mut paths = PROGRAM_FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        paths.find(|path| self.files.exists(path))
    }

    /// The running programs of this name, those in containers left out.
    pub(super) fn running<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Process> {
        self.anywhere(name).filter(|process| process.container.is_none())
    }

    /// The same without those that Docker, k3s or RKE2 started: these are theirs.
    pub(super) fn independent<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Process> {
        let is_foreign = |process: &Process| {
            let parent = self.processes.iter().find(|other| Some(other.id) == process.parent);
            parent.is_some_and(|it| ["dockerd", "k3s", "rke2"].contains(&it.name.as_str()))
        };
        self.running(name).filter(move |process| !is_foreign(process))
    }

    /// The running programs of this name, in containers too.
    pub(super) fn anywhere<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Process> {
        self.processes.iter().filter(move |process| process.name == name)
    }

    /// The version of a program, if it could be told.
    pub(super) fn version(&self, program: &str) -> Option<Version> {
        self.versions.get(program).copied()
    }

    /// Whose address a setting names.
    pub(super) fn source(&self, text: &str) -> Source {
        Address::parse(text).map_or(Source::Other, |address| source_of(&self.endpoints, &address))
    }

    /// The mirror listener's URL, to be written into settings.
    pub(super) fn mirror_url(&self) -> String {
        let url = self.endpoints.mirror.as_ref().map(ToString::to_string);
        url.unwrap_or_else(|| "http://IMMUTAG:5050".to_owned())
    }

    /// The direct listener's `host:port`, to be written into settings.
    pub(super) fn direct_authority(&self) -> String {
        let direct = self.endpoints.direct.as_ref();
        direct.map_or_else(|| "IMMUTAG:5051".to_owned(), |direct| direct.authority.clone())
    }

    /// The registries to look at: those asked for, and unless the user named them also those that
    /// settings name beside immutag.
    pub(super) fn with_named(&self, named: Vec<String>) -> Vec<String> {
        let mut all = self.registries.clone();
        if !self.is_narrowed {
            all.extend(named);
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|registry| seen.insert(registry.clone()));
        all
    }
}

impl Process {
    /// The values of an option, `--name VALUE` or `--name=VALUE`, in their order.
    pub(super) fn option(&self, name: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (index, argument) in self.arguments.iter().enumerate() {
            match argument.strip_prefix(name) {
                Some("") => values.extend(self.arguments.get(index + 1).map(String::as_str)),
                Some(rest) => values.extend(rest.strip_prefix('=')),
                None => {}
            }
        }
        values
    }

    /// Whether a flag is set: `--name`, `--name=true`.
    pub(super) fn has_flag(&self, name: &str) -> bool {
        let on = format!("{name}=true");
        self.arguments.iter().any(|argument| argument == name || *argument == on)
    }

    /// A variable of its environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.as_ref()?.get(name).map(String::as_str)
    }

    /// Where a file is that it calls by this path.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.container.as_deref().unwrap_or_default())
    }

    /// As a place: `process 12 (dockerd)`.
    pub(super) fn place(&self) -> String {
        format!("process {} ({})", self.id, self.name)
    }
}

impl Fault {
    /// As a finding: nothing that depends on the file is vouched for.
    pub(super) fn finding(self, client: ClientKind, then: &str) -> Finding {
        let what = format!("{}; {then}", self.why);
        Finding::bypassable(client, what).at(self.place).fix("repair the file, and look again")
    }
}

impl Settings {
    /// A place in it.
    pub(super) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}
