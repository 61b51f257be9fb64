//! Podman, Buildah and skopeo: one configuration, and what users put over it. CRI-O reads the same.

use super::finding::{Finding, Standing};
use super::registries::{Reader, Registries, has_own};
use super::scene::{Fault, Scene};
use crate::cli::clients::ClientKind;

const GIVEN: &str = "CONTAINERS_REGISTRIES_CONF";

/// Whether Podman or one of its like is here.
pub(super) fn is_here(scene: &Scene) -> bool {
    let drop_ins = scene.files.ending("/etc/containers/registries.conf.d", ".conf");
    scene.files.exists("/etc/containers/registries.conf")
        || !drop_ins.is_empty()
        || scene.has_program(&["podman", "buildah", "skopeo"])
        || scene.running("podman").next().is_some()
}

/// What every user's Podman asks for the registries.
pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reader in readers(scene) {
        for finding in of_reader(scene, ClientKind::Podman, &reader) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// Whether CRI-O is here.
pub(super) fn is_crio_here(scene: &Scene) -> bool {
    ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"].iter().any(|path| scene.files.exists(path))
        || scene.has_program(&["crio"])
        || scene.running("crio").next().is_some()
}

/// What CRI-O asks for the registries. It runs as a service, without a user's files.
pub(super) fn check_crio(scene: &Scene) -> Vec<Finding> {
    let mut findings = of_reader(scene, ClientKind::Crio, &Reader::default());
    let mut paths = vec!["/etc/crio/crio.conf".to_owned()];
    paths.extend(scene.files.ending("/etc/crio/crio.conf.d", ".conf"));
    for path in paths {
        match scene.toml(&path) {
            Ok(Some(settings)) => {
                let Some(entry) = settings.root.entry(&["crio", "image", "registries"]) else {
                    continue;
                };
                let place = settings.at(entry.line);
                let names = entry.node.texts().into_iter();
                let searched: Vec<_> =
                    names.map(|(_, name)| (name.to_owned(), place.clone())).collect();
                if let Ok(registries) = Registries::read(scene, &Reader::default()) {
                    findings.extend(of_search(scene, ClientKind::Crio, &registries, &searched));
                }
            }
            Ok(None) => {}
            Err(fault) => findings.push(unread(ClientKind::Crio, fault)),
        }
    }
    findings
}

/// Everybody whose files may differ: the system, users with files of their own, and whoever sets
/// the variable.
fn readers(scene: &Scene) -> Vec<Reader> {
    let mut readers = vec![Reader::default()];
    let users = scene.files.names("/home").into_iter().map(|name| format!("/home/{name}"));
    let homes = users.chain(["/root".to_owned()]).chain(scene.environment.get("HOME").cloned());
    for home in homes.filter(|home| has_own(scene, home)) {
        readers.push(Reader { home: Some(home), given: None });
    }
    let own = (scene.environment.get(GIVEN), scene.environment.get("HOME"));
    let own = (own.0.map(String::as_str), own.1.map(String::as_str));
    let running =
        scene.running("podman").map(|process| (process.variable(GIVEN), process.variable("HOME")));
    for (given, home) in running.chain([own]) {
        if let Some(path) = given.filter(|path| !path.is_empty()) {
            // A user's drop-ins count beside it.
            let home = home.map(str::to_owned);
            readers.push(Reader { home, given: Some(path.to_owned()) });
        }
    }
    readers
}

fn of_reader(scene: &Scene, client: ClientKind, reader: &Reader) -> Vec<Finding> {
    let registries = match Registries::read(scene, reader) {
        Ok(registries) => registries,
        Err(fault) => return vec![unread(client, fault)],
    };
    let wanted = scene.with_named(registries.named(scene));
    let each = wanted.iter().flat_map(|registry| registries.check(scene, client, registry));
    let mut findings: Vec<_> = each.collect();
    findings.extend(of_search(scene, client, &registries, &registries.searched));
    if let (Some(home), None) = (&reader.home, &reader.given) {
        for finding in &mut findings {
            finding.what = format!("{} (as the user of {home})", finding.what);
        }
    }
    if let Some(path) = &reader.given {
        for finding in &mut findings {
            finding.what = format!("{} ({GIVEN} names {path})", finding.what);
        }
    }
    findings
}

/// Short names are looked up at every one of these.
fn of_search(
    scene: &Scene,
    client: ClientKind,
    registries: &Registries,
    searched: &[(String, String)],
) -> Vec<Finding> {
    if scene.is_narrowed {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (name, place) in searched.iter().filter(|(name, _)| !scene.registries.contains(name)) {
        let worst = registries.check(scene, client, name).into_iter().max_by_key(|it| it.standing);
        let Some(worst) = worst.filter(|worst| worst.standing != Standing::Protected) else {
            continue;
        };
        let what = format!("short names are looked up at {name} too, and there {}", worst.what);
        let fix = format!("take {name} out of the list, or set it as well: {}", worst.fix);
        findings.push(Finding { what, fix, ..worst }.at(place.as_str()));
    }
    findings
}

fn unread(client: ClientKind, fault: Fault) -> Finding {
    fault.finding(client, "nothing that depends on it is vouched for")
}
