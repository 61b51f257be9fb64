//! What is shipped beside the program: image, compose file, alerts, dependency policy, scripts.
//!
//! No image can be built here, so each part is checked as far as it can be without.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::support::clients::Home;
use crate::support::docker_registry::DockerRegistry;
use crate::support::http::Call;
use crate::support::process::{Daemon, Ran, find, have, run};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn the_dockerfile_copies_only_what_exists_and_is_let_through() {
    let ignore = read(".dockerignore");
    let allowed: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = 0;
    for words in instructions("COPY") {
        if words[0].starts_with("--from=") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(root(source).exists(), "{source} does not exist");
            assert!(allowed.contains(&source.as_str()), "{source} is in no line of .dockerignore");
            copied += 1;
        }
    }
    assert_eq!(copied, allowed.len(), "the .dockerignore lets through what nothing copies");
}

#[test]
fn the_dockerfile_copies_every_target_that_the_manifest_declares() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let copied: Vec<String> = instructions("COPY").into_iter().flatten().collect();
    let benches = manifest.get("bench").and_then(|benches| benches.as_array());
    assert!(benches.is_none_or(|_| copied.contains(&"benches".to_owned())));
    assert!(copied.contains(&"src".to_owned()) && copied.contains(&"Cargo.lock".to_owned()));
}

#[test]
fn the_image_runs_as_nobody_keeps_a_volume_and_names_its_ports() {
    let config: toml::Table = read("config/container.toml").parse().expect("TOML");
    let volume = config["data-dir"].as_str().expect("a path");
    assert_eq!(instructions("VOLUME"), [[volume]]);
    assert_eq!(instructions("USER"), [["65532:65532"]]);
    assert!(read("Dockerfile").contains(&format!("-o 65532 -g 65532 -m 0700 /out{volume}")));

    let listeners = config["listener"].as_array().expect("listeners").iter();
    let ports: Vec<String> = listeners
        .chain([&config["admin"]])
        .map(|it| port_of(it.as_table().expect("a table")))
        .collect();
    assert_eq!(instructions("EXPOSE"), [ports]);
}

#[test]
fn the_compose_file_is_valid_and_mounts_what_exists() {
    let text = read("docker-compose.yml");
    let mounted = Regex::new(r"- \./([^:\s]+):").expect("a valid pattern");
    let mounts: Vec<&str> =
        mounted.captures_iter(&text).map(|it| it.get(1).expect("one").as_str()).collect();
    assert!(mounts.len() >= 3, "{mounts:?}");
    for file in mounts {
        assert!(root(file).exists(), "{file} does not exist");
    }
    if !have(&["docker-compose"]) {
        return;
    }
    let compose = |arguments: &[&str]| {
        let mut command = Command::new(find("docker-compose").expect("it is here"));
        run(command.current_dir(root("")).arg("--profile").arg("retag").args(arguments)).ok()
    };
    let services: BTreeSet<String> =
        compose(&["config", "--services"]).stdout.lines().map(str::to_owned).collect();
    let expected = ["immutag", "prometheus", "registry", "retag"];
    assert_eq!(services, expected.map(str::to_owned).into());
}

#[test]
fn the_alerts_come_when_they_must() {
    if !have(&["promtool"]) {
        return;
    }
    let promtool = |arguments: &[&str]| {
        run(Command::new("promtool").current_dir(root("config/prometheus")).args(arguments)).ok()
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

#[test]
fn the_alerts_ask_only_for_metrics_that_exist() {
    let registered = immutag::metrics::Metrics::new();
    // A metric with labels shows itself only once it has a value: its name stands in the source.
    let parts = ["", "/journal", "/notify", "/watch"].map(|part| format!("src/metrics{part}.rs"));
    let source = parts.iter().map(|part| read(part)).collect::<String>();
    let text = String::from_utf8_lossy(&registered.render()).into_owned();
    let name = Regex::new(r"\bimmutag_(\w+)").expect("a valid pattern");
    for found in name.captures_iter(&read("config/prometheus/alerts.yml")) {
        let name = found[1].trim_end_matches("_bucket");
        let known = text.contains(&found[0]) || source.contains(&format!("\"{name}\""));
        assert!(known, "no metric immutag_{name}");
    }
}

#[test]
fn the_retag_script_tells_held_from_moved() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::start();
    let (first, second) =
        (registry.push_image("a", "v1", "1"), registry.push_image("b", "v1", "2"));
    let script = RetagScript::new(&registry);

    // It stands in for an immutag that holds the first digest for ever.
    let holding = ScriptedRegistry::start();
    let repository = String::from("registry.local/demo/app");
    holding.put_image(&repository, &first);
    holding.retag(&repository, "1.0.0", first.digest());
    let held = script.run(&holding.host()).ok();
    assert!(held.stdout.contains(second.digest()), "{held:?}");
    assert!(held.stdout.ends_with("ImmutagConflictOpen in Prometheus\n"), "{held:?}");

    // And one that lets tags move.
    let moving = ScriptedRegistry::start();
    for image in [&first, &second] {
        moving.put_image(&repository, image);
    }
    moving.flip_each_request(&repository, "1.0.0", &[first.digest(), second.digest()]);
    script.run(&moving.host()).failed_with("immutag let the tag move");
}

#[test]
fn the_compose_file_s_immutag_holds_against_the_retag_script() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::start();
    registry.push_image("a", "v1", "1");
    registry.push_image("b", "v1", "2");
    let config: toml::Table = read("config/compose/immutag.toml").parse().expect("TOML");
    let rules = toml::to_string(&toml::Table::from_iter([("rule".into(), config["rule"].clone())]));
    let setup = Setup::new().upstream("registry.local", registry.url());
    let immutag = setup.rules(&rules.expect("TOML")).start();
    let script = RetagScript::new(&registry);
    script.run(&immutag.addresses().direct.to_string()).ok();
    immutag.wait_for_metric("immutag_conflicts_open", "", 1.0);
}

#[test]
fn the_image_s_layout_starts_as_nobody_on_its_volume() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let image = tempfile::tempdir().expect("a temporary directory");
    let at = |path: &str| image.path().join(path);
    set_mode(image.path(), 0o755);
    fs::copy(env!("CARGO_BIN_EXE_immutag"), at("immutag")).expect("a copy of the program");
    set_mode(&at("immutag"), 0o755);
    fs::create_dir(at("volume")).expect("a folder");
    std::os::unix::fs::chown(at("volume"), Some(NOBODY), Some(NOBODY)).expect("root may");
    set_mode(&at("volume"), 0o700);
    let setup = Setup::new().data_dir(&at("volume"));
    fs::write(at("immutag.toml"), setup.toml()).expect("a file");

    let mut command = Command::new(at("immutag"));
    command.arg("serve").env_clear().uid(NOBODY).gid(NOBODY).current_dir(image.path());
    command.env("IMMUTAG_CONFIG", at("immutag.toml"));
    command.env("IMMUTAG__DATA_DIR", at("volume"));
    let mut process = Daemon::start(&mut command, &at("log"));
    let ready = format!("http://{}/readyz", setup.addresses().admin);
    process.wait_until("it is ready", |_| {
        Call::new("GET", &ready).try_send().is_ok_and(|answer| answer.status == 200)
    });
    assert!(at("volume/ledger").is_dir());
}

/// The image's user.
const NOBODY: u32 = 65532;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

#[test]
fn what_deny_toml_bans_is_not_in_the_tree_and_what_it_ignores_is() {
    let deny: toml::Table = read("deny.toml").parse().expect("TOML");
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"]);
    let tree = run(tree.current_dir(root(""))).ok().stdout;
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("immutag"));
    let bans = deny["bans"]["deny"].as_array().expect("a list");
    assert!(!bans.is_empty());
    for ban in bans {
        let name = ban["crate"].as_str().expect("a name");
        assert!(!names.contains(name), "{name} is banned: {}", ban["reason"]);
    }
    for ignored in deny["advisories"]["ignore"].as_array().expect("a list") {
        let reason = ignored["reason"].as_str().expect("a reason");
        let name = reason.split(',').next().expect("it begins with the crate");
        assert!(names.contains(name), "{name} is gone: ignore {} no more", ignored["id"]);
    }
}

#[test]
fn the_licence_is_the_one_that_the_manifest_names() {
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    let licence = read("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
    assert!(licence.contains("END OF TERMS AND CONDITIONS"));
}

#[test]
fn ci_runs_tests_and_lints() {
    let script = read(".ci/run");
    assert!(script.contains("set -euo pipefail"));
    assert!(script.contains("make test\nmake lint\n"));
    for script in [".ci/run", "tests/setup.sh", "config/compose/retag.sh"] {
        let mode = fs::metadata(root(script)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} can be run");
    }
}

#[test]
fn setup_fails_in_ci_for_what_it_cannot_install_and_skips_elsewhere() {
    let setup = |ci: &str| {
        let mut command = Command::new("/bin/bash");
        // No apt-get and no skopeo here, only what the script itself needs.
        let tools = tempfile::tempdir().expect("a temporary directory");
        for name in ["id", "env"] {
            let program = find(name).expect("coreutils are here");
            std::os::unix::fs::symlink(program, tools.path().join(name)).expect("a new link");
        }
        command.arg(root("tests/setup.sh")).arg("skopeo");
        run(command.env_clear().env("PATH", tools.path()).env("CI", ci))
    };
    setup("true").failed_with("CI must have: skopeo");
    assert!(setup("").ok().stdout.contains("SKIPPED is what needs: skopeo"));
}

/// `config/compose/retag.sh` with a registry whose images `a:v1` and `b:v1` it pushes.
struct RetagScript {
    home: Home,
    registry: String,
}

impl RetagScript {
    fn new(registry: &DockerRegistry) -> Self {
        let home = Home::plain(&[registry.host()]);
        let script = Self { home, registry: registry.host().to_owned() };
        for name in ["a", "b"] {
            let from = format!("docker://{}/{name}:v1", registry.host());
            script.home.skopeo(&["copy", &from, &script.folder(name)]).ok();
        }
        script
    }

    fn run(&self, immutag: &str) -> Ran {
        let home = self.home.path();
        let mut command = Command::new("sh");
        command.arg(root("config/compose/retag.sh")).current_dir(home);
        command.env("HOME", home).env("XDG_RUNTIME_DIR", home);
        command.env("REGISTRY", &self.registry).env("IMMUTAG", immutag);
        command.env("FIRST", self.folder("a")).env("SECOND", self.folder("b"));
        run(&mut command)
    }

    fn folder(&self, name: &str) -> String {
        format!("dir:{}", self.home.path().join(name).display())
    }
}

/// The words of each instruction of that name in the Dockerfile's stages.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = read("Dockerfile");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn port_of(listener: &toml::Table) -> String {
    let address = listener["address"].as_str().expect("an address");
    let port = address.strip_prefix("0.0.0.0:").expect("it must be reached from outside");
    port.to_owned()
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
