//! Nothing moves: every client gets every image, by every way in.

use super::stage::{REGISTRY, REPOSITORY, Upstream, Way, is_set};
use crate::support::clients::Home;

fn every_client_pulls_by_every_way(upstream: &Upstream) {
    let image = upstream.push("1.0.0", "a");
    let mut immutag = upstream.immutag("hold", "1h");
    for way in Way::ALL {
        let home = upstream.home(&immutag, way);
        let reference = Upstream::reference(&immutag, way, "1.0.0");
        assert_eq!(home.skopeo_digest(&reference), image.digest(), "{way:?}");
        let raw = home.skopeo(&["inspect", "--raw", &format!("docker://{reference}")]).ok();
        assert_eq!(raw.stdout.as_bytes(), image.manifest.blob.bytes, "{way:?}");
        home.skopeo_copy(&reference).ok();
        home.podman_pull(&reference).ok();
        assert_eq!(home.podman_digest(&reference), image.digest(), "{way:?}");
    }
    // One pin for each name that the registry has here, however many ways lead to it.
    assert!((immutag.metric("immutag_pins", "") - 2.0).abs() < f64::EPSILON);
    assert!(immutag.metric("immutag_cache_hits_total", "blob") >= 4.0);
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

#[test]
fn a_client_that_goes_round_is_seen_at_the_registry() {
    if !is_set() {
        return;
    }
    let upstream = Upstream::plain();
    upstream.push("1.0.0", "a");
    let host = upstream.registry.host();
    let reference = format!("{host}/{REPOSITORY}:1.0.0");
    let immutag = upstream.immutag("hold", "1h");
    immutag.manifest(REGISTRY, REPOSITORY, "1.0.0");
    for client in [Home::skopeo_copy, Home::podman_pull] {
        let before = upstream.strangers().len();
        client(&Home::plain(&[host]), &reference).ok();
        assert!(upstream.strangers().len() > before, "{}", upstream.registry.log());
    }
}

#[test]
fn every_client_pulls_by_every_way_from_a_plain_registry() {
    if is_set() {
        every_client_pulls_by_every_way(&Upstream::plain());
    }
}

#[test]
fn every_client_pulls_by_every_way_from_a_registry_behind_tls_and_tokens() {
    if is_set() {
        every_client_pulls_by_every_way(&Upstream::locked());
    }
}
