//! The real clients and the real registry work on this machine, without immutag.

use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::process::have;
use crate::support::registry::ScriptedRegistry;
use crate::support::tls::Authority;
use crate::support::token::TokenServer;

#[test]
fn skopeo_inspects_and_copies_from_a_scripted_registry() {
    if !have(&["skopeo"]) {
        return;
    }
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("team/app", "v1", "one");
    let index = registry.push_index("team/app", "multi", "two", &["amd64", "arm64"]);
    let home = Home::plain(&[&registry.host()]);
    let reference = format!("{}/team/app:v1", registry.host());

    assert_eq!(home.skopeo_digest(&reference), image.digest());
    home.skopeo_copy(&reference).ok();
    home.skopeo_copy(&format!("{}/team/app:multi", registry.host())).ok();

    assert!(registry.count(&format!("GET manifests/{}", index.images[1].digest())) > 0);
    assert!(registry.count(&format!("GET blobs/{}", image.layers[0].digest)) > 0);
}

#[test]
fn podman_pulls_from_a_scripted_registry() {
    if !have(&["podman"]) {
        return;
    }
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("team/app", "v1", "one");
    let schema2 = Image::docker("two");
    registry.put_image("team/app", &schema2);
    registry.retag("team/app", "v2", schema2.digest());
    let home = Home::plain(&[&registry.host()]);

    for (tag, digest) in [("v1", image.digest()), ("v2", schema2.digest())] {
        let reference = format!("{}/team/app:{tag}", registry.host());
        home.podman_pull(&reference).ok();
        assert_eq!(home.podman_digest(&reference), digest);
    }
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_only_when_it_refuses() {
    if !have(&["skopeo", "podman"]) {
        return;
    }
    let (mirror, registry) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let mirrored = mirror.push_image("app", "v1", "of the mirror");
    let original = registry.push_image("app", "v1", "of the registry");
    let home = Home::mirrored(&[(&registry.host(), &mirror.host())]);
    let reference = format!("{}/app:v1", registry.host());

    assert_eq!(home.skopeo_digest(&reference), mirrored.digest());
    home.podman_pull(&reference).ok();
    assert_eq!(home.podman_digest(&reference), mirrored.digest());
    assert_eq!(registry.requests().len(), 0);

    mirror.delete_tag("app", "v1");
    home.podman_pull(&reference).ok();
    assert_eq!(home.podman_digest(&reference), original.digest());
}

#[test]
fn a_real_registry_takes_our_images_and_retags() {
    if !have(&["docker-registry", "skopeo", "podman"]) {
        return;
    }
    let registry = DockerRegistry::start();
    let first = registry.push_image("team/app", "v1", "one");
    let second = registry.push_index("team/app", "v2", "two", &["amd64", "arm64"]);
    assert!(registry.url().starts_with("http://127.0.0.1:"));
    let home = Home::plain(&[registry.host()]);
    let reference = format!("{}/team/app:v1", registry.host());

    assert_eq!(home.skopeo_digest(&reference), first.digest());
    home.podman_pull(&reference).ok();

    registry.retag("team/app", "v1", "v2");
    assert_eq!(
        registry.get("team/app", "tags/list").json()["tags"].as_array().map(Vec::len),
        Some(2)
    );
    let raw = home.skopeo(&["inspect", "--raw", &format!("docker://{reference}")]).ok();
    assert_eq!(raw.stdout.as_bytes(), second.manifest.blob.bytes);
}

#[test]
fn a_real_registry_behind_tls_takes_only_our_tokens() {
    if !have(&["docker-registry", "skopeo", "podman"]) {
        return;
    }
    let authority = Authority::new();
    let tls = authority.issue(&["127.0.0.1"]).server();
    let tokens = TokenServer::start(Some(tls));
    tokens.add_user("reader", "correct", &["team/"]);
    let registry = DockerRegistry::start_with_tokens(&authority, &tokens);
    let image = registry.push_image("team/app", "v1", "one");
    let home = Home::new("").trust(&authority.ca_pem);
    let reference = format!("{}/team/app:v1", registry.host());

    let inspect = ["inspect", &format!("docker://{reference}")];
    home.skopeo(&inspect).failed_with("requested access to the resource is denied");
    home.log_in(registry.host(), "reader", "wrong");
    home.skopeo(&inspect).failed_with("unauthorized");
    home.log_in(registry.host(), "reader", "correct");
    assert_eq!(home.skopeo_digest(&reference), image.digest());
    home.podman_pull(&reference).ok();

    Home::new("").skopeo(&inspect).failed_with("x509");
}
