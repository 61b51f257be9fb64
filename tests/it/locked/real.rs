//! Real clients in locked mode: two jobs, and an upstream that moves the tag between them.
//!
//! The clients of the mirror have the registry itself as their fallback, and it would serve them.

use super::{job, lock_of};
use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::setup::Setup;

/// By the mirror of docker.io, whose fallback is the registry itself.
fn home(registry: &DockerRegistry, immutag: &Immutag) -> Home {
    let (host, mirror) = (registry.host(), immutag.addresses().mirror);
    Home::new(&format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{host}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
    ))
}

fn locked(registry: &DockerRegistry, app: &Image, index: &str) -> Immutag {
    let entries = [("team/app:1", app.digest()), ("team/multi:1", index)];
    let setup = Setup::new().docker_io(registry.url());
    job(setup, &lock_of("docker.io", &entries)).argument("--locked").start()
}

#[test]
fn real_clients_get_what_is_locked_and_nothing_else_and_do_not_go_round() {
    if !have(&["docker-registry", "podman", "buildah", "skopeo"]) {
        return;
    }
    let registry = DockerRegistry::start();
    let app = registry.push_image("team/app", "1", "a");
    let index = registry.push_index("team/multi", "1", "m", &["amd64", "arm64"]);
    let unlocked = registry.push_image("team/app", "2", "b");
    let mut immutag = locked(&registry, &app, index.digest());
    let gets = |immutag: &Immutag| {
        let home = home(&registry, immutag);
        assert_eq!(home.skopeo_digest("docker.io/team/app:1"), app.digest());
        home.skopeo_copy("docker.io/team/app:1").ok();
        home.podman_pull("docker.io/team/app:1").ok();
        assert_eq!(home.podman_digest("docker.io/team/app:1"), app.digest());
        home.podman_pull_for("arm64", "docker.io/team/multi:1").ok();
        home.buildah_pull("docker.io/team/multi:1").ok();
        let unlocked_digest = format!("docker.io/team/app@{}", unlocked.digest());
        for reference in ["docker.io/team/app:2", "docker.io/team/none:1", &unlocked_digest] {
            for ran in [
                home.skopeo_copy(reference),
                home.podman_pull(reference),
                home.buildah_pull(reference),
            ] {
                assert!(!ran.status.success(), "{reference}: {}", ran.stderr);
            }
        }
    };
    gets(&immutag);
    registry.push_image("team/app", "1", "moved");
    immutag.restart();
    gets(&immutag);
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    let log = registry.log();
    let stranger = |line: &&str| line.contains("skopeo/") || line.contains("containers/");
    let strangers: Vec<_> = log.lines().filter(stranger).collect();
    assert!(strangers.is_empty(), "somebody went round immutag: {strangers:#?}");
    immutag.assert_alive_and_clean();
}
