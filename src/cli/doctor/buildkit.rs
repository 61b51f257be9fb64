//! `BuildKit`'s own daemon: its mirrors, after which it always asks the registry.
//!
//! The `BuildKit` within dockerd goes by dockerd's settings, and is Docker's matter.

use super::address::{Address, Source};
use super::finding::Finding;
use super::node::Node;
use super::scene::{Scene, Settings};
use crate::cli::clients::ClientKind;

const CLIENT: ClientKind = ClientKind::Buildkit;

/// Where its settings are, unless `--config` says otherwise.
const CONFIG: &str = "/etc/buildkit/buildkitd.toml";

/// A build that names one goes by it, whatever the daemon's mirrors are.
const POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// Whether anything of it is here.
pub(super) fn is_here(scene: &Scene) -> bool {
    scene.files.exists(CONFIG)
        || scene.has_program(&["buildkitd"])
        || scene.anywhere("buildkitd").next().is_some()
}

/// What it asks for the registries.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    // Those that `docker buildx create` makes run in containers.
    let running = scene
        .anywhere("buildkitd")
        .map(|process| process.path(process.option("--config").pop().unwrap_or(CONFIG)));
    let mut paths: Vec<String> = running.collect();
    paths.dedup();
    if paths.is_empty() {
        paths.push(CONFIG.to_owned());
    }
    let mut findings = Vec::new();
    for path in paths {
        match scene.toml(&path) {
            Ok(settings) => {
                let settings = settings.unwrap_or(Settings { path, root: Node::empty() });
                let registries = scene.with_named(named(scene, &settings));
                let each =
                    registries.iter().map(|registry| of_registry(scene, &settings, registry));
                findings.extend(each);
            }
            Err(fault) => {
                findings.push(fault.finding(CLIENT, "buildkitd does not start with it"));
            }
        }
    }
    findings.extend(policies(scene));
    findings
}

/// The registries that have immutag as a mirror.
fn named(scene: &Scene, settings: &Settings) -> Vec<String> {
    let tables = settings.root.get(&["registry"]).map_or(&[][..], Node::entries);
    let is_ours = |node: &Node| {
        let mirrors = node.get(&["mirrors"]).map_or(Vec::new(), Node::texts);
        mirrors.iter().any(|(_, mirror)| scene.source(mirror) != Source::Other)
    };
    tables.iter().filter(|entry| is_ours(&entry.node)).map(|entry| entry.key.clone()).collect()
}

fn of_registry(scene: &Scene, settings: &Settings, registry: &str) -> Finding {
    let mirror = scene.endpoints.mirror.as_ref();
    let authority = mirror.map_or("IMMUTAG:5050", |mirror| mirror.authority.as_str());
    let fix = format!("[registry.\"{registry}\"] mirrors = [\"{authority}\"], for hold only");
    let finding = |finding: Finding| finding.of(registry).fix(fix.as_str());
    let entry = settings.root.entry(&["registry", registry, "mirrors"]);
    let mirrors = entry.map_or(Vec::new(), |entry| entry.node.texts());
    let Some((line, first)) = mirrors.first() else {
        let what = "no mirror is set: the registry itself is asked";
        let line = entry.map(|entry| entry.line);
        let place = line.map_or_else(|| settings.path.clone(), |line| settings.at(line));
        return finding(Finding::bypassable(CLIENT, what)).at(place);
    };
    let place = settings.at(*line);
    let wrong = match scene.source(first) {
        Source::Mirror if first.contains("://") => Some("a mirror is named without a scheme"),
        Source::Mirror => unspoken(scene, settings, first),
        Source::Direct => Some("it is immutag's direct listener, which does not know `ns`"),
        Source::Misspelt => Some("a mirror is named without a scheme"),
        Source::Other => Some("it is not immutag's mirror listener"),
    };
    if let Some(why) = wrong {
        let what = format!("the first mirror is {first}, but {why}: others are asked");
        return finding(Finding::bypassable(CLIENT, what)).at(place);
    }
    let what = "BuildKit always asks the registry when immutag refuses plainly or is down";
    let fix = "no setting closes it: a source policy with digests does, or the rules of immutag \
               setup egress";
    finding(Finding::hold_only(CLIENT, what)).at(place).fix(fix)
}

/// Why a mirror's scheme is not the listener's: https, unless a table of its own or the address
/// says otherwise.
fn unspoken(scene: &Scene, settings: &Settings, mirror: &str) -> Option<&'static str> {
    let is_tls = scene.endpoints.mirror.as_ref().is_some_and(|mirror| mirror.is_tls);
    let flag = settings.root.entry(&["registry", mirror, "http"]);
    let is_set = settings.root.is_set(&["registry", mirror, "http"]);
    let is_local = Address::parse(mirror).is_some_and(|address| address.is_loopback());
    let is_http = if flag.is_some() { is_set } else { is_local };
    match (is_tls, is_http) {
        (false, false) => Some("`http = true` is missing in a table of its own"),
        (true, true) => Some("it is asked by http, and immutag speaks https"),
        _ => None,
    }
}

/// Source policies, which immutag does not read.
fn policies(scene: &Scene) -> Vec<Finding> {
    let own =
        scene.environment.get(POLICY).map(|path| ("the environment".to_owned(), path.clone()));
    let running = scene
        .processes
        .iter()
        .filter_map(|process| Some((process.place(), process.variable(POLICY)?.to_owned())));
    let all = own.into_iter().chain(running);
    let each = all.map(|(place, path)| {
        let what = format!("{POLICY} names {path}, which is not read here: its digests decide");
        Finding::protected(CLIENT, what).at(place)
    });
    each.collect()
}
