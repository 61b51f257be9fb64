//! `hosts.toml`: how containerd, and Docker with containerd's store, find a registry's hosts.
//!
//! Source: containerd's `docs/hosts.md`, and how its resolver reads the file: hosts are asked in
//! the file's order, then the root of the file, which is the registry itself unless `server` says
//! otherwise. A file that cannot be read is ignored, silently.

use super::address::Source;
use super::finding::{Finding, Standing};
use super::node::Node;
use super::scene::{Fault, Scene, Settings};
use crate::cli::clients::{ClientKind, hosts_folder};

/// Who looks for which registry.
#[derive(Clone, Copy)]
pub(super) struct Look<'s> {
    pub(super) scene: &'s Scene,
    pub(super) client: ClientKind,
    pub(super) registry: &'s str,
    /// Whether a file with `server` and without hosts is taken: containerd 1.7.32 and later.
    pub(super) takes_server_alone: bool,
}

/// One that is asked.
struct Asked {
    line: usize,
    /// As it is written; `None`: the registry itself, which nothing names.
    url: Option<String>,
    source: Source,
    can: Capabilities,
}

#[derive(Clone, Copy)]
struct Capabilities {
    pull: bool,
    resolve: bool,
}

/// The directory of a registry, the first that is there.
pub(super) fn folder_of(scene: &Scene, folders: &[String], registry: &str) -> Option<String> {
    let names = [hosts_folder(registry), registry.to_owned(), "_default".to_owned()];
    let paths = folders.iter().flat_map(|folder| {
        let folder = folder.trim_end_matches('/');
        names.iter().map(move |name| format!("{folder}/{name}"))
    });
    paths.into_iter().find(|path| scene.files.exists(path))
}

/// The registries whose files name immutag.
pub(super) fn named(scene: &Scene, folders: &[String]) -> Vec<String> {
    let mut registries = Vec::new();
    for folder in folders {
        for name in scene.files.names(folder) {
            let path = format!("{folder}/{name}/hosts.toml");
            let text = scene.files.text(&path).ok().flatten().unwrap_or_default();
            let endpoints = [&scene.endpoints.mirror, &scene.endpoints.direct];
            let is_ours = |endpoint: &&crate::cli::clients::Endpoint| {
                text.contains(endpoint.authority.as_str())
            };
            if name != "_default" && endpoints.into_iter().flatten().any(|it| is_ours(&it)) {
                registries.push(unspelled(&name));
            }
        }
    }
    registries
}

/// What the directory of a registry says.
pub(super) fn check(look: Look<'_>, folder: &str) -> Vec<Finding> {
    let path = format!("{folder}/hosts.toml");
    let settings = match look.scene.toml(&path) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            let what = "there is no hosts.toml in this directory: the registry itself is asked";
            return vec![look.finding(Standing::Bypassable, what).at(folder)];
        }
        Err(fault) => return vec![look.ignored(&fault)],
    };
    match asked(look, &settings) {
        Ok(asked) => judge(look, &settings, &asked),
        Err(fault) => vec![look.ignored(&fault)],
    }
}

/// The registry that a directory is for: `registry_5000_` is `registry:5000`.
fn unspelled(name: &str) -> String {
    let spelled = name.strip_suffix('_').and_then(|name| name.rsplit_once('_'));
    spelled.map_or_else(|| name.to_owned(), |(host, port)| format!("{host}:{port}"))
}

/// Everybody who is asked, in order.
fn asked(look: Look<'_>, settings: &Settings) -> Result<Vec<Asked>, Fault> {
    let root = &settings.root;
    let fault = |line, why: &str| Fault { place: settings.at(line), why: why.to_owned() };
    let hosts = root.get(&["host"]).map_or(&[][..], Node::entries);
    let mut all = Vec::new();
    for host in hosts {
        let can = capabilities(&host.node).map_err(|(line, why)| fault(line, why))?;
        let source = look.scene.source(&with_scheme(&host.key));
        all.push(Asked { line: host.line, url: Some(host.key.clone()), source, can });
    }
    let server = root.entry(&["server"]);
    let can = capabilities(root).map_err(|(line, why)| fault(line, why))?;
    let server = match server.map(|entry| (entry.line, entry.node.text())) {
        Some((line, None)) => return Err(fault(line, "`server` is no text")),
        Some((line, Some(url))) if !url.is_empty() => Some((line, url)),
        _ => None,
    };
    if hosts.is_empty() && server.is_none() {
        return Err(fault(1, "it names nobody to ask"));
    }
    if hosts.is_empty() && !look.takes_server_alone {
        let line = server.map_or(1, |(line, _)| line);
        let why = "`server` alone, without a [host] table, is no valid file before 1.7.32";
        return Err(fault(line, why));
    }
    let last = server.map(|(line, url)| {
        let source = look.scene.source(&with_scheme(url));
        Asked { line, url: Some(url.to_owned()), source, can }
    });
    all.push(last.unwrap_or_else(|| {
        // Nothing restricts what nothing names.
        let line = hosts.first().map_or(1, |host| host.line);
        let can = Capabilities { pull: true, resolve: true };
        Asked { line, url: None, source: Source::Other, can }
    }));
    Ok(all)
}

fn with_scheme(url: &str) -> String {
    if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") }
}

fn capabilities(node: &Node) -> Result<Capabilities, (usize, &'static str)> {
    let Some(entry) = node.entry(&["capabilities"]) else {
        return Ok(Capabilities { pull: true, resolve: true });
    };
    let elements = entry.node.elements();
    if entry.node.value == super::node::Value::List(Vec::new()) {
        return Ok(Capabilities { pull: true, resolve: true });
    }
    let mut can = Capabilities { pull: false, resolve: false };
    let words = elements.iter().map(|element| element.text().map(str::to_ascii_lowercase));
    for word in words {
        match word.as_deref() {
            Some("pull") => can.pull = true,
            Some("resolve") => can.resolve = true,
            Some("push") => {}
            _ => return Err((entry.line, "a capability is none of pull, resolve, push")),
        }
    }
    if elements.is_empty() {
        return Err((entry.line, "`capabilities` is no list"));
    }
    Ok(can)
}

fn judge(look: Look<'_>, settings: &Settings, all: &[Asked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_first = true;
    for asked in all {
        let (standing, line, what) = match asked.source {
            Source::Mirror if asked.can.resolve => {
                is_first = false;
                continue;
            }
            Source::Direct | Source::Misspelt => {
                (Standing::Protected, asked.line, misplaced(asked))
            }
            Source::Other if asked.can.resolve && is_first => {
                let (line, what) = before(asked, all);
                (Standing::Bypassable, line, what)
            }
            Source::Other if asked.can.resolve || asked.can.pull => {
                (Standing::HoldOnly, asked.line, after(asked))
            }
            Source::Mirror | Source::Other => continue,
        };
        findings.push(look.finding(standing, what).at(settings.at(line)));
    }
    if findings.iter().all(|finding| finding.standing == Standing::Protected) {
        let line = all.first().map_or(1, |asked| asked.line);
        let what = "nobody but immutag is asked";
        let finding = look.finding(Standing::Protected, what).at(settings.at(line));
        findings.push(finding.fix(""));
    }
    findings
}

/// Why a way to immutag leads nowhere. It is no way round: the next is asked.
fn misplaced(asked: &Asked) -> String {
    let url = asked.url.as_deref().unwrap_or_default();
    if asked.source == Source::Direct {
        return format!("{url} is immutag's direct listener, which does not know `ns`");
    }
    format!("{url} is a listener of immutag by the wrong scheme: http and https are not one")
}

/// How one is asked before immutag, or in its place, and the line at fault.
fn before(asked: &Asked, all: &[Asked]) -> (usize, String) {
    let who = asked.url.as_deref().unwrap_or("the registry itself");
    let mut ours = all.iter().filter(|other| other.source == Source::Mirror);
    if let Some(mirror) = ours.clone().find(|other| !other.can.resolve) {
        let what = format!("immutag lacks `resolve`: {who} is asked for tags in its place");
        return (mirror.line, what);
    }
    let what = match ours.next() {
        Some(_) => format!("{who} is asked for tags before immutag"),
        None => format!("{who} is asked for tags, and immutag's mirror listener is not"),
    };
    (asked.line, what)
}

/// How one is asked after immutag.
fn after(asked: &Asked) -> String {
    match &asked.url {
        None => {
            "there is no `server` line: the registry is added by itself, after the hosts".into()
        }
        Some(url) if asked.can.resolve => {
            format!("{url} is asked for tags when immutag refuses plainly or is down")
        }
        Some(url) => {
            format!("{url} is asked for what a digest names when immutag refuses it or is down")
        }
    }
}

impl Look<'_> {
    fn finding(self, standing: Standing, what: impl Into<String>) -> Finding {
        let mirror = self.scene.mirror_url();
        let fix = format!(
            "hosts.toml: server = \"{mirror}\" and one table [host.\"{mirror}\"] with \
             capabilities = [\"pull\", \"resolve\"]; to push to the registry, server = the \
             registry with capabilities = [\"push\"] at the top instead"
        );
        Finding::new(self.client, standing, what).of(self.registry).fix(fix)
    }

    fn ignored(self, fault: &Fault) -> Finding {
        let what =
            format!("{}; such a file is ignored, silently, and the registry is asked", fault.why);
        self.finding(Standing::Bypassable, what).at(fault.place.as_str())
    }
}
