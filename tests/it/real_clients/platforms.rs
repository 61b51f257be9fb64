//! An index: real clients pick their platform of what the tag is pinned to, or take all of it.

use super::stage::{REPOSITORY, Upstream, Way, is_set};
use crate::support::content::Index;
use crate::support::immutag::Immutag;

const TAG: &str = "2.0.0";

fn push(upstream: &Upstream, seed: &str) -> Index {
    upstream.registry.push_index(REPOSITORY, TAG, seed, &["amd64", "arm64"])
}

/// All of the index by skopeo, both platforms by podman.
fn every_platform_comes(upstream: &Upstream, immutag: &Immutag, index: &Index) {
    for way in Way::ALL {
        let reference = Upstream::reference(immutag, way, TAG);
        let home = upstream.home(immutag, way);
        let raw = home.skopeo(&["inspect", "--raw", &format!("docker://{reference}")]).ok();
        assert_eq!(raw.stdout.as_bytes(), index.manifest.blob.bytes, "{way:?}");
        home.skopeo_copy(&reference).ok();
        for image in &index.images {
            let home = upstream.home(immutag, way);
            home.podman_pull_for(&image.architecture, &reference).ok();
            let inspect = ["image", "inspect", "--format", "{{.Architecture}} {{.Id}}", &reference];
            let inspected = home.podman(&inspect).ok();
            let id = image.config.digest.trim_start_matches("sha256:");
            assert_eq!(inspected.stdout.trim(), format!("{} {id}", image.architecture), "{way:?}");
        }
    }
}

fn an_index_is_held(upstream: &Upstream) {
    let mut immutag = upstream.immutag("hold", "0s");
    let first = push(upstream, "a");
    every_platform_comes(upstream, &immutag, &first);
    push(upstream, "b");
    for way in Way::ALL {
        let reference = Upstream::reference(&immutag, way, TAG);
        assert_eq!(upstream.home(&immutag, way).skopeo_digest(&reference), first.digest());
    }
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 2.0);
    every_platform_comes(upstream, &immutag, &first);
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

#[test]
fn a_held_index_gives_each_platform_and_the_whole_as_first_seen() {
    if is_set() {
        an_index_is_held(&Upstream::plain());
    }
}
