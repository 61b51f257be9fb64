//! `setup --write`, then `doctor --live`, on a host whose Docker, containerd and Podman are real:
//! what setup writes is what the doctor calls protected, and what a moved tag proves.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::apart::apart;
use crate::support::immutag::Immutag;
use crate::support::process::{Daemon, Ran, find_debians, have, run};
use crate::support::setup::Setup;

/// Where Debian's programs are; another Docker client may come before it elsewhere.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The daemons of a host, with the settings that lie in its `/etc`.
struct Daemons {
    _containerd: Daemon,
    _docker: Daemon,
}

impl Daemons {
    fn start(log: &Path) -> Self {
        let mut containerd = Command::new(find_debians("containerd").expect("asked for"));
        let containerd = launch(&mut containerd, log, "containerd", &["ctr", "version"]);
        let mut docker = Command::new(find_debians("dockerd").expect("asked for"));
        docker.args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false"]);
        docker.args(["--ip6tables=false", "--containerd", "/run/containerd/containerd.sock"]);
        let docker = launch(&mut docker, log, "dockerd", &["docker", "version"]);
        Self { _containerd: containerd, _docker: docker }
    }
}

fn launch(command: &mut Command, log: &Path, name: &str, ready: &[&str]) -> Daemon {
    command.env("PATH", PATH);
    let mut daemon = Daemon::start(command, &log.join(name));
    daemon.wait_until(name, |_| {
        run(Command::new(ready[0]).args(&ready[1..]).env("PATH", PATH)).status.success()
    });
    daemon
}

/// What the doctor says of each client.
fn doctor(immutag: &Immutag) -> (Ran, Value) {
    let ran = immutag.cli(&["doctor", "--live", "--json", "docker", "containerd", "podman"]);
    let said = ran.stdout.parse().unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    (ran, said)
}

/// A client's standing, and what the moved tag showed of it.
#[track_caller]
fn seen<'a>(said: &'a Value, client: &str) -> (&'a str, &'a str) {
    let mut clients = said["clients"].as_array().expect("clients").iter();
    let found = clients.find(|it| it["client"] == client).expect("it is there");
    let findings = found["findings"].as_array().expect("findings");
    let whats = findings.iter().filter_map(|finding| finding["what"].as_str());
    let live = whats.clone().find(|what| what.starts_with("live: "));
    let all = whats.collect::<Vec<_>>();
    (found["standing"].as_str().expect("a standing"), live.unwrap_or_else(|| panic!("{all:#?}")))
}

#[test]
fn what_setup_writes_is_proven_by_a_tag_that_moves_and_what_is_missing_is_found() {
    let test = what_setup_writes_is_proven_by_a_tag_that_moves_and_what_is_missing_is_found;
    if !have(&["containerd", "docker", "dockerd", "podman"]) {
        return;
    }
    apart(&test, &[], || {
        let immutag = Setup::new().env("PATH", PATH).start();
        for client in ["docker", "containerd", "podman"] {
            immutag.cli(&["setup", client, "--write"]).ok();
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let daemons = Daemons::start(folder.path());
        let (ran, said) = doctor(&immutag);
        println!("{said:#}");
        for (client, standing) in
            [("docker", "hold-only"), ("containerd", "protected"), ("podman", "protected")]
        {
            let (found, live) = seen(&said, client);
            assert_eq!(found, standing, "{client}: {live}");
            assert!(live.contains("under block it was stopped"), "{client}: {live}");
            assert!(live.contains("immutag: "), "{client}: {live}");
        }
        assert_eq!(ran.status.code(), Some(0), "{ran:#?}");
        let listed = immutag.cli(&["ledger", "list", "--conflicts"]).ok().stdout;
        assert_eq!(listed, "", "the canaries are forgotten");
        let pulls = immutag.cli(&["pulls"]).ok();
        assert_eq!(pulls.stdout, "", "the doctor's canary is no client's pull");
        drop(daemons);

        for file in ["/etc/docker/daemon.json", "/etc/containers/registries.conf.d/immutag.conf"] {
            std::fs::remove_file(file).expect("setup wrote it");
        }
        std::fs::remove_dir_all("/etc/containerd/certs.d").expect("setup wrote it");
        let _daemons = Daemons::start(folder.path());
        let (ran, said) = doctor(&immutag);
        for client in ["docker", "containerd", "podman"] {
            let (found, live) = seen(&said, client);
            assert_eq!(found, "bypassable", "{client}: {live}");
            assert!(live.contains("does not come through immutag"), "{client}: {live}");
        }
        assert_eq!(ran.status.code(), Some(3), "{ran:#?}");
    });
}

#[test]
fn without_a_server_there_is_nothing_to_prove_with() {
    let mut immutag = Setup::new().start();
    immutag.kill9();
    let ran = immutag.cli(&["doctor", "--live", "docker"]);
    if have(&["docker"]) {
        assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("--live needs the immutag that runs on"), "{ran:#?}");
    }
}
