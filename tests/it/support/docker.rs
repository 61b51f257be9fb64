//! Debian's Docker with a daemon of the test's own, in a world of the test's own.
//!
//! The daemon keeps everything in a temporary directory, and makes no network for containers: it
//! pulls and builds, and runs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::{Daemon, Ran, find_debians, kill, run};

/// The programs that it takes.
pub(crate) const PROGRAMS: [&str; 3] = ["containerd", "docker", "dockerd"];

/// A running `dockerd` without an image; it ends, with its containerd, when it is dropped.
pub(crate) struct Docker {
    daemon: Daemon,
    folder: TempDir,
}

impl Docker {
    /// Starts it with these `registry-mirrors`; it trusts the authority besides nobody.
    #[track_caller]
    pub(crate) fn start(mirrors: &[&str], ca_pem: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), ca_pem).expect("our own directory");
        let settings = serde_json::json!({ "registry-mirrors": mirrors });
        std::fs::write(path("daemon.json"), settings.to_string()).expect("our own directory");
        let mut command = bare("dockerd", folder.path());
        command.arg("--config-file").arg(path("daemon.json"));
        command.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("pid")).args(["-H", &socket(folder.path())]);
        command.args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false"]);
        command.args(["--ip6tables=false", "--ip-forward=false", "--userland-proxy=false"]);
        let daemon = Daemon::start(&mut command, &path("log"));
        let mut docker = Self { daemon, folder };
        docker.wait_until_ready();
        docker
    }

    /// Where its clients find it, as `DOCKER_HOST` says it.
    pub(crate) fn host(&self) -> String {
        socket(self.folder.path())
    }

    /// Runs `docker` with these arguments.
    #[track_caller]
    pub(crate) fn docker(&self, arguments: &[&str]) -> Ran {
        run(client(self.folder.path()).args(arguments))
    }

    /// Builds `built` from `FROM reference` and nothing else, with the daemon's `BuildKit`.
    #[track_caller]
    pub(crate) fn build_from(&self, reference: &str) -> Ran {
        let source = self.folder.path().join("source");
        std::fs::create_dir_all(&source).expect("our own directory");
        let text = format!("FROM {reference}\nLABEL built=here\n");
        std::fs::write(source.join("Dockerfile"), text).expect("our own directory");
        let mut command = client(self.folder.path());
        command.env("DOCKER_BUILDKIT", "1");
        command.args(["build", "--pull", "--no-cache", "--progress", "plain", "--tag", "built"]);
        run(command.arg(source))
    }

    fn wait_until_ready(&mut self) {
        let folder = self.folder.path().to_owned();
        self.daemon.wait_until("dockerd answers", |_| {
            let mut command = client(&folder);
            run(command.args(["version", "--format", "{{.Server.Version}}"])).status.success()
        });
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Its containerd would outlive it.
        self.daemon.signal(Signal::KILL);
        let file = self.folder.path().join("exec/containerd/containerd.pid");
        let id = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(id) = id {
            kill(id, Signal::KILL);
        }
    }
}

fn client(folder: &Path) -> Command {
    let mut command = bare("docker", folder);
    command.env("DOCKER_CONFIG", folder.join("client")).args(["-H", &socket(folder)]);
    command
}

fn socket(folder: &Path) -> String {
    format!("unix://{}", folder.join("sock").display())
}

/// A program with nothing of this machine's environment; `ca.pem` in `folder` is whom it trusts.
pub(super) fn bare(program: &str, folder: &Path) -> Command {
    let found: PathBuf = find_debians(program).expect("`have` was asked first");
    let mut command = Command::new(found);
    command.env_clear().current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("SSL_CERT_FILE", folder.join("ca.pem")).env("SSL_CERT_DIR", folder.join("none"));
    command
}
