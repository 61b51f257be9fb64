//! What nobody pulled for long is let go, if that takes nothing from anybody.

use std::path::PathBuf;
use std::time::Duration;

use super::{REGISTRY, place};
use crate::support::content::{Image, Index, Manifest};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::get;
use crate::support::immutag::immutag;
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const DAY: Duration = Duration::from_hours(24);

/// An immutag that holds all of `app:1.0.0`, under a clock of the test's own.
struct Stage {
    registry: ScriptedRegistry,
    image: Image,
    immutag: InProcess,
}

impl Stage {
    fn new(cache: &str) -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a");
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
        let immutag = InProcess::start(setup.tables(&format!("[cache]\n{cache}")));
        let stage = Self { registry, image, immutag };
        stage.pull();
        stage.pull_layer();
        for blob in [&stage.image.config, &stage.image.layers[0]] {
            let held = place(stage.immutag.data_dir(), "held", &blob.digest);
            eventually("it is held", || held.is_file());
        }
        stage.registry.forget_requests();
        stage
    }

    fn pull(&self) {
        assert_eq!(self.immutag.direct_manifest(REGISTRY, "app", "1.0.0").status, 200);
    }

    fn pull_layer(&self) {
        let layer = &self.image.layers[0];
        let direct = self.immutag.addresses().direct;
        let url = format!("http://{direct}/v2/{REGISTRY}/app/blobs/{}", layer.digest);
        assert_eq!(get(&url).body, layer.bytes);
    }

    fn layer(&self) -> PathBuf {
        place(self.immutag.data_dir(), "held", &self.image.layers[0].digest)
    }

    fn config(&self) -> PathBuf {
        place(self.immutag.data_dir(), "held", &self.image.config.digest)
    }

    fn heads(&self) -> usize {
        self.registry.count(&format!("HEAD blobs/{}", self.image.layers[0].digest))
    }

    fn walk_after(&self, days: u32) {
        self.immutag.clock.advance(DAY * days);
        self.immutag.walk();
    }
}

#[test]
fn a_layer_that_nobody_pulled_for_long_is_let_go_while_its_upstream_has_it() {
    let stage = Stage::new("retain-idle = \"90d\"");
    stage.walk_after(89);
    assert!(stage.layer().exists());
    stage.walk_after(2);
    assert!(!stage.layer().exists());
    assert!(stage.config().exists(), "configs stay for ever");
    assert_eq!(stage.heads(), 1);
    // It is in the cache until something else needs the room, and held again when it is pulled.
    stage.walk_after(1);
    assert!(!stage.layer().exists());
    stage.pull_layer();
    eventually("it is held again", || stage.layer().exists());
    assert_eq!(stage.registry.count("GET blobs/"), 0);
}

#[test]
fn a_layer_that_somebody_pulls_stays() {
    let stage = Stage::new("retain-idle = \"90d\"");
    stage.immutag.clock.advance(DAY * 80);
    stage.pull_layer();
    stage.walk_after(80);
    assert!(stage.layer().exists());
    assert_eq!(stage.heads(), 0);
}

#[test]
fn a_layer_that_its_upstream_has_no_more_stays() {
    let stage = Stage::new("retain-idle = \"90d\"");
    stage.registry.delete("app", &stage.image.layers[0].digest);
    stage.walk_after(100);
    assert!(stage.layer().exists());
    assert_eq!(stage.heads(), 1, "it was asked for");
}

#[test]
fn nothing_of_a_contested_pin_is_let_go() {
    let stage = Stage::new("retain-idle = \"90d\"");
    stage.registry.push_image("app", "1.0.0", "b");
    stage.pull();
    stage.immutag.wait_for_event("conflict");
    stage.walk_after(100);
    assert!(stage.layer().exists());
}

#[test]
fn what_no_pin_needs_any_more_is_let_go_whatever_its_upstream_has() {
    let stage = Stage::new("retain-idle = \"90d\"");
    let data_dir = stage.immutag.data_dir().display().to_string();
    let key = format!("{REGISTRY}/app:1.0.0");
    let why = ["--reason", "we left it", "--data-dir", &data_dir];
    immutag(&[&["ledger", "forget", &key], &why[..]].concat()).ok();
    stage.walk_after(80);
    assert!(stage.layer().exists() && stage.config().exists());
    stage.walk_after(11);
    assert!(!stage.layer().exists() && !stage.config().exists());
    assert_eq!(stage.registry.requests().len(), 0);
}

#[test]
fn without_an_end_and_with_all_platforms_what_a_pin_needs_stays() {
    for cache in ["retain-idle = \"0s\"", "retain = \"all-platforms\""] {
        let stage = Stage::new(cache);
        stage.walk_after(1000);
        assert!(stage.layer().exists(), "{cache}");
    }
}

#[test]
fn a_layer_that_somebody_pulls_while_its_upstream_is_asked_for_it_stays() {
    let stage = Stage::new("retain-idle = \"90d\"");
    let gate = Gate::closed();
    stage.registry.fault("HEAD blobs/", Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let walk = scope.spawn(|| stage.walk_after(100));
        gate.wait_for(1);
        stage.pull_layer();
        gate.open();
        walk.join().unwrap();
    });
    assert!(stage.layer().exists());
}

/// An image, and an attestation of it that no platform runs, in one index.
fn attested(registry: &ScriptedRegistry) -> (Manifest, Image) {
    let images = ["amd64", "unknown"].map(|for_| Image::for_architecture("attested", for_));
    for image in &images {
        registry.put_image("app", image);
    }
    let Index { manifest, images } = Index::of(images.into());
    let text = std::str::from_utf8(&manifest.blob.bytes).expect("it is JSON");
    let text = text.replace(r#""unknown","os":"linux""#, r#""unknown","os":"unknown""#);
    let index = Manifest::new(&manifest.media_type, text);
    registry.put_manifest("app", &index);
    (index, images[1].clone())
}

#[test]
fn attestations_of_what_is_kept_whole_are_not_let_go() {
    for cache in ["", "retain = \"all-platforms\""] {
        let stage = Stage::new(cache);
        let (index, attestation) = attested(&stage.registry);
        stage.registry.retag("app", "2.0.0", index.digest());
        let direct = || stage.immutag.direct_manifest(REGISTRY, "app", "2.0.0");
        assert_eq!(direct().digest(), index.digest());
        if cache.is_empty() {
            // Completed once something stands against it.
            stage.registry.push_image("app", "2.0.0", "other");
            direct();
        }
        let blobs = [&attestation.manifest.blob, &attestation.layers[0]];
        let held = blobs.map(|blob| place(stage.immutag.data_dir(), "held", &blob.digest));
        eventually("it is held", || held.iter().all(|held| held.is_file()));
        stage.walk_after(100);
        assert!(held.iter().all(|held| held.is_file()), "{cache}");
    }
}
