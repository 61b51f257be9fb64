//! Debian's containerd with `ctr`, a daemon of the test's own, in a world of the test's own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::docker::bare;
use super::process::{Daemon, Ran, run};

/// The programs that it takes.
pub(crate) const PROGRAMS: [&str; 2] = ["containerd", "ctr"];

/// A running containerd without an image; it ends when it is dropped.
pub(crate) struct Containerd {
    daemon: Daemon,
    folder: TempDir,
}

impl Containerd {
    /// Starts it; `ctr` trusts the authority besides nobody.
    #[track_caller]
    pub(crate) fn start(ca_pem: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), ca_pem).expect("our own directory");
        let place = folder.path().display();
        let settings = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{place}/sock\"\n"
        );
        std::fs::write(path("config.toml"), settings).expect("our own directory");
        let mut command = bare("containerd", folder.path());
        command.arg("--config").arg(path("config.toml"));
        let daemon = Daemon::start(&mut command, &path("log"));
        let mut containerd = Self { daemon, folder };
        containerd.wait_until_ready();
        containerd
    }

    /// Writes `hosts.toml` for a registry.
    pub(crate) fn hosts(&self, registry: &str, hosts_toml: &str) {
        let folder = self.folder.path().join("hosts").join(registry);
        std::fs::create_dir_all(&folder).expect("our own directory");
        std::fs::write(folder.join("hosts.toml"), hosts_toml).expect("our own directory");
    }

    /// Runs `ctr` with these arguments.
    #[track_caller]
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Ran {
        run(client(self.folder.path()).args(arguments))
    }

    /// Pulls `REFERENCE` as `hosts.toml` says.
    #[track_caller]
    pub(crate) fn pull(&self, reference: &str, more: &[&str]) -> Ran {
        let hosts = self.folder.path().join("hosts").display().to_string();
        let pull = ["images", "pull", "--snapshotter", "native", "--hosts-dir", &hosts];
        self.ctr(&[&pull[..], more, &[reference]].concat())
    }

    fn wait_until_ready(&mut self) {
        let folder = self.folder.path().to_owned();
        let answers = |_: &Daemon| run(client(&folder).arg("version")).status.success();
        self.daemon.wait_until("containerd answers", answers);
    }
}

fn client(folder: &Path) -> Command {
    let mut command = bare("ctr", folder);
    command.arg("--address").arg(folder.join("sock"));
    command
}
