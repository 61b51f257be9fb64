//! The registry is down: what was pinned goes on, what was recorded is given with a warning.

use std::path::Path;

use super::stage::{REGISTRY, REPOSITORY, Upstream, Way, is_set};
use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::immutag::Immutag;
use crate::support::wait::eventually;

const TAG: &str = "1.0.0";

fn pulls(home: &Home, reference: &str, image: &Image) {
    assert_eq!(home.skopeo_digest(reference), image.digest());
    home.skopeo_copy(reference).ok();
    home.podman_pull(reference).ok();
    assert_eq!(home.podman_digest(reference), image.digest());
}

/// Pulls by every way, with the registry up and then with the registry down.
fn goes_on(reaction: &str) -> (Immutag, Image) {
    let mut upstream = Upstream::plain();
    let image = upstream.push(TAG, "a");
    let mut immutag = upstream.immutag(reaction, "0s");
    for way in Way::ALL {
        let reference = Upstream::reference(&immutag, way, TAG);
        pulls(&upstream.home(&immutag, way), &reference, &image);
    }
    if reaction == "record" {
        immutag.wait_for_metric("immutag_events_total", "observed", 2.0);
    }
    upstream.registry.stop();
    for way in Way::ALL {
        let reference = Upstream::reference(&immutag, way, TAG);
        pulls(&upstream.home(&immutag, way), &reference, &image);
    }
    if matches!(reaction, "hold" | "block") {
        // What a pin needs is held, after the replies, and outlives cache and process.
        for blob in image.layers.iter().chain([&image.config]) {
            let hex = blob.digest.trim_start_matches("sha256:");
            let held = immutag.data_dir().join("held/sha256").join(&hex[..2]).join(hex);
            eventually("a blob is held", || held.is_file());
        }
        let links = immutag.data_dir().join("held/links");
        eventually("its links are held", || count_files(&links) >= 4);
        std::fs::remove_dir_all(immutag.data_dir().join("cache")).expect("our own directory");
        immutag.restart();
        // By both names: the bytes are held once, the links by name.
        for way in [Way::Mirror, Way::DirectByReference] {
            let reference = Upstream::reference(&immutag, way, TAG);
            pulls(&upstream.home(&immutag, way), &reference, &image);
        }
    }
    (immutag, image)
}

fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).map(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.and_then(|entries| entries).unwrap_or_default();
    let count = |path: &Path| if path.is_dir() { count_files(path) } else { 1 };
    entries.iter().map(|entry| count(&entry.path())).sum()
}

#[test]
fn a_held_tag_goes_on_without_its_registry_and_without_the_cache() {
    if is_set() {
        goes_on("hold").0.assert_alive_and_clean();
    }
}

#[test]
fn a_blocked_tag_without_conflict_goes_on_without_its_registry() {
    if is_set() {
        goes_on("block").0.assert_alive_and_clean();
    }
}

#[test]
fn a_tag_under_alert_goes_on_without_its_registry_with_a_warning() {
    if is_set() {
        let (mut immutag, image) = goes_on("alert");
        let answer = immutag.manifest(REGISTRY, REPOSITORY, TAG);
        assert_eq!((answer.status, answer.digest()), (200, image.digest()));
        let warning = answer.field("Warning").expect("a warning").to_owned();
        assert!(warning.contains("unverified now"), "{warning}");
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_recorded_tag_is_answered_as_last_verified_with_a_warning() {
    if is_set() {
        let (mut immutag, image) = goes_on("record");
        let answer = immutag.manifest(REGISTRY, REPOSITORY, TAG);
        assert_eq!((answer.status, answer.digest()), (200, image.digest()));
        let warning = answer.field("Warning").expect("a warning").to_owned();
        assert!(warning.contains("the last verified answer"), "{warning}");
        immutag.assert_alive_and_clean();
    }
}
