//! containerd's resolver, by `ctr`, with the fixtures' `certs.d`.

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use super::{hold, program};
use crate::support::apart::apart;
use crate::support::process::{Daemon, have, run};

/// Not about who is asked for a tag of the first registry, or only so in other versions than 1.6.
const OTHERS: [&str; 3] = [
    "containerd-other-registry-beside",
    "containerd-server-alone-taken",
    "containerd-server-pulls-digests",
];

#[test]
fn what_the_doctor_says_of_hosts_files_is_what_containerd_does() {
    if !have(&["containerd", "ctr"]) {
        return;
    }
    apart(&what_the_doctor_says_of_hosts_files_is_what_containerd_does, &[], || {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let containerd = Containerd::start(folder.path());
        let count = hold("containerd", is_about_hosts, |path, expected| {
            containerd.pull(&path.join("etc/containerd/certs.d"), expected)
        });
        assert!(count >= 20, "{count} fixtures are not all");
    });
}

/// Whether all that is found is in `certs.d`.
fn is_about_hosts(name: &str, expected: &Value) -> bool {
    let findings = expected["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let is_there = |finding: &Value| {
        let place = finding["place"].as_str();
        place.is_none_or(|place| place.starts_with("/etc/containerd/certs.d"))
    };
    !OTHERS.contains(&name) && findings.iter().all(is_there)
}

/// A containerd of the test's own; it ends with its process namespace.
struct Containerd {
    socket: PathBuf,
    _process: Daemon,
}

impl Containerd {
    fn start(folder: &Path) -> Self {
        let place = folder.display();
        let socket = folder.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{place}/containerd.sock\"\n"
        );
        let file = folder.join("config.toml");
        std::fs::write(&file, config).expect("our own directory");
        let mut command = Command::new(program("containerd"));
        let mut process = Daemon::start(command.arg("--config").arg(file), &folder.join("log"));
        process.wait_until("containerd answers", |_| {
            run(Self::ctr(&socket).arg("version")).status.success()
        });
        Self { socket, _process: process }
    }

    fn ctr(socket: &Path) -> Command {
        let mut command = Command::new(program("ctr"));
        command.arg("--address").arg(socket);
        command
    }

    /// Pulls what nobody has; what it said, and whom it named.
    fn pull(&self, hosts_dir: &Path, expected: &Value) -> (String, Vec<String>) {
        let registry = expected["registries"][0].as_str().unwrap_or("docker.io");
        let mut command = Self::ctr(&self.socket);
        command.args(["--debug", "images", "pull", "--hosts-dir"]).arg(hosts_dir);
        let ran = run(command.arg(format!("{registry}/library/app:1")));
        assert!(!ran.status.success(), "{ran:#?}");
        let asked = Regex::new(r#"(?:Head|Get) "https?://([^/"]+)"#).expect("a valid pattern");
        let hosts = asked.captures_iter(&ran.stderr).map(|found| found[1].to_owned()).collect();
        (ran.stderr, hosts)
    }
}
