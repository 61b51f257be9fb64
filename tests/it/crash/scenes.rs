//! What is going on when the fault strikes, and what must hold afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::REGISTRY;
use crate::support::content::{Image, Index, Manifest, OCI_MANIFEST};
use crate::support::http::Call;
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::within;

/// The rule of every scene: all tags are held, an index may grow, and each pull asks.
const RULES: &str = "[[rule]]\non-conflict = \"hold\"\nrecheck = \"0s\"\nsettle = \"24h\"\n";

/// One system call at a time: what one thread does in a recording, one does in the run.
const ONE_WORKER: (&str, &str) = ("TOKIO_WORKER_THREADS", "1");

/// With one more a segment has its 64 MiB.
const MANIFESTS_OF_A_SEGMENT: usize = 16;

/// Just what a manifest may have, less its frame.
const LARGEST_BYTES: usize = (4 << 20) - 4096;

/// More than the log reserves ahead.
const LARGE_BYTES: usize = (2 << 20) + 4096;

/// What is done to the ledger while the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// A person approves what the upstream has.
    Approve,
    /// The upstream has moved a pinned tag.
    Conflict,
    /// The pinned index gains a platform within `settle`.
    Extend,
    /// A tag that was never seen.
    FirstSight,
    /// The same with a manifest for which space must be reserved first.
    Reserve,
    /// A first sight fills the segment; the next is written to a new one.
    Rotate,
}

/// A registry, an immutag in front of it, and what clients were told so far.
pub(super) struct Play {
    scene: Scene,
    pub(super) registry: ScriptedRegistry,
    pub(super) immutag: Immutag,
    /// By tag: what the next client may get. One digest, once it was given or approved; several
    /// where nobody was told.
    pub(super) lawful: BTreeMap<String, Vec<String>>,
}

impl Play {
    /// Everything up to the moment in question.
    pub(super) fn new(scene: Scene) -> Self {
        let registry = ScriptedRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(RULES);
        let immutag = setup.env(ONE_WORKER.0, ONE_WORKER.1).start();
        let mut play = Self { scene, registry, immutag, lawful: BTreeMap::new() };
        play.prepare();
        play
    }

    fn prepare(&mut self) {
        self.registry.push_image("app", "0.0.1", "warm");
        self.must_pull("0.0.1");
        match self.scene {
            Scene::FirstSight | Scene::Reserve => {}
            Scene::Conflict | Scene::Approve => {
                self.registry.push_image("app", "1.0.0", "a");
                self.must_pull("1.0.0");
                self.registry.push_image("app", "1.0.0", "b");
                if self.scene == Scene::Approve {
                    self.must_pull("1.0.0");
                    self.immutag.wait_for_metric("immutag_events_total", "conflict", 1.0);
                }
            }
            Scene::Extend => {
                self.registry.push_index("app", "1.0.0", "a", &["amd64"]);
                self.must_pull("1.0.0");
            }
            Scene::Rotate => {
                for number in 0..MANIFESTS_OF_A_SEGMENT {
                    let tag = format!("0.1.{number}");
                    self.push_large(&tag, LARGEST_BYTES);
                    self.must_pull(&tag);
                }
            }
        }
    }

    /// What the fault strikes. A tag whose answer does not come may have one pin or the other.
    /// What comes behind the answers is waited for until the fault `has_struck`.
    pub(super) fn act(&mut self, has_struck: impl Fn() -> bool) {
        match self.scene {
            Scene::FirstSight => {
                self.registry.push_image("app", "1.0.0", "a");
                self.pull("1.0.0", &[]);
            }
            Scene::Reserve => {
                self.push_large("1.0.0", LARGE_BYTES);
                self.pull("1.0.0", &[]);
                self.registry.push_image("app", "1.0.1", "a");
                self.pull("1.0.1", &[]);
            }
            Scene::Rotate => {
                self.push_large("1.0.0", LARGEST_BYTES);
                self.pull("1.0.0", &[]);
                for tag in ["1.0.1", "1.0.2"] {
                    self.registry.push_image("app", tag, tag);
                    self.pull(tag, &[]);
                }
            }
            Scene::Conflict => {
                let pinned = self.lawful["1.0.0"].clone();
                self.pull("1.0.0", &pinned);
            }
            Scene::Extend => {
                let grown = Index::new("a", &["amd64", "arm64"]);
                self.registry.put_index("app", &grown);
                self.registry.retag("app", "1.0.0", grown.digest());
                let mut either = self.lawful["1.0.0"].clone();
                either.push(grown.digest().to_owned());
                self.pull("1.0.0", &either);
                // The old one goes on being served while the ledger cannot say whether the new one
                // was written; the next start finds out.
                if self.lawful["1.0.0"] != either[1..] {
                    self.lawful.insert("1.0.0".to_owned(), either);
                }
            }
            Scene::Approve => self.approve(),
        }
        self.let_background_work(has_struck);
    }

    /// What comes right behind a pin: its config is fetched and held.
    fn let_background_work(&self, has_struck: impl Fn() -> bool) {
        let held = || crate::content::files(&self.immutag.data_dir().join("held")).len();
        let before = held();
        within(Duration::from_millis(300), || has_struck() || held() > before);
    }

    fn approve(&mut self) {
        let new = Image::new("b").digest().to_owned();
        let reference = format!("{REGISTRY}/app:1.0.0");
        let told = self.immutag.cli(&[
            "ledger",
            "approve",
            &reference,
            "--digest",
            &new,
            "--reason",
            "a rebuild",
        ]);
        let lawful = self.lawful.get_mut("1.0.0").expect("it was pulled");
        if told.status.success() {
            *lawful = vec![new];
        } else {
            lawful.push(new);
        }
    }

    /// From now on the upstream answers something else for every tag: a pin that was lost shows.
    pub(super) fn move_upstream(&self) {
        let other = Image::new("moved");
        self.registry.put_image("app", &other);
        for tag in self.lawful.keys() {
            self.registry.retag("app", tag, other.digest());
        }
    }

    /// After a restart: every tag has what clients were told of it, or one of what may be where
    /// nobody was told; no tag has a second first sight, and the ledger is sound.
    #[track_caller]
    pub(super) fn assert_nothing_lost(&self, case: &str) {
        for (tag, lawful) in &self.lawful {
            let digest = self.try_pull(tag);
            let digest = digest.unwrap_or_else(|| panic!("{case}: {tag} is not served"));
            let is_lawful = lawful.is_empty() || lawful.contains(&digest);
            assert!(is_lawful, "{case}: {tag} is {digest} now, not one of {lawful:?}");
            assert_eq!(self.try_pull(tag), Some(digest), "{case}: a second digest for {tag}");
        }
        self.immutag.cli(&["ledger", "verify"]).ok();
        let mut first_sights = BTreeSet::new();
        for line in
            self.immutag.cli(&["ledger", "export", "--format", "events"]).ok().stdout.lines()
        {
            let event: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            if event["kind"] == "pinned" {
                let is_first = first_sights.insert(event["key"].to_string());
                assert!(is_first, "{case}: a second first sight: {line}");
            }
        }
        assert!(first_sights.len() >= self.lawful.len(), "{case}: {first_sights:?}");
    }

    #[track_caller]
    fn must_pull(&mut self, tag: &str) {
        let digest = self.try_pull(tag).expect("it is served before the fault");
        self.lawful.insert(tag.to_owned(), vec![digest]);
    }

    /// A pull that a fault may hit: what it gives is the one lawful answer from now on. Without
    /// one, the tag has one of `before` as its pin; if there is none, perhaps nothing.
    fn pull(&mut self, tag: &str, before: &[String]) {
        let lawful = match self.try_pull(tag) {
            Some(digest) => {
                let is_lawful = before.is_empty() || before.contains(&digest);
                assert!(is_lawful, "{tag} was answered with {digest}, not one of {before:?}");
                vec![digest]
            }
            None => before.to_vec(),
        };
        self.lawful.insert(tag.to_owned(), lawful);
    }

    /// The digest of a whole, successful answer.
    pub(super) fn try_pull(&self, tag: &str) -> Option<String> {
        let url = self.immutag.direct(&format!("{REGISTRY}/app/manifests/{tag}"));
        let answer = accepting(Call::new("GET", &url)).try_send().ok()?;
        let is_success = answer.status == 200 && answer.whole;
        is_success.then(|| crate::support::content::sha256(&answer.body))
    }

    fn push_large(&self, tag: &str, size_bytes: usize) {
        let image = Image::new(tag);
        let text = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("it is JSON");
        let open = text.strip_suffix('}').expect("an object");
        let pad = "x".repeat(size_bytes);
        let padded = format!(r#"{open},"annotations":{{"pad":"{pad}"}}}}"#);
        let manifest = Manifest::new(OCI_MANIFEST, padded);
        self.registry.put_image("app", &image);
        self.registry.put_manifest("app", &manifest);
        self.registry.retag("app", tag, manifest.digest());
    }
}
