//! Makes a scene of a host: what runs on it, and in which versions.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::{Process, Scene};
use crate::cli::clients::{Endpoints, Version, printed};
use crate::cli::doctor::files::Files;
use crate::cli::doctor::version::of_package;

/// The variables of processes that say where registries are asked. Others are none of our business.
const VARIABLES: [&str; 10] = [
    "CONTAINERS_REGISTRIES_CONF",
    "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "XDG_CONFIG_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The programs that matter while they run.
const PROGRAMS: [&str; 7] = ["buildkitd", "containerd", "crio", "dockerd", "k3s", "podman", "rke2"];

/// Programs whose version decides what settings mean, with the packages that bring them.
const VERSIONED: [(&str, &[&str]); 2] =
    [("containerd", &["containerd", "containerd.io"]), ("dockerd", &["docker.io", "docker-ce"])];

/// What to look at, beside the host itself.
pub(in crate::cli::doctor) struct Order {
    pub(in crate::cli::doctor) endpoints: Endpoints,
    pub(in crate::cli::doctor) registries: Vec<String>,
    pub(in crate::cli::doctor) is_narrowed: bool,
}

/// Looks at the host whose files are below `root`. No program of another root is run.
pub(in crate::cli::doctor) fn gather(root: &Path, order: Order) -> Scene {
    gather_from(Files::below(root), root == Path::new("/"), order)
}

/// The same with files from anywhere; `is_own`: they are those of the host that this runs on.
pub(in crate::cli::doctor) fn gather_from(files: Files, is_own: bool, order: Order) -> Scene {
    let Order { endpoints, registries, is_narrowed } = order;
    let processes = processes(&files);
    let environment = if is_own { own_environment() } else { BTreeMap::new() };
    let mut scene = Scene {
        files,
        endpoints,
        registries,
        is_narrowed,
        processes,
        environment,
        is_own,
        versions: BTreeMap::new(),
        dockers: BTreeMap::new(),
    };
    let told = |(name, packages): (&'static str, &[&str])| {
        Some((name, version(&scene, is_own, name, packages)?))
    };
    scene.versions = VERSIONED.into_iter().filter_map(told).collect();
    scene
}

/// Of the program that runs, else of the one that is installed, else of its package.
fn version(scene: &Scene, is_own: bool, name: &str, packages: &[&str]) -> Option<Version> {
    let running = scene.independent(name).filter_map(|process| process.arguments.first());
    let is_it = |path: &&String| path.starts_with('/') && path.ends_with(&format!("/{name}"));
    let running = running.filter(is_it).find(|path| scene.files.exists(path));
    let path = running.cloned().or_else(|| scene.program(name));
    let trusted = path.filter(|path| is_own && is_trusted(Path::new(path)));
    let asked = trusted.and_then(|path| Version::find_in(&printed(&path, &["--version"])?));
    asked.or_else(|| of_package(&scene.files, packages))
}

/// Whether nobody but root and this user can have put a program there. Any user may have a process
/// that calls itself `/home/them/containerd`, and the doctor is root.
fn is_trusted(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let is_safe = |path: &Path| {
        path.metadata().is_ok_and(|found| {
            [0, user].contains(&found.uid()) && found.permissions().mode() & 0o022 == 0
        })
    };
    // By the name that is called, and by what it stands for.
    let real = path.canonicalize();
    real.is_ok_and(|real| path.ancestors().chain(real.ancestors()).all(is_safe))
}

fn own_environment() -> BTreeMap<String, String> {
    let read = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    VARIABLES.into_iter().filter_map(read).collect()
}

fn processes(files: &Files) -> Vec<Process> {
    let ids: BTreeSet<u32> =
        files.names("/proc").iter().filter_map(|name| name.parse().ok()).collect();
    ids.into_iter().filter_map(|id| process(files, id)).collect()
}

/// A process, if it is a program that matters; one that has just ended is none.
fn process(files: &Files, id: u32) -> Option<Process> {
    let read = |name: &str| files.bytes(&format!("/proc/{id}/{name}"), 1 << 20).ok().flatten();
    let words = |bytes: Vec<u8>| -> Vec<String> {
        let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    };
    let arguments = words(read("cmdline")?);
    let called = arguments.first()?.rsplit('/').next().unwrap_or_default();
    let comm = read("comm").map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let is = |name: &&&str| {
        called == **name
            || comm.as_deref().is_some_and(|comm| comm == **name)
            // k3s and rke2 call themselves by their part.
            || comm.as_deref().is_some_and(|comm| {
                comm.strip_prefix(**name).is_some_and(|part| matches!(part, "-server" | "-agent"))
            })
    };
    let name = (*PROGRAMS.iter().find(is)?).to_owned();
    let environment = read("environ").map(|bytes| {
        let pairs = words(bytes).into_iter();
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            VARIABLES.contains(&name).then(|| (name.to_owned(), value.to_owned()))
        });
        pairs.collect()
    });
    let container = is_contained(files, id).then(|| format!("/proc/{id}/root"));
    let status = read("status").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let field = |name: &str| {
        let status = status.as_deref()?;
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse().ok()
    };
    let (parent, user) = (field("PPid:"), field("Uid:"));
    Some(Process { id, parent, user, name, arguments, environment, container })
}

/// Whether a process has a process namespace of its own, as those in containers have. A service
/// may have a mount namespace of its own all the same.
fn is_contained(files: &Files, id: u32) -> bool {
    let namespace = |id: &str| files.link(&format!("/proc/{id}/ns/pid"));
    // Where even root may not look at the first process, this one is the measure.
    let host = namespace("1").or_else(|| namespace("self"));
    matches!((host, namespace(&id.to_string())), (Some(host), Some(own)) if host != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_others_can_put_there_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("containerd");
        std::fs::copy("/bin/true", &path).unwrap();
        // Everybody may write to the directory of temporary files.
        assert!(!is_trusted(&path), "{}", path.display());
        assert!(is_trusted(Path::new("/usr/bin/env")));
        let link = folder.path().join("env");
        std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
        assert!(!is_trusted(&link), "who can put the link there has the choice of what it names");
        assert!(!is_trusted(Path::new("/nowhere/containerd")));
    }
}
