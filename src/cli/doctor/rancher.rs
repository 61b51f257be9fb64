//! k3s and RKE2: `registries.yaml`, and whether the registry is added all the same.

use super::address::Source;
use super::finding::{Finding, Standing};
use super::node::{Entry, Node, Value};
use super::scene::{Fault, Scene, Settings};
use crate::cli::clients::ClientKind;

/// Keeps containerd from adding the registry itself.
const OPTION: &str = "disable-default-registry-endpoint";

/// Lets nodes ask each other.
const EMBEDDED: &str = "embedded-registry";

/// Whether anything of it is here.
pub(super) fn is_here(scene: &Scene, client: ClientKind) -> bool {
    let name = client.name();
    scene.files.exists(&format!("/etc/rancher/{name}"))
        || scene.has_program(&[name])
        || scene.running(name).next().is_some()
}

/// What it asks for the registries.
pub(super) fn check(scene: &Scene, client: ClientKind) -> Vec<Finding> {
    match Machine::read(scene, client) {
        Ok(machine) => machine.check(),
        Err(fault) => vec![fault.finding(client, "nothing that depends on it is vouched for")],
    }
}

/// A node of a cluster.
struct Machine<'s> {
    scene: &'s Scene,
    client: ClientKind,
    registries: Settings,
    /// Where the registry is kept from being added.
    closed: Option<String>,
    /// Where nodes are let to ask each other.
    embedded: Option<String>,
}

impl<'s> Machine<'s> {
    fn read(scene: &'s Scene, client: ClientKind) -> Result<Self, Fault> {
        let folder = format!("/etc/rancher/{}", client.name());
        let path = format!("{folder}/registries.yaml");
        let registries = scene.yaml(&path)?.unwrap_or(Settings { path, root: Node::empty() });
        let closed = option(scene, client, &folder, OPTION)?;
        let embedded = option(scene, client, &folder, EMBEDDED)?;
        Ok(Self { scene, client, registries, closed, embedded })
    }

    fn check(&self) -> Vec<Finding> {
        let named = self.mirrors().iter().filter(|entry| entry.key != "*" && self.is_ours(entry));
        let named = named.map(|entry| entry.key.clone()).collect();
        let registries = self.scene.with_named(named);
        let mut findings: Vec<_> =
            registries.iter().map(|registry| self.of_registry(registry)).collect();
        if let Some(place) = &self.embedded {
            let what = "other nodes are asked before immutag for what they have";
            let fix = format!("leave {EMBEDDED} out, or set all nodes to immutag");
            findings.push(Finding::hold_only(self.client, what).at(place.as_str()).fix(fix));
        }
        findings
    }

    fn mirrors(&self) -> &[Entry] {
        self.registries.root.get(&["mirrors"]).map_or(&[][..], Node::entries)
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        endpoints(entry).iter().any(|(_, url)| self.source(url) != Source::Other)
    }

    fn source(&self, url: &str) -> Source {
        let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        self.scene.source(&url)
    }

    fn of_registry(&self, registry: &str) -> Finding {
        let entries = self.mirrors();
        let entry = entries.iter().find(|entry| entry.key == registry);
        let Some(entry) = entry.or_else(|| entries.iter().find(|entry| entry.key == "*")) else {
            let what = "it has no mirror: the registry itself is asked";
            let finding = Finding::bypassable(self.client, what).of(registry);
            return finding.at(self.registries.path.as_str()).fix(self.fix(registry));
        };
        let (standing, line, what) =
            self.foreign(entry).unwrap_or_else(|| self.without_foreign(entry));
        let finding = Finding::new(self.client, standing, what).of(registry);
        let finding = finding.at(self.registries.at(line));
        let is_well = standing == Standing::Protected && self.is_asked(entry);
        if is_well { finding } else { finding.fix(self.fix(registry)) }
    }

    /// Whether immutag's mirror listener is among the endpoints.
    fn is_asked(&self, entry: &Entry) -> bool {
        endpoints(entry).iter().any(|(_, url)| self.source(url) == Source::Mirror)
    }

    /// What the first endpoint that is somebody else's comes to.
    fn foreign(&self, entry: &Entry) -> Option<(Standing, usize, String)> {
        let all = endpoints(entry);
        let at = all.iter().position(|(_, url)| self.source(url) == Source::Other)?;
        let (line, url) = all[at];
        let is_asked = all[..at].iter().any(|(_, url)| self.source(url) == Source::Mirror);
        Some(if is_asked {
            let what = format!("{url} is asked when immutag refuses plainly or is down");
            (Standing::HoldOnly, line, what)
        } else {
            let what = format!("{url} is asked first, and is not immutag's mirror listener");
            (Standing::Bypassable, line, what)
        })
    }

    /// What it comes to where all endpoints are immutag's: the registry may be added.
    fn without_foreign(&self, entry: &Entry) -> (Standing, usize, String) {
        let (standing, what) = match (self.is_asked(entry), &self.closed) {
            (true, Some(closed)) => {
                (Standing::Protected, format!("nobody but immutag is asked ({OPTION}, {closed})"))
            }
            (true, None) => (
                Standing::HoldOnly,
                format!("the registry is added by itself, after immutag: {OPTION} is not set"),
            ),
            (false, Some(_)) => (
                Standing::Protected,
                "pulls fail: no endpoint is immutag's mirror listener".to_owned(),
            ),
            (false, None) => (
                Standing::Bypassable,
                "no endpoint is immutag's mirror listener: the registry is asked".to_owned(),
            ),
        };
        (standing, entry.line, what)
    }

    fn fix(&self, registry: &str) -> String {
        let (name, mirror) = (self.client.name(), self.scene.mirror_url());
        format!(
            "/etc/rancher/{name}/registries.yaml: mirrors, {registry:?}, endpoint, {mirror:?} \
             alone; and {OPTION}: true in /etc/rancher/{name}/config.yaml; then restart {name}"
        )
    }
}

fn endpoints(entry: &Entry) -> Vec<(usize, &str)> {
    entry.node.get(&["endpoint"]).map_or(Vec::new(), Node::texts)
}

/// Where an option is set: on the command line, or in `config.yaml` and its drop-ins, the last of
/// which counts.
fn option(
    scene: &Scene,
    client: ClientKind,
    folder: &str,
    name: &str,
) -> Result<Option<String>, Fault> {
    let flag = format!("--{name}");
    let running = scene.running(client.name()).find(|process| process.has_flag(&flag));
    if let Some(process) = running {
        return Ok(Some(process.place()));
    }
    let drop_ins = format!("{folder}/config.yaml.d");
    let mut drop_ins = [".yaml", ".yml"].map(|end| scene.files.ending(&drop_ins, end)).concat();
    drop_ins.sort();
    let mut paths = vec![format!("{folder}/config.yaml")];
    paths.extend(drop_ins);
    let mut found = None;
    for path in paths {
        let Some(settings) = scene.yaml(&path)? else { continue };
        let Some(entry) = settings.root.entry(&[name]) else { continue };
        let is_set = entry.node.value == Value::Flag(true) || entry.node.text() == Some("true");
        found = is_set.then(|| settings.at(entry.line));
    }
    Ok(found)
}
