//! A project with a Dockerfile, and the registry that its images come from.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::process::{Ran, run};
use crate::support::tls::Authority;

/// The release that is pushed over.
const BASE: (&str, &str) = ("team/base", "1.2.3");

/// A folder with a Dockerfile, its lock, and everything that its jobs need.
pub(super) struct Project {
    registry: DockerRegistry,
    folder: TempDir,
    name: String,
    variables: Vec<(String, String)>,
}

/// What came of a job.
pub(super) struct Job {
    pub(super) code: i32,
    /// All that it printed.
    pub(super) log: String,
}

impl Project {
    /// A project whose images are named `<name>/team/…`, and whose `images.lock` was made.
    pub(super) fn new(name: &str) -> Self {
        let authority = Authority::new();
        let registry = DockerRegistry::start_at(&authority, "127.0.0.9", "registry.example");
        for (repository, tag, seed) in [
            (BASE.0, BASE.1, "base 1"),
            ("team/tool", "2.0.1", "tool"),
            ("team/other", "3.0.0", "other"),
        ] {
            registry.push(repository, tag, &Image::new(seed).with_history());
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let project = Self { registry, folder, name: name.to_owned(), variables: Vec::new() };
        project.write("ca.pem", &authority.ca_pem);
        let upstream =
            "url = \"https://registry.example\"\nca-file = \"ca.pem\"\nallow-private = true\n";
        project.write("immutag.toml", &format!("[upstream.\"{name}\"]\n{upstream}"));
        project.write("hello", "hello\n");
        project.write("Dockerfile", &dockerfile(name, ""));
        project.furnish();
        let locked = project.run("The lock is made", "immutag lock && cat images.lock");
        assert_eq!(locked.code, 0, "{}", locked.log);
        project
    }

    /// Sets a variable for jobs.
    pub(super) fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A file of the project.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it says.
    pub(super) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Somebody pushes another image over the base's tag.
    pub(super) fn move_base(&self) {
        self.registry.push(BASE.0, BASE.1, &bases()[1]);
    }

    /// What the base's tag was, and what it was moved to.
    pub(super) fn base_digests() -> [String; 2] {
        bases().map(|image| image.digest().to_owned())
    }

    /// The Dockerfile gets one more stage, which the lock does not have.
    pub(super) fn name_another_image(&self) {
        let line = format!("COPY --from={}/team/other:3.0.0 /seed.bin /other.bin\n", self.name);
        self.write("Dockerfile", &dockerfile(&self.name, &line));
    }

    /// A label of an image that a job has built.
    #[track_caller]
    pub(super) fn label_by(&self, program: &str, image: &str, label: &str) -> String {
        let format = match program {
            "buildah" => format!("{{{{index .OCIv1.Config.Labels \"{label}\"}}}}"),
            _ => format!("{{{{index .Config.Labels \"{label}\"}}}}"),
        };
        let script = format!("{program} inspect --type image --format '{format}' {image}");
        self.sh(&script).ok().stdout.trim().to_owned()
    }

    /// Runs a job, and prints its log as a runner would.
    #[expect(clippy::print_stdout, reason = "the documentation is made of it")]
    pub(super) fn run(&self, title: &str, job: &str) -> Job {
        let ran = self.sh(&format!("exec 2>&1\n{job}"));
        let code = ran.status.code().unwrap_or(-1);
        println!("# {title}\n{}# exit {code}\n", ran.stdout);
        Job { code, log: ran.stdout }
    }

    fn sh(&self, script: &str) -> Ran {
        let folder = self.folder.path();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder).env_clear();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.join("bin").display());
        command
            .env("PATH", path)
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"));
        command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        command.env("BUILDAH_FORMAT", "oci").env("LANG", "C.UTF-8");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        run(&mut command)
    }

    /// The programs that a runner has: immutag, and `sudo`, which root does not need.
    fn furnish(&self) {
        for folder in ["bin", "home", "tmp"] {
            fs::create_dir(self.path(folder)).expect("our own directory");
        }
        symlink(env!("CARGO_BIN_EXE_immutag"), self.path("bin/immutag"))
            .expect("our own directory");
        self.write("bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path("bin/sudo"), executable).expect("our own file");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("our own directory");
    }
}

/// The base as it was released, and as it was pushed over.
fn bases() -> [Image; 2] {
    ["base 1", "base 2, and it sends your secrets away"].map(|seed| Image::new(seed).with_history())
}

/// Two stages, the second with files of the first and of another image.
fn dockerfile(name: &str, line: &str) -> String {
    format!(
        "ARG BASE={name}/team/base\nFROM ${{BASE}}:1.2.3 AS build\nCOPY hello /hello\n\
         FROM {name}/team/base:1.2.3\nCOPY --from=build /hello /hello\n\
         COPY --from={name}/team/tool:2.0.1 /seed.bin /tool.bin\n{line}"
    )
}
