//! `registries.conf`: what Podman, Buildah, skopeo and CRI-O read, from several files.
//!
//! Source: containers-registries.conf(5) and containers-registries.conf.d(5). The longest prefix
//! decides; mirrors are asked in their order, then the location. A user's `registries.conf`
//! replaces the system's, and the system's `registries.conf.d` with it.

mod judge;

use super::address::Source;
use super::finding::{Finding, Standing};
use super::node::Node;
use super::scene::{Fault, Scene, Settings};
use crate::cli::clients::ClientKind;
use judge::{Asked, WELL, judge};

/// The system's file; the directory of drop-ins has the same name and `.d`.
const SYSTEM: &str = "/etc/containers/registries.conf";

/// The most tables that are compared with each other: people write some.
const MAX_TABLES: usize = 1_000;

/// For whom the files are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// The home of a user who may have files of their own.
    pub(super) home: Option<String>,
    /// The file that takes the place of both `registries.conf`.
    pub(super) given: Option<String>,
}

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub(super) struct Registries {
    entries: Vec<Entry>,
    /// Where short names are looked up, with the place that says so.
    pub(super) searched: Vec<(String, String)>,
    /// The main file, whether it is there or not.
    pub(super) main: String,
}

/// A `[[registry]]` table.
#[derive(Clone, Debug)]
struct Entry {
    path: String,
    node: Node,
    prefix: String,
}

/// Whether there are files of this user's own.
pub(super) fn has_own(scene: &Scene, home: &str) -> bool {
    let file = user_file(home);
    scene.files.exists(&file) || !scene.files.ending(&format!("{file}.d"), ".conf").is_empty()
}

fn user_file(home: &str) -> String {
    format!("{}/.config/containers/registries.conf", home.trim_end_matches('/'))
}

impl Registries {
    /// Reads the files that one reader would.
    pub(super) fn read(scene: &Scene, reader: &Reader) -> Result<Self, Fault> {
        let user = reader.home.as_deref().map(user_file);
        let own = user.clone().filter(|path| scene.files.exists(path));
        let mut folders = Vec::new();
        let main = match (&reader.given, own) {
            (None, Some(own)) => own,
            (given, _) => {
                folders.push(format!("{SYSTEM}.d"));
                given.clone().unwrap_or_else(|| SYSTEM.to_owned())
            }
        };
        folders.extend(user.map(|user| format!("{user}.d")));
        let mut registries = Self { main: main.clone(), ..Self::default() };
        let drop_ins = folders.iter().flat_map(|folder| scene.files.ending(folder, ".conf"));
        for path in [main].into_iter().chain(drop_ins) {
            if let Some(settings) = scene.toml(&path)? {
                registries.add(&settings)?;
            }
        }
        Ok(registries)
    }

    /// A later file's table goes in the place of an earlier one of the same prefix.
    fn add(&mut self, settings: &Settings) -> Result<(), Fault> {
        let root = &settings.root;
        let tables = root.get(&["registry"]).map_or(&[][..], Node::elements);
        if self.entries.len() + tables.len() > MAX_TABLES {
            let why = format!("more than {MAX_TABLES} [[registry]] tables are not read here");
            return Err(Fault { place: settings.path.clone(), why });
        }
        for node in tables {
            let location = node.text_at(&["location"]).unwrap_or_default();
            let prefix = node.text_at(&["prefix"]).filter(|prefix| !prefix.is_empty());
            let prefix = prefix.unwrap_or(location).trim_end_matches('/').to_owned();
            self.entries.retain(|entry| entry.prefix != prefix || entry.path == settings.path);
            self.entries.push(Entry { path: settings.path.clone(), node: node.clone(), prefix });
        }
        let paths: [&[&str]; 2] =
            [&["unqualified-search-registries"], &["registries", "search", "registries"]];
        for entry in paths.iter().filter_map(|path| root.entry(path)) {
            let place = settings.at(entry.line);
            let names = entry.node.texts().into_iter();
            self.searched = names.map(|(_, name)| (name.to_owned(), place.clone())).collect();
        }
        Ok(())
    }

    /// The registries for which immutag is named.
    pub(super) fn named(&self, scene: &Scene) -> Vec<String> {
        let is_ours = |entry: &&Entry| {
            let all = entry.mirrors().iter().filter_map(|mirror| mirror.text_at(&["location"]));
            all.chain([entry.location()]).any(|location| scene.source(location) != Source::Other)
        };
        let hosts = self.entries.iter().filter(is_ours).filter_map(|entry| {
            let host = entry.prefix.split('/').next().filter(|host| !host.contains('*'));
            host.map(str::to_owned)
        });
        hosts.collect()
    }

    /// What is asked for a registry, and for parts of it that have a table of their own.
    pub(super) fn check(&self, scene: &Scene, client: ClientKind, registry: &str) -> Vec<Finding> {
        let whole = self.entries.iter().filter(|entry| entry.covers(registry));
        // Of two that are equally long the last one counts.
        let whole = whole.max_by_key(|entry| entry.prefix.len());
        let whole = whole.map(|entry| entry.check(scene, client, registry));
        let mut findings = vec![whole.unwrap_or_else(|| {
            let what = "no table is about it: the registry itself is asked";
            let finding = Finding::bypassable(client, what).of(registry);
            finding.at(self.main.as_str()).fix(fix(scene, registry))
        })];
        let below = format!("{registry}/");
        let parts = self.entries.iter().filter(|entry| entry.prefix.starts_with(&below));
        let parts = parts.map(|entry| {
            let mut finding = entry.check(scene, client, registry);
            finding.what = format!("{}: {}", entry.prefix, finding.what);
            finding
        });
        findings.extend(parts.filter(|finding| finding.standing != Standing::Protected));
        findings
    }
}

impl Entry {
    /// Whether it is about all of a registry.
    fn covers(&self, registry: &str) -> bool {
        let suffix = self.prefix.strip_prefix('*').filter(|suffix| suffix.starts_with('.'));
        self.prefix == registry || suffix.is_some_and(|suffix| registry.ends_with(suffix))
    }

    fn location(&self) -> &str {
        let location = self.node.text_at(&["location"]).filter(|location| !location.is_empty());
        location.unwrap_or(&self.prefix)
    }

    fn mirrors(&self) -> &[Node] {
        self.node.get(&["mirror"]).map_or(&[][..], Node::elements)
    }

    fn check(&self, scene: &Scene, client: ClientKind, registry: &str) -> Finding {
        let place = |line: usize| format!("{}:{line}", self.path);
        let finding = |standing, line, what: String| {
            let (what, fix) = (what, fix(scene, registry));
            Finding::new(client, standing, what).of(registry).at(place(line)).fix(fix)
        };
        if self.node.is_set(&["blocked"]) {
            let what = "it is blocked: nobody is asked".to_owned();
            return finding(Standing::Protected, self.line_of("blocked"), what).fix("");
        }
        if let Some(line) = self.digest_only(scene) {
            let what = "immutag is asked for digests only: tags go to the registry".to_owned();
            return finding(Standing::Bypassable, line, what);
        }
        let (standing, line, what) = judge(&self.asked(scene), &self.prefix);
        let is_well = standing == Standing::Protected && what == WELL;
        let found = finding(standing, line, what);
        if is_well { found.fix("") } else { found }
    }

    fn line_of(&self, key: &str) -> usize {
        self.node.entry(&[key]).map_or(self.node.line, |entry| entry.line)
    }

    /// The line that keeps tags from immutag, where it is a mirror and the location is not it.
    fn digest_only(&self, scene: &Scene) -> Option<usize> {
        if scene.source(self.location()) != Source::Other {
            return None;
        }
        let is_ours = |mirror: &&Node| {
            mirror.text_at(&["location"]).is_some_and(|it| scene.source(it) != Source::Other)
        };
        let ours = self.mirrors().iter().find(is_ours)?;
        if self.node.is_set(&["mirror-by-digest-only"]) {
            return Some(self.line_of("mirror-by-digest-only"));
        }
        let pull = ours.entry(&["pull-from-mirror"])?;
        (pull.node.text() == Some("digest-only")).then_some(pull.line)
    }

    /// Everybody who is asked for a tag, in order.
    fn asked(&self, scene: &Scene) -> Vec<Asked> {
        let by_digest = self.node.is_set(&["mirror-by-digest-only"]);
        let is_for_tags = |mirror: &&Node| {
            !by_digest && mirror.text_at(&["pull-from-mirror"]) != Some("digest-only")
        };
        let asked = |node: &Node, location: &str, is_mirror| Asked {
            line: node.entry(&["location"]).map_or(node.line, |entry| entry.line),
            location: location.trim_end_matches('/').to_owned(),
            source: scene.source(location),
            is_spoken: node.is_set(&["insecure"]) || !is_plain(scene, location),
            is_mirror,
        };
        let mirrors = self.mirrors().iter().filter(is_for_tags);
        let mut all: Vec<_> = mirrors
            .map(|mirror| asked(mirror, mirror.text_at(&["location"]).unwrap_or_default(), true))
            .collect();
        all.push(asked(&self.node, self.location(), false));
        all
    }
}

/// Whether the listener of immutag that a location names speaks plain http.
fn is_plain(scene: &Scene, location: &str) -> bool {
    let endpoint = match scene.source(location) {
        Source::Direct => scene.endpoints.direct.as_ref(),
        Source::Mirror => scene.endpoints.mirror.as_ref(),
        Source::Misspelt | Source::Other => None,
    };
    endpoint.is_some_and(|endpoint| !endpoint.is_tls)
}

fn fix(scene: &Scene, registry: &str) -> String {
    let insecure = scene.endpoints.direct.as_ref().is_none_or(|direct| !direct.is_tls);
    format!(
        "[[registry]] prefix = \"{registry}\", location = \"{}/{registry}\"{}, and no \
         [[registry.mirror]]",
        scene.direct_authority(),
        if insecure { ", insecure = true" } else { "" }
    )
}
