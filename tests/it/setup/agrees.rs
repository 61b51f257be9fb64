//! What `setup` writes is what `doctor` calls protected, or hold only where nothing better exists.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Root;
use crate::support::immutag::immutag;
use crate::support::setup::Setup;

const CRI_2: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n";
const CRI_3: &str = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n";
const PATHS: &str = "config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n";

/// The registries that are set up, by all their names.
const REGISTRIES: [&str; 3] = ["docker.io", "registry-1.docker.io", "registry.example:5000"];

/// How far settings can go.
#[derive(Clone, Copy)]
enum Best {
    /// Nobody but immutag is asked, for all registries.
    Closed,
    /// immutag is asked first, for all registries.
    HoldOnly,
    /// immutag is asked first for docker.io, and not at all for others.
    HoldOnlyDockerIo,
}

/// A client in one version, with what is on its host.
#[derive(Clone)]
struct Case {
    setup: &'static [&'static str],
    /// The package that is installed, and its version.
    package: Option<(&'static str, &'static str)>,
    files: Vec<(&'static str, String)>,
    best: Best,
}

impl Case {
    fn new(setup: &'static [&'static str], best: Best) -> Self {
        Self { setup, package: None, files: Vec::new(), best }
    }

    fn package(self, name: &'static str, version: &'static str) -> Self {
        Self { package: Some((name, version)), ..self }
    }

    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.push((path, text.into()));
        self
    }

    /// What the doctor must say of each registry.
    fn expected(&self) -> BTreeMap<String, String> {
        let (registries, standing) = match self.best {
            Best::Closed => (&REGISTRIES[..], "protected"),
            Best::HoldOnly => (&REGISTRIES[..], "hold-only"),
            Best::HoldOnlyDockerIo => (&REGISTRIES[..1], "hold-only"),
        };
        registries.iter().map(|name| ((*name).to_owned(), standing.to_owned())).collect()
    }

    /// Installs what setup has for listeners there, and compares.
    fn try_with(&self, mirror: &str, direct: &str, ca: &str) {
        let root = Root::new();
        if let Some((name, version)) = self.package {
            let status =
                format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n");
            root.put("/var/lib/dpkg/status", status, 0o644);
        }
        for (path, text) in &self.files {
            root.put(path, text, 0o644);
        }
        let at = ["--mirror", mirror, "--direct", direct];
        let more = ["--registry", "docker.io", "--registry", REGISTRIES[2], "--write", "--json"];
        let ca = if mirror.starts_with("https") { &["--ca-file", ca][..] } else { &[] };
        let told = root.setup(&[self.setup, &at, &more, ca].concat()).ok().stdout;
        let told: Value = serde_json::from_str(told.lines().next().expect("a line")).expect("JSON");
        let place = root.folder.path().to_str().expect("a plain path");
        let said =
            immutag(&[&["doctor", self.setup[0], "--root", place, "--json"], &at[..]].concat());
        let said: Value = serde_json::from_str(&said.stdout).expect("JSON");
        let subject = format!("{:?} {:?} {mirror}", self.setup, self.package);
        assert_eq!(standings(&said), self.expected(), "{subject}: {said:#}\n{told:#}");
        let mut notes = told["notes"].as_array().expect("notes").iter();
        let is_closed = notes.any(|note| note["about"] == "closed");
        assert_eq!(is_closed, matches!(self.best, Best::Closed), "{subject}: {told:#}");
    }
}

/// The worst that is said of each registry. That nothing answers at immutag's address is said
/// beside that.
fn standings(said: &Value) -> BTreeMap<String, String> {
    let findings = said["clients"][0]["findings"].as_array().expect("findings");
    let mut standings = BTreeMap::new();
    for finding in findings {
        let (Some(registry), Some(standing)) =
            (finding["registry"].as_str(), finding["standing"].as_str())
        else {
            continue;
        };
        let rank = |standing: &str| {
            ["protected", "hold-only", "bypassable"].iter().position(|it| *it == standing)
        };
        let worst: &mut String = standings.entry(registry.to_owned()).or_default();
        if rank(standing) > rank(worst) {
            standing.clone_into(worst);
        }
    }
    standings
}

fn containerd() -> Vec<Case> {
    let config = "/etc/containerd/config.toml";
    let new = |setup, version| Case::new(setup, Best::Closed).package("containerd", version);
    vec![
        new(&["containerd", "--version", "1.6"], "1.6.20~ds1-1"),
        new(&["containerd", "--version", "1.7.20"], "1.7.20-1"),
        new(&["containerd", "--version", "1.7.32"], "1.7.32-1"),
        new(&["containerd", "--version", "2.0"], "2.0.0-1"),
        new(&["containerd", "--version", "2.1"], "2.1.0-1"),
        new(&["containerd", "--version", "2.2"], "2.2.0-1"),
        new(&["containerd", "--version", "2.2", "--pushes", "refused"], "2.2.0-1"),
        new(&["containerd", "--version", "1.6", "--pushes", "refused"], "1.6.20~ds1-1"),
        new(&["containerd", "--version", "1.7.20"], "1.7.20-1").file(config, "version = 2\n"),
        new(&["containerd", "--version", "2.1"], "2.1.0-1").file(config, CRI_2),
        new(&["containerd", "--version", "2.2"], "2.2.0-1").file(config, format!("{CRI_3}{PATHS}")),
        new(&["containerd", "--hosts-dir", "/srv/hosts", "--version", "2.1"], "2.1.0-1"),
        // Nobody knows the version.
        Case::new(&["containerd"], Best::Closed),
    ]
}

fn docker() -> Vec<Case> {
    let daemon = "/etc/docker/daemon.json";
    let on = "{ \"features\": { \"containerd-snapshotter\": true } }\n";
    let classic = |setup| Case::new(setup, Best::HoldOnlyDockerIo);
    let closed = |setup| Case::new(setup, Best::Closed);
    vec![
        classic(&["docker", "--version", "20.10.24"]).package("docker.io", "20.10.24+dfsg1-1"),
        classic(&["docker", "--version", "27.5", "--store", "containerd"])
            .package("docker-ce", "5:27.5.0-1~debian")
            .file(daemon, on),
        classic(&["docker", "--version", "28.0", "--store", "classic"])
            .package("docker-ce", "5:28.0.1-1~debian"),
        classic(&["docker", "--version", "29.0", "--store", "classic"])
            .package("docker-ce", "5:29.0.1-1~debian")
            .file("/var/lib/docker/image/overlay2/repositories.json", "{}\n"),
        closed(&["docker", "--version", "28.0", "--store", "containerd"])
            .package("docker-ce", "5:28.0.1-1~debian")
            .file(daemon, on),
        closed(&["docker", "--version", "29.0"]).package("docker-ce", "5:29.0.1-1~debian"),
    ]
}

#[test]
fn what_is_written_is_what_the_doctor_calls_protected_or_hold_only_where_nothing_better_exists() {
    let mut cases = [containerd(), docker()].concat();
    cases.extend([
        Case::new(&["podman"], Best::Closed),
        Case::new(&["crio"], Best::Closed).file("/etc/crio/crio.conf", "[crio]\n"),
        Case::new(&["k3s"], Best::Closed),
        Case::new(&["rke2"], Best::Closed).file("/etc/rancher/rke2/config.yaml", "a: b\n"),
        Case::new(&["buildkit"], Best::HoldOnly),
    ]);
    // Nothing answers there: what is said of settings does not depend on it.
    let setup = Setup::new();
    let (mirror, direct) = (setup.addresses().mirror.port(), setup.addresses().direct.port());
    let ca = setup.file("ca.pem", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
    let ca = ca.to_str().expect("a plain path");
    // This host by a name that says so, and by one that does not.
    for host in ["127.0.0.1", "0.0.0.0"] {
        for scheme in ["http", "https"] {
            let at = |port: u16| format!("{scheme}://{host}:{port}");
            for case in &cases {
                case.try_with(&at(mirror), &at(direct), ca);
            }
        }
    }
}
