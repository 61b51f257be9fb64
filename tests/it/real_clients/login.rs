//! `credentials = "client"`: people log in to the direct listener, and get what is theirs.

use super::stage::{PASSWORD, REGISTRY, REPOSITORY, Upstream, is_set};
use crate::support::clients::Home;

const TAG: &str = "1.0.0";

#[test]
fn podman_and_skopeo_log_in_to_the_direct_listener_and_pull() {
    if !is_set() {
        return;
    }
    let upstream = Upstream::locked();
    let image = upstream.push(TAG, "private");
    let public = upstream.registry.push_image("public/app", TAG, "public");
    let mut immutag = upstream.immutag_for_logins("block");
    let direct = immutag.addresses().direct.to_string();
    let reference = format!("{direct}/{REGISTRY}/{REPOSITORY}:{TAG}");
    let free = format!("{direct}/{REGISTRY}/public/app:{TAG}");

    let reader = Home::plain(&[&direct]);
    reader.podman_login(&direct, "reader", PASSWORD).ok();
    reader.podman_pull(&reference).ok();
    assert_eq!(reader.podman_digest(&reference), image.digest());
    assert_eq!(reader.skopeo_digest(&reference), image.digest());
    reader.skopeo_copy(&reference).ok();
    assert_eq!(reader.skopeo_digest(&free), public.digest());

    // What is here now is not thereby anybody's.
    let nobody = Home::plain(&[&direct]);
    let wrong = Home::plain(&[&direct]);
    wrong.log_in(&direct, "reader", "wrong");
    let inspect = ["inspect", "--no-tags", &format!("docker://{reference}")];
    for stranger in [&nobody, &wrong] {
        let words = stranger.skopeo(&inspect).failed_with("unauthorized").stderr;
        assert!(words.contains("immutag: "), "{words}");
        assert!(!stranger.skopeo_copy(&reference).status.success());
    }
    // Without a login, what is open to everybody stays open.
    assert_eq!(nobody.skopeo_digest(&free), public.digest());
    nobody.podman_pull(&free).ok();

    upstream.push(TAG, "moved");
    let words = reader.skopeo(&inspect).failed_with("is pinned to").stderr;
    assert!(words.contains("immutag: ") && !words.contains("login"), "{words}");
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}
