//! The real clients, `buildah`, `podman` and `skopeo`, each test with a home of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::{Ran, find, run};

/// A home for clients: their configuration, their storage, nothing of this machine's.
pub(crate) struct Home {
    folder: TempDir,
    trusted: Option<PathBuf>,
}

impl Home {
    /// A home with this `registries.conf`.
    pub(crate) fn new(registries_conf: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let home = Self { folder, trusted: None };
        home.write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        home.write("storage.conf", &home.storage_conf());
        home.write(
            "containers.conf",
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
        );
        home.write("registries.d/default.yaml", "");
        home.write("auth.json", "{}");
        home.configure(registries_conf);
        home
    }

    /// A home whose clients speak plain http to these registries (`127.0.0.1:5000`).
    pub(crate) fn plain(registries: &[&str]) -> Self {
        Self::new(&insecure(registries))
    }

    /// A home that asks the mirrors `(registry, mirror)` first and the registry after them, all
    /// over plain http.
    pub(crate) fn mirrored(mirrors: &[(&str, &str)]) -> Self {
        let entry = |(registry, mirror): &(&str, &str)| {
            format!(
                "[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\ninsecure = true\n\
                 [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
            )
        };
        Self::new(&mirrors.iter().map(entry).collect::<String>())
    }

    /// Another `registries.conf`.
    pub(crate) fn configure(&self, registries_conf: &str) {
        self.write("registries.conf", registries_conf);
    }

    /// Trusts this authority besides nobody.
    pub(crate) fn trust(mut self, ca_pem: &str) -> Self {
        self.trusted = Some(self.write("ca.pem", ca_pem));
        self
    }

    /// Gives the clients a user's name and password for a registry.
    pub(crate) fn log_in(&self, registry: &str, username: &str, password: &str) {
        let basic = super::token::basic(username, password);
        let auth = basic.trim_start_matches("Basic ");
        let text = format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#);
        self.write("auth.json", &text);
    }

    /// Where the home is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `skopeo` with these arguments.
    #[track_caller]
    pub(crate) fn skopeo(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command("skopeo");
        command.arg("--policy").arg(self.path().join("policy.json"));
        command.arg("--registries-conf").arg(self.path().join("registries.conf"));
        command.arg("--registries.d").arg(self.path().join("registries.d"));
        run(command.args(arguments))
    }

    /// The digest of `REFERENCE` as skopeo sees it; it does not list tags, which it would ask of
    /// the registry itself, never of a mirror.
    #[track_caller]
    pub(crate) fn skopeo_digest(&self, reference: &str) -> String {
        let reference = format!("docker://{reference}");
        let ran =
            self.skopeo(&["inspect", "--no-tags", "--format", "{{.Digest}}", &reference]).ok();
        ran.stdout.trim().to_owned()
    }

    /// Copies `REFERENCE`, blobs and all, with every platform of an index, into a fresh folder.
    #[track_caller]
    pub(crate) fn skopeo_copy(&self, reference: &str) -> Ran {
        let to = tempfile::tempdir_in(self.path()).expect("a temporary directory").keep();
        let (from, to) = (format!("docker://{reference}"), format!("dir:{}", to.display()));
        self.skopeo(&["copy", "--all", "--preserve-digests", &from, &to])
    }

    /// Runs `podman` with these arguments.
    #[track_caller]
    pub(crate) fn podman(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command("podman");
        command.args(["--root", &self.sub("storage"), "--runroot", &self.sub("run")]);
        command.args(["--tmpdir", &self.sub("tmp"), "--storage-driver", "vfs"]);
        command.args(["--storage-opt", "vfs.ignore_chown_errors=true"]);
        run(command.args(arguments))
    }

    /// Pulls `REFERENCE` with podman.
    #[track_caller]
    pub(crate) fn podman_pull(&self, reference: &str) -> Ran {
        let policy = self.sub("policy.json");
        self.podman(&["pull", "--signature-policy", &policy, reference])
    }

    /// Pulls `REFERENCE` with podman, for another architecture than this machine's.
    #[track_caller]
    pub(crate) fn podman_pull_for(&self, architecture: &str, reference: &str) -> Ran {
        let policy = self.sub("policy.json");
        self.podman(&["pull", "--signature-policy", &policy, "--arch", architecture, reference])
    }

    /// Runs `buildah` with these arguments.
    #[track_caller]
    pub(crate) fn buildah(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command("buildah");
        command.args(["--root", &self.sub("storage"), "--runroot", &self.sub("run")]);
        command.args(["--storage-driver", "vfs"]);
        command.args(["--registries-conf", &self.sub("registries.conf")]);
        run(command.args(arguments))
    }

    /// Pulls `REFERENCE` with buildah; by itself it would not ask again for what it has.
    #[track_caller]
    pub(crate) fn buildah_pull(&self, reference: &str) -> Ran {
        let policy = self.sub("policy.json");
        let pull = ["pull", "--policy", "always", "--signature-policy", &policy, reference];
        self.buildah(&pull)
    }

    /// Logs in to a registry with podman, as a person would.
    #[track_caller]
    pub(crate) fn podman_login(&self, registry: &str, username: &str, password: &str) -> Ran {
        self.podman(&["login", "--username", username, "--password", password, registry])
    }

    /// The manifest digest under which podman holds `REFERENCE`.
    #[track_caller]
    pub(crate) fn podman_digest(&self, reference: &str) -> String {
        let ran = self.podman(&["image", "inspect", "--format", "{{.Digest}}", reference]).ok();
        ran.stdout.trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).expect("`have` was asked first"));
        command.env_clear().current_dir(self.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("TMPDIR", self.path());
        command.env("XDG_RUNTIME_DIR", self.path()).env("XDG_CONFIG_HOME", self.path());
        command.env("REGISTRY_AUTH_FILE", self.path().join("auth.json"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path().join("registries.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.path().join("storage.conf"));
        command.env("CONTAINERS_CONF", self.path().join("containers.conf"));
        let empty = self.path().join("no-certificates");
        command.env("SSL_CERT_FILE", self.trusted.as_ref().unwrap_or(&empty));
        command.env("SSL_CERT_DIR", empty);
        command
    }

    fn storage_conf(&self) -> String {
        let (run, root) = (self.sub("run"), self.sub("storage"));
        format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{run}\"\ngraphroot = \"{root}\"\n")
    }

    fn sub(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a file has a folder"))
            .expect("our own folder");
        std::fs::write(&file, text).expect("a file in our own directory");
        file
    }
}

/// The lines of a `registries.conf` that allow plain http to these registries.
pub(crate) fn insecure(registries: &[&str]) -> String {
    let entry =
        |registry: &&str| format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
    registries.iter().map(entry).collect()
}
