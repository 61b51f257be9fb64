//! `immutag setup`: what it writes, into what is there, and what it refuses to touch.

mod agrees;
mod egress;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::clients::Home;
use crate::support::immutag::immutag;
use crate::support::process::{Ran, have};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// Every client and every set of rules.
const SUBJECTS: [&[&str]; 10] = [
    &["buildkit"],
    &["containerd"],
    &["crio"],
    &["docker"],
    &["egress", "kubernetes"],
    &["egress", "nftables"],
    &["k3s"],
    &["podman"],
    &["rke2"],
    &["talos"],
];

/// A file system of its own.
struct Root {
    folder: TempDir,
}

impl Root {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary directory") }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().expect("a file has a folder")).expect("our own folder");
        fs::write(&file, content).expect("our own file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("our own file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Runs `immutag setup … --root …`.
    #[track_caller]
    fn setup(&self, arguments: &[&str]) -> Ran {
        let root = self.folder.path().to_str().expect("a plain path");
        immutag(&[&["setup"], arguments, &["--root", root]].concat())
    }

    /// The same for people, with what is said, which must be without an error.
    #[track_caller]
    fn told(&self, arguments: &[&str]) -> String {
        self.setup(&[arguments, &["--table"]].concat()).ok().stdout
    }

    /// Every file with its content and mode.
    fn tree(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
        let mut tree = BTreeMap::new();
        collect(self.folder.path(), &mut tree);
        tree
    }

    /// The backups of a file.
    fn backups(&self, path: &str) -> Vec<PathBuf> {
        let prefix = format!("{}.immutag-backup-", self.at(path).display());
        let is_backup = |path: &PathBuf| path.to_str().is_some_and(|it| it.starts_with(&prefix));
        self.tree().into_keys().filter(is_backup).collect()
    }
}

fn collect(folder: &Path, tree: &mut BTreeMap<PathBuf, (Vec<u8>, u32)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, tree);
        } else {
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o7777;
            tree.insert(path.clone(), (fs::read(&path).expect("it is there"), mode));
        }
    }
}

#[test]
fn a_file_that_is_there_is_merged_after_a_diff_and_a_backup() {
    let root = Root::new();
    let file = "/etc/docker/daemon.json";
    let before = "{\n  \"log-level\": \"warn\",\n  \"registry-mirrors\": [\"https://other\"]\n}\n";
    root.put(file, before, 0o640);
    let told = root.told(&["docker", "--store", "classic", "--write"]);
    let after: Value = serde_json::from_str(&root.read(file)).expect("JSON");
    let expected = serde_json::json!({
        "log-level": "warn",
        "registry-mirrors": ["http://127.0.0.1:5050", "https://other"],
    });
    assert_eq!(after, expected);
    let diff = told.find("\n-  \"registry-mirrors\": [\"https://other\"]\n").expect(&told);
    assert!(diff < told.find("# written: ").expect(&told), "{told}");
    let [backup] = root.backups(file).try_into().expect("one backup");
    assert!(told.contains(backup.to_str().expect("a plain path")), "{told}");
    assert_eq!(fs::read_to_string(&backup).expect("it is there"), before);
    for file in [&root.at(file), &backup] {
        let mode = fs::metadata(file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{}", file.display());
    }
    assert_eq!(root.tree().len(), 2, "nothing else is left: {:?}", root.tree().keys());
}

#[test]
fn the_owner_of_a_file_stays() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = Root::new();
    let file = "/etc/docker/daemon.json";
    root.put(file, "{}\n", 0o600);
    chown(root.at(file), Some(65532), Some(65531)).expect("root may");
    root.told(&["docker", "--store", "classic", "--write"]);
    let found = fs::metadata(root.at(file)).expect("it is there");
    assert_eq!((found.uid(), found.gid()), (65532, 65531));
    assert!(root.read(file).contains("registry-mirrors"));
}

#[test]
fn writing_twice_changes_nothing_and_says_so() {
    for subject in SUBJECTS {
        let root = Root::new();
        // What is there already, as distributions have it.
        root.put("/etc/containerd/config.toml", "version = 2\n\n[plugins]\n", 0o644);
        root.put("/etc/docker/daemon.json", "{\"log-level\":\"warn\"}", 0o644);
        root.put("/etc/buildkit/buildkitd.toml", "debug = true\n", 0o644);
        let write = [subject, &["--registry", "docker.io", "--write"]].concat();
        let write = if subject[0] == "egress" { [subject, &["--write"]].concat() } else { write };
        let first = root.told(&write);
        assert!(first.contains("# written: "), "{subject:?}: {first}");
        let tree = root.tree();
        let second = root.told(&write);
        assert!(second.contains("# nothing is to be changed\n"), "{subject:?}: {second}");
        assert!(!second.contains("# written: "), "{subject:?}: {second}");
        assert_eq!(root.tree(), tree, "{subject:?}");
    }
}

#[test]
fn what_cannot_be_merged_is_refused_and_nothing_at_all_changes() {
    let broken = "[registry.\n";
    let hosts = "/etc/containerd/certs.d/ghcr.io/hosts.toml";
    for (subject, path, content, words) in [
        ("docker", "/etc/docker/daemon.json", "{\"a\": 1,}", "no JSON"),
        ("docker", "/etc/docker/certs.d/ghcr.io/hosts.toml", broken, "no TOML"),
        ("containerd", hosts, broken, "no TOML"),
        ("containerd", hosts, "[host.\"https://a\"]\nclient = \"/key\"\n", "`client`"),
        ("containerd", "/etc/containerd/config.toml", broken, "TOML parse error"),
        ("podman", "/etc/containers/registries.conf.d/immutag.conf", "a = 1\n", "did not write it"),
        ("buildkit", "/etc/buildkit/buildkitd.toml", broken, "no TOML"),
        ("k3s", "/etc/rancher/k3s/registries.yaml", "mirrors: {}\n", "did not write it"),
        ("rke2", "/etc/rancher/rke2/config.yaml.d/immutag.yaml", "a: b\n", "did not write it"),
        ("talos", "/immutag-talos.yaml", "machine: {}\n", "did not write it"),
    ] {
        let root = Root::new();
        root.put(path, content, 0o644);
        let tree = root.tree();
        let registries = ["--registry", "docker.io", "--registry", "ghcr.io"];
        for option in ["--write", "--dry-run"] {
            let arguments = [&[subject, option, "--table"], &registries[..]].concat();
            let ran = root.setup(&arguments);
            assert_eq!(ran.status.code(), Some(1), "{subject} {path}: {ran:#?}");
            assert!(ran.stderr.contains(words), "{subject} {path}: {ran:#?}");
            assert_eq!(root.tree(), tree, "{subject} {path}");
        }
    }
}

#[test]
fn a_write_that_fails_on_its_way_tells_what_was_written_and_is_made_whole_by_the_next() {
    let root = Root::new();
    let folder = "/etc/containerd/certs.d/registry-1.docker.io";
    root.put(folder, "a file where a directory is to be\n", 0o644);
    let config = "/etc/containerd/config.toml";
    root.put(config, "version = 2\n", 0o644);
    let write = ["containerd", "--registry", "docker.io", "--write"];
    let ran =
        root.setup(&[&write[..], &["--table"]].concat()).failed_with("1 of 3 files were written");
    let first = root.at("/etc/containerd/certs.d/docker.io/hosts.toml");
    assert!(first.exists() && ran.stdout.ends_with(&format!("# written: {}\n", first.display())));
    assert_eq!(root.read(config), "version = 2\n");
    fs::remove_file(root.at(folder)).expect("our own file");
    let told = root.told(&write);
    assert!(told.contains(&format!("# unchanged: {}\n", first.display())), "{told}");
    assert!(root.read(config).contains("config_path") && root.backups(config).len() == 1);
}

#[test]
fn nothing_that_a_file_says_moves_the_cursor() {
    let root = Root::new();
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
                  config_path = \"/\\u001b[2J\"\n";
    root.put("/etc/containerd/config.toml", config, 0o644);
    let refused = root.setup(&["containerd", "--dry-run"]).failed_with("\\u{1b}[2J");
    assert!(!refused.stderr.contains('\u{1b}'), "{refused:?}");
    let ours = "# Written by `immutag setup k3s`.\n\tmirrors: \u{1b}[2J\n";
    root.put("/etc/rancher/k3s/registries.yaml", ours, 0o644);
    let told = root.told(&["k3s", "--dry-run"]);
    assert!(told.contains("-\tmirrors: \\u{1b}[2J\n") && !told.contains('\u{1b}'), "{told}");
}

#[test]
fn a_file_that_is_no_text_is_left_alone() {
    let root = Root::new();
    root.put("/etc/docker/daemon.json", [0xff, 0xfe, b'{'], 0o644);
    let tree = root.tree();
    let ran = root.setup(&["docker", "--store", "classic", "--write"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("daemon.json cannot be read; nothing was changed"), "{ran:#?}");
    assert_eq!(root.tree(), tree);
}

#[test]
fn nothing_is_written_without_write() {
    let root = Root::new();
    root.put("/etc/docker/daemon.json", "{\"log-level\":\"warn\"}", 0o644);
    let tree = root.tree();
    for subject in SUBJECTS {
        let plain = root.told(subject);
        assert!(plain.starts_with("# "), "{subject:?}: {plain}");
        assert!(plain.contains("\n# pushes  "), "{subject:?}: {plain}");
        let is_seen = !["egress", "talos"].contains(&subject[0]);
        assert_eq!(plain.contains("`immutag doctor"), is_seen, "{subject:?}: {plain}");
        let dry = root.told(&[subject, &["--dry-run"]].concat());
        assert!(dry.contains("# nothing was changed: --write does it\n"), "{subject:?}: {dry}");
        assert_eq!(root.tree(), tree, "{subject:?}");
    }
    let dry = root.told(&["docker", "--store", "classic", "--dry-run"]);
    assert!(dry.contains("\n-{\"log-level\":\"warn\"}\n"), "{dry}");
}

#[test]
fn programs_get_paths_contents_modes_and_notes() {
    let root = Root::new();
    root.put("/etc/docker/daemon.json", "{}\n", 0o600);
    let docker = ["docker", "--store", "classic"];
    let lines = |ran: Ran| -> Vec<Value> {
        ran.ok().stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let shown = lines(root.setup(&[&docker[..], &["--json"]].concat()));
    let file = &shown[0]["files"][0];
    assert_eq!((&shown[0]["subject"], &file["mode"]), (&"docker".into(), &"0644".into()));
    assert_eq!(file["path"], "/etc/docker/daemon.json");
    assert!(file["content"].as_str().is_some_and(|text| text.contains("registry-mirrors")));
    let notes = shown[0]["notes"].as_array().expect("notes");
    assert!(notes.iter().any(|note| note["about"] == "open"), "{notes:?}");
    let written = lines(root.setup(&[&docker[..], &["--json", "--write"]].concat()));
    let file = &written[0]["files"][0];
    assert_eq!((&file["state"], &file["mode"]), (&"changed".into(), &"0600".into()));
    assert!(file["diff"].as_str().is_some_and(|diff| diff.contains("\n-{}\n")), "{file}");
    assert_eq!(written[1]["written"], root.at("/etc/docker/daemon.json").to_str().unwrap());
    assert!(written[1]["backup"].as_str().is_some_and(|path| Path::new(path).exists()));
    let again = lines(root.setup(&[&docker[..], &["--json", "--write"]].concat()));
    assert_eq!((again.len(), &again[0]["files"][0]["state"]), (1, &"unchanged".into()));
}

#[test]
fn addresses_and_registries_are_the_configuration_s_unless_they_are_given() {
    let root = Root::new();
    let setup = Setup::new().upstream("registry.example:5000", "http://10.0.0.7:5000");
    let config = setup.file("immutag.toml", &setup.toml());
    let config = ["--config", config.to_str().expect("a plain path")];
    let mirror = setup.addresses().mirror;
    let here = root.told(&[&["containerd", "--version", "1.6"], &config[..]].concat());
    for line in [
        "# /etc/containerd/certs.d/docker.io/hosts.toml\n",
        "# /etc/containerd/certs.d/registry.example_5000_/hosts.toml\n",
        "server = \"http://10.0.0.7:5000\"\n",
        "# version containerd 1.6.0 (--version)\n",
        &format!("[host.\"http://{mirror}\"]\n"),
    ] {
        assert!(here.contains(line), "{line} is not in\n{here}");
    }
    let ca = setup.file("ca.pem", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
    let there = ["--mirror", "https://proxy.example:5050", "--ca-file", ca.to_str().unwrap()];
    let only = ["--registry", "*", "--write"];
    root.told(&[&["containerd"], &there[..], &only[..], &config[..]].concat());
    let hosts = root.read("/etc/containerd/certs.d/_default/hosts.toml");
    let hosts: toml::Table = hosts.parse().expect("TOML");
    let host = &hosts["host"]["https://proxy.example:5050"];
    assert_eq!(hosts["server"].as_str(), Some("https://proxy.example:5050"));
    assert_eq!(host["ca"].as_str(), Some("/etc/immutag/ca.crt"));
    assert!(root.read("/etc/immutag/ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let root = Root::new();
    for arguments in [
        &["docker", "--mirror", "127.0.0.1:5050"][..],
        &["docker", "--write", "--dry-run"],
        &["docker", "--version", "new"],
        &["containerd", "--registry", "Not A Name"],
        &["egress", "nftables", "--allow", "10.0.0.1/8"],
        &["egress", "nftables", "--user", "a b"],
        &["egress"],
        &["nerdctl"],
    ] {
        let ran = root.setup(arguments);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {ran:#?}");
    }
    let no_ca = root.setup(&["podman", "--ca-file", "/dev/null"]);
    assert!(no_ca.failed_with("is no CA certificate").stdout.is_empty());
    assert!(root.tree().is_empty());
}

#[test]
fn skopeo_goes_by_what_is_written_for_podman_and_by_nothing_else() {
    if !have(&["skopeo"]) {
        return;
    }
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1.0.0", "a");
    let mut immutag = Setup::new().upstream("registry.example", &registry.url()).start();
    let direct = format!("http://{}", immutag.addresses().direct);
    let root = Root::new();
    root.told(&["podman", "--direct", &direct, "--registry", "registry.example", "--write"]);
    let home = Home::new(&root.read("/etc/containers/registries.conf.d/immutag.conf"));
    assert_eq!(home.skopeo_digest("registry.example/app:1.0.0"), image.digest());
    immutag.terminate();
    let inspect = ["inspect", "--no-tags", "docker://registry.example/app:1.0.0"];
    // Not the name of the registry, which nobody could resolve: immutag's address, and no more.
    home.skopeo(&inspect).failed_with(&immutag.addresses().direct.to_string());
}
