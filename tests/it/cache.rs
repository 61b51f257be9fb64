//! The store in a running immutag: damage, power cuts, quota, and the commands of a person.

#![expect(clippy::unwrap_used, reason = "what is not there must fail the test")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use crate::support::content::{Blob, Image, noise};
use crate::support::http::{Answer, get};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

const SIZE: usize = 100_000;

struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
}

impl Stage {
    fn start(cache: &str) -> Self {
        let registry = ScriptedRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
        let immutag = setup.tables(&format!("[cache]\n{cache}")).start();
        Self { registry, immutag }
    }

    fn blob(&self, seed: &str) -> Blob {
        let blob = Blob::new(noise(seed, SIZE));
        self.registry.put_blob("app", &blob.digest, blob.bytes.clone());
        blob
    }

    fn get(&self, digest: &str) -> Answer {
        get(&self.immutag.mirror(&format!("app/blobs/{digest}?ns={REGISTRY}")))
    }

    #[track_caller]
    fn pull(&self, blob: &Blob) {
        let answer = self.get(&blob.digest);
        assert!(answer.status == 200 && answer.whole && answer.body == blob.bytes);
    }

    /// Pulls an image whose tag is held, until all of it is.
    #[track_caller]
    fn pull_image(&self, tag: &str) -> Image {
        let image = self.registry.push_image("app", tag, tag);
        assert_eq!(self.immutag.manifest(REGISTRY, "app", tag).digest(), image.digest());
        for part in image.layers.iter().chain([&image.config]) {
            self.pull(part);
        }
        for part in image.layers.iter().chain([&image.config]) {
            eventually("a blob is held", || self.file("held", &part.digest).is_file());
        }
        image
    }

    fn file(&self, root: &str, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.immutag.data_dir().join(root).join("sha256").join(&hex[..2]).join(hex)
    }

    fn cached(&self, blob: &Blob) -> PathBuf {
        self.file("cache/blobs", &blob.digest)
    }

    fn wait_until_stored(&self, blob: &Blob) {
        eventually("the blob is stored", || self.cached(blob).is_file());
    }

    fn fetches(&self, blob: &Blob) -> usize {
        self.registry.count(&format!("GET blobs/{}", blob.digest))
    }

    /// What a command prints, a line of JSON a piece.
    #[track_caller]
    fn asks(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let arguments = [&["cache"], arguments, &["--json"]].concat();
        let ran = self.immutag.cli(&arguments).ok();
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Turns a bit, where the length stays as it was.
fn flip(path: PathBuf) {
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_blob_of_a_pin_is_fetched_anew_and_held_anew() {
    let mut stage = Stage::start("");
    let image = stage.pull_image("1.0.0");
    stage.immutag.terminate();
    let layer = image.layers[0].clone();
    stage.immutag.restart();
    stage.immutag.wait_for_metric("immutag_cache_held_bytes", "", 1.0);
    fs::write(stage.file("held", &layer.digest), "short").unwrap();
    stage.pull(&layer);
    assert_eq!(stage.fetches(&layer), 2);
    // The tag is pulled as always, and what came anew is held again.
    assert_eq!(stage.immutag.manifest(REGISTRY, "app", "1.0.0").digest(), image.digest());
    stage.pull(&layer);
    eventually("it is held again", || {
        stage.pull(&layer);
        fs::read(stage.file("held", &layer.digest)).is_ok_and(|held| held == layer.bytes)
    });
    assert!(stage.immutag.metric("immutag_cache_damaged_total", "") >= 1.0);
    stage.immutag.wait_for_log("stored content is damaged and was dropped");
}

#[test]
fn after_the_machine_went_down_a_flipped_bit_is_not_served() {
    let mut stage = Stage::start("");
    let [good, bad] = ["good", "bad"].map(|seed| stage.blob(seed));
    for blob in [&good, &bad] {
        stage.pull(blob);
        stage.wait_until_stored(blob);
    }
    stage.immutag.kill9();
    // What a power cut would have left.
    flip(stage.cached(&bad));
    let mark = stage.immutag.data_dir().join("cache/boot");
    let text = fs::read_to_string(&mark).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["boot-id"] = "another boot".into();
    fs::write(&mark, json.to_string()).unwrap();
    stage.immutag.restart();
    for blob in [&bad, &good] {
        stage.pull(blob);
    }
    assert_eq!((stage.fetches(&good), stage.fetches(&bad)), (1, 2));
    eventually("nothing is suspect any more", || {
        stage.immutag.metric("immutag_cache_suspect_blobs", "") == 0.0
    });
    stage.immutag.wait_for_log("all content that the machine may have lost was hashed");
    stage.immutag.terminate();
    stage.immutag.restart();
    stage.pull(&bad);
    assert_eq!(stage.fetches(&bad), 2);
}

#[test]
fn the_quota_holds_and_when_pins_fill_it_content_passes_through() {
    let mut stage = Stage::start("max-size = \"350KB\"\nmin-free = \"0\"");
    let blobs: Vec<Blob> = (0..6).map(|n| stage.blob(&n.to_string())).collect();
    for blob in &blobs {
        stage.pull(blob);
        stage.wait_until_stored(blob);
        assert!(stage.immutag.metric("immutag_cache_bytes", "") <= 350_000.0);
    }
    assert!(stage.immutag.metric("immutag_cache_evictions_total", "") >= 3.0);
    stage.pull(&blobs[5]);
    assert_eq!(stage.fetches(&blobs[5]), 1);
    stage.pull(&blobs[0]);
    assert_eq!(stage.fetches(&blobs[0]), 2, "it had made room");
    stage.immutag.restart_with(|setup| setup.env("IMMUTAG__CACHE__MAX_SIZE", "0"));
    eventually("all is gone", || stage.immutag.metric("immutag_cache_blobs", "") == 0.0);
    for _ in 0..2 {
        stage.pull(&blobs[1]);
    }
    assert_eq!(stage.fetches(&blobs[1]), 3);
    stage.immutag.wait_for_metric("immutag_cache_full", "", 1.0);
    let words = "new content passes through uncached";
    assert_eq!(stage.immutag.log().matches(words).count(), 1);
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn the_commands_say_the_same_with_the_server_up_and_down_and_spare_what_is_held() {
    let mut stage = Stage::start("");
    let image = stage.pull_image("1.0.0");
    let blobs: Vec<Blob> = (0..3).map(|n| stage.blob(&n.to_string())).collect();
    for blob in &blobs {
        stage.pull(blob);
        stage.wait_until_stored(blob);
    }
    let listed = |stage: &Stage| {
        let mut digests: Vec<String> = stage
            .asks(&["list"])
            .iter()
            .map(|one| format!("{} {} {}", one["digest"], one["size-bytes"], one["is-held"]))
            .collect();
        digests.sort();
        digests
    };
    let up = listed(&stage);
    let stats = stage.asks(&["stats"]).remove(0);
    assert!(stats["blob-hit-ratio"].is_number() || stats["blob-hit-ratio"].is_null());
    assert_eq!(stats["blobs"], up.len());
    let one = &blobs[0].digest;
    let freed = stage.asks(&["prune", "--digest", one]).remove(0);
    assert_eq!((&freed["blobs"], &freed["bytes"]), (&1.into(), &SIZE.into()));
    assert!(!stage.cached(&blobs[0]).exists());
    stage.pull(&blobs[0]);
    assert_eq!(stage.fetches(&blobs[0]), 2);
    stage.wait_until_stored(&blobs[0]);
    stage.immutag.terminate();

    assert_eq!(listed(&stage), up);
    let held = stage.asks(&["list", "--held"]);
    let is_held = |digest: &str| held.iter().any(|one| one["digest"] == digest);
    assert!(image.layers.iter().all(|layer| is_held(&layer.digest)));
    let dry = stage.asks(&["prune", "--all", "--dry-run"]);
    assert!(stage.cached(&blobs[1]).exists());
    assert_eq!(stage.asks(&["prune", "--all"]), dry);
    assert!(!stage.cached(&blobs[1]).exists());
    assert!(stage.file("held", &image.layers[0].digest).exists());
    assert_eq!(listed(&stage).len(), held.len());
    let ran = stage.immutag.cli(&["cache", "prune"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let ran = stage.immutag.cli(&["cache", "stats", "--table"]).ok();
    assert!(ran.stdout.contains("quota") && ran.stdout.contains("20GiB"), "{}", ran.stdout);

    stage.immutag.restart();
    assert_eq!(stage.immutag.manifest(REGISTRY, "app", "1.0.0").digest(), image.digest());
    for part in image.layers.iter().chain([&image.config]) {
        stage.pull(part);
        assert_eq!(stage.fetches(part), 1);
    }
}

#[test]
fn root_asks_a_server_that_runs_as_another_user() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root may give a directory away");
        return;
    }
    let mut stage = Stage::start("");
    chown(stage.immutag.data_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(stage.asks(&["stats"]).len(), 1);
    stage.immutag.terminate();
    let ran = stage.immutag.cli(&["cache", "stats"]);
    assert_eq!(ran.status.code(), Some(1), "its files would be root's: {ran:?}");
}
