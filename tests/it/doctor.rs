//! `immutag doctor` beside a running immutag, one that is down, and something else.

mod real;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http::get;
use crate::support::immutag::{Immutag, immutag};
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::{Addresses, Setup};
use crate::support::tls::Authority;

/// An immutag, and a host of which only the files matter.
struct Stage {
    immutag: Immutag,
    root: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { immutag: Setup::new().start(), root: directory() }
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let Addresses { mirror, direct, .. } = self.immutag.addresses();
        let text = text.replace("MIRROR", &format!("http://{mirror}"));
        let path = self.root.path().join(path);
        let folder = path.parent().expect("it is below the root");
        std::fs::create_dir_all(folder).expect("our own directory");
        let text = text.replace("DIRECT", &direct.to_string());
        std::fs::write(path, text).expect("our own directory");
        self
    }

    /// containerd 1.7 that asks nobody but immutag for this registry.
    fn containerd(&self, registry: &str) -> &Self {
        self.containerd_with(
            registry,
            "server = \"MIRROR\"\n[host.\"MIRROR\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        )
    }

    fn containerd_with(&self, registry: &str, hosts: &str) -> &Self {
        let table = "[plugins.\"io.containerd.grpc.v1.cri\".registry]";
        let config = format!("version = 2\n{table}\nconfig_path = \"/etc/containerd/certs.d\"\n");
        self.file("etc/containerd/config.toml", &config);
        self.file(&format!("etc/containerd/certs.d/{registry}/hosts.toml"), hosts)
    }

    /// A Docker of the classic store that asks immutag first.
    fn docker(&self) -> &Self {
        self.file("etc/docker/daemon.json", "{ \"registry-mirrors\": [\"MIRROR\"] }\n")
    }

    fn podman(&self) -> &Self {
        let table = "[[registry]]\nprefix = \"docker.io\"\nlocation = \"DIRECT/docker.io\"\n";
        self.file("etc/containers/registries.conf", &format!("{table}insecure = true\n"))
    }

    fn doctor(&self, arguments: &[&str]) -> Ran {
        let root = path(self.root.path());
        self.immutag.cli(&[&["doctor", "--root", root], arguments].concat())
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory's name is text")
}

fn code(ran: &Ran) -> i32 {
    ran.status.code().expect("it ended by itself")
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

/// What is said of a client.
fn of<'a>(said: &'a Value, client: &str) -> &'a Value {
    let all = said["clients"].as_array().expect("a list");
    all.iter().find(|it| it["client"] == client).unwrap_or(&Value::Null)
}

#[track_caller]
fn assert_said(said: &Value, client: &str, standing: &str, words: &str) {
    let findings = of(said, client)["findings"].as_array().expect("findings");
    let is_it = |finding: &Value| {
        finding["standing"] == standing
            && finding["what"].as_str().is_some_and(|what| what.contains(words))
    };
    assert!(findings.iter().any(is_it), "no {standing} with `{words}`: {findings:#?}");
}

#[test]
fn a_host_whose_clients_ask_nobody_else_is_well() {
    let stage = Stage::new();
    stage.containerd("docker.io").podman();
    let ran = stage.doctor(&[]);
    let said = json(&ran);
    assert_eq!(code(&ran), 0, "{said:#}");
    for listener in ["mirror", "direct"] {
        assert_eq!(said["immutag"][listener]["state"], "serves", "{said:#}");
    }
    assert_eq!(said["immutag"]["ledger"], "ready");
    for client in ["containerd", "podman"] {
        assert_eq!(of(&said, client)["standing"], "protected", "{said:#}");
    }
    assert_eq!(of(&said, "docker")["note"], "not here");
    let table = stage.doctor(&["--table"]).stdout;
    assert!(table.contains("\ncontainerd  protected\n"), "{table}");
}

#[test]
fn hold_only_is_no_failure_and_is_said_aloud() {
    let stage = Stage::new();
    stage.docker();
    let ran = stage.doctor(&["--table"]);
    assert_eq!(code(&ran), 0, "{ran:#?}");
    assert!(ran.stdout.contains("\ndocker  HOLD ONLY\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("while immutag is down\n"), "{}", ran.stdout);
}

#[test]
fn a_way_round_is_a_finding_with_its_line() {
    let stage = Stage::new();
    stage.containerd_with("docker.io", "server = \"MIRROR\"\n\n[host.\"MIRROR\"\n");
    let ran = stage.doctor(&[]);
    let said = json(&ran);
    assert_eq!(code(&ran), 3, "{said:#}");
    let finding = &of(&said, "containerd")["findings"][0];
    assert_eq!(finding["standing"], "bypassable");
    assert_eq!(finding["place"], "/etc/containerd/certs.d/docker.io/hosts.toml:3");
    assert!(finding["fix"].as_str().unwrap().contains("server = "), "{finding:#}");
}

#[test]
fn while_immutag_is_down_what_falls_back_goes_round_and_what_is_closed_stays_closed() {
    let mut stage = Stage::new();
    stage.containerd("docker.io").docker().podman();
    assert_eq!(code(&stage.doctor(&[])), 0);
    stage.immutag.terminate();
    let ran = stage.doctor(&[]);
    let said = json(&ran);
    assert_eq!(code(&ran), 3, "{said:#}");
    assert_eq!(said["immutag"]["mirror"]["state"], "silent");
    assert_said(&said, "docker", "bypassable", "goes to the registry NOW");
    for client in ["containerd", "podman"] {
        assert_said(&said, client, "protected", "pulls fail until");
    }
    assert_eq!(code(&stage.doctor(&["containerd", "podman"])), 0);
}

#[test]
fn what_answers_in_the_place_of_immutag_is_told_from_it() {
    let stage = Stage::new();
    let other = ScriptedRegistry::start();
    stage.file(
        "etc/docker/daemon.json",
        &format!("{{ \"registry-mirrors\": [\"{}\"] }}", other.url()),
    );
    let ran = stage.doctor(&["docker", "--mirror", &other.url()]);
    let said = json(&ran);
    assert_eq!((code(&ran), &said["immutag"]["mirror"]["state"]), (3, &"foreign".into()));
    assert_said(&said, "docker", "bypassable", "is no immutag");

    let direct = format!("http://{}", stage.immutag.addresses().direct);
    stage.file("etc/docker/daemon.json", &format!("{{ \"registry-mirrors\": [\"{direct}\"] }}"));
    let ran = stage.doctor(&["docker", "--mirror", &direct]);
    let said = json(&ran);
    assert_eq!((code(&ran), &said["immutag"]["mirror"]["state"]), (3, &"other-kind".into()));
}

#[test]
fn a_certificate_that_this_host_does_not_trust_is_told_from_a_listener_without_tls() {
    let stage = Stage::new();
    let other = ScriptedRegistry::start_with(Some(Authority::new().issue(&["127.0.0.1"]).server()));
    let plain = format!("https://{}", stage.immutag.addresses().mirror);
    for (url, state) in [(other.url(), "untrusted"), (plain, "silent")] {
        let hosts = format!("server = \"{url}\"\n[host.\"{url}\"]\n");
        stage.containerd_with("docker.io", &hosts);
        let ran = stage.doctor(&["containerd", "--mirror", &url]);
        let said = json(&ran);
        let told = (code(&ran), &said["immutag"]["mirror"]["state"]);
        assert_eq!(told, (0, &state.into()), "what is closed stays closed: {said:#}");
        assert_said(&said, "containerd", "protected", &url);
    }
}

#[test]
fn a_registry_that_immutag_does_not_know_is_told_without_asking_anybody() {
    let registry = ScriptedRegistry::start();
    let setup = Setup::new().upstream("known.example", &registry.url());
    let stage = Stage { immutag: setup.start(), root: directory() };
    stage.containerd("known.example").containerd("unknown.example");
    let both = ["--registry", "known.example", "--registry", "unknown.example"];
    let ran = stage.doctor(&both);
    let said = json(&ran);
    assert_eq!(code(&ran), 0, "{said:#}");
    assert_eq!(said["immutag"]["unknown"], serde_json::json!(["unknown.example"]));
    assert_said(&said, "containerd", "protected", "does not know this registry");
    stage.containerd_with("unknown.example", "[host.\"MIRROR\"]\n");
    let ran = stage.doctor(&both);
    assert_eq!(code(&ran), 3);
    assert_said(&json(&ran), "containerd", "bypassable", "does not know this registry");
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn the_configured_upstreams_are_to_be_protected_too() {
    let registry = ScriptedRegistry::start();
    let setup = Setup::new().upstream("known.example", &registry.url());
    let stage = Stage { immutag: setup.start(), root: directory() };
    stage.containerd("docker.io");
    let ran = stage.doctor(&[]);
    assert_eq!(code(&ran), 3);
    let said = json(&ran);
    let open = of(&said, "containerd")["findings"].as_array().unwrap();
    let open: Vec<_> = open.iter().filter(|it| it["standing"] == "bypassable").collect();
    assert_eq!((open.len(), &open[0]["registry"]), (1, &"known.example".into()), "{open:#?}");
    assert_eq!(code(&stage.doctor(&["--registry", "docker.io"])), 0);
}

#[test]
fn nothing_that_a_file_says_reaches_the_terminal_as_it_stands() {
    let stage = Stage::new();
    let hostile = "{ \"registry-mirrors\": [\"http://a\\u001b[2J\\u202e\"] }";
    stage.file("etc/docker/daemon.json", hostile);
    let ran = stage.doctor(&["docker", "--table"]);
    assert_eq!(code(&ran), 3);
    assert!(ran.stdout.contains("\\u{1b}[2J\\u{202e}"), "{}", ran.stdout);
    assert!(!ran.stdout.contains(['\u{1b}', '\u{202e}']), "{}", ran.stdout);
}

#[test]
fn a_program_that_any_user_could_have_put_there_is_not_run() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let folder = directory();
    let (program, marker) = (folder.path().join("containerd"), folder.path().join("it-ran"));
    let script = format!("#!/bin/sh\ntouch {}\necho containerd 1.7.32\n", marker.display());
    std::fs::write(&program, script).expect("our own directory");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("our own file");
    // Whoever starts a process says what it is called.
    let mut sleep = Command::new("sleep");
    let mut posing = sleep.arg0(&program).arg("1000").spawn().expect("coreutils");
    let ran = immutag(&["doctor", "containerd", "--table"]);
    posing.kill().expect("our own process");
    posing.wait().expect("our own process");
    assert!(!marker.exists(), "{ran:#?}");
    assert!(ran.stdout.contains("\ncontainerd  "), "{ran:#?}");
}

#[test]
fn each_listener_says_which_kind_it_is() {
    let stage = Stage::new();
    for (url, kind) in [(stage.immutag.mirror(""), "mirror"), (stage.immutag.direct(""), "direct")]
    {
        assert_eq!(get(&url).field("immutag-listener"), Some(kind));
    }
    assert_eq!(get(&stage.immutag.admin("/v2/")).field("immutag-listener"), None);
}

#[test]
fn what_cannot_be_seen_or_meant_is_said() {
    let stage = Stage::new();
    let said = json(&stage.doctor(&["talos"]).ok());
    assert!(of(&said, "talos")["note"].as_str().unwrap().contains("skipFallback"), "{said:#}");
    assert_eq!(*of(&said, "docker"), Value::Null);
    assert_eq!(code(&stage.doctor(&[])), 0, "an empty host has no way round");
    for wrong in [["doctor", "nonsense"], ["doctor", "--mirror=127.0.0.1:5050"]] {
        assert_eq!(code(&immutag(&wrong)), 2, "{wrong:?}");
    }
}
