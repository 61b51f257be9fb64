//! What upstreams send, and what clients ask for, that is wrong: it never becomes a pin, is never
//! cached and never completes; a pin goes on being served.

use serde_json::Value;

use crate::support::content::{Blob, Image, Manifest};
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

mod blobs;
mod delivery;
mod digests;
mod fills;
mod frames;
mod manifests;
mod negotiation;
mod passing;
mod ranges;
mod tags;

const REGISTRY: &str = "registry.example";

/// Tags that begin with `rec-`, `block-` or `alert-` have that reaction, all others `hold`; every
/// upstream is asked each time.
const RULES: &str = r#"
[[rule]]
tag = { glob = "rec-*" }
on-conflict = "record"
[[rule]]
tag = { glob = "block-*" }
on-conflict = "block"
recheck = "0s"
[[rule]]
tag = { glob = "alert-*" }
on-conflict = "alert"
recheck = "0s"
[[rule]]
on-conflict = "hold"
recheck = "0s"
"#;

/// A registry and immutag in front of it.
struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = ScriptedRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(RULES);
        let immutag = change(setup).start();
        Self { registry, immutag }
    }

    /// Puts a manifest there under the tag `app:TAG`.
    fn put(&self, tag: &str, manifest: &Manifest) {
        self.registry.put_manifest("app", manifest);
        self.registry.retag("app", tag, manifest.digest());
    }

    /// Pins `app:TAG` to a small image.
    fn pin(&self, tag: &str) -> Image {
        let image = self.registry.push_image("app", tag, tag);
        assert_eq!(self.direct(tag).digest(), image.digest(), "{tag}");
        image
    }

    /// `GET`s `app:TAG` (or `app@…`) on the mirror.
    fn mirror(&self, tag: &str) -> Answer {
        self.immutag.manifest(REGISTRY, "app", tag)
    }

    /// `GET`s `app:TAG` (or `app@…`) on the direct listener.
    fn direct(&self, tag: &str) -> Answer {
        self.immutag.direct_manifest(REGISTRY, "app", tag)
    }

    /// `HEAD`s `app:TAG` on the direct listener.
    fn head(&self, tag: &str) -> Answer {
        let url = self.immutag.direct(&format!("{REGISTRY}/app/manifests/{tag}"));
        accepting(Call::new("HEAD", &url)).send()
    }

    /// Puts a blob of noise there.
    fn blob(&self, seed: &str, size_bytes: usize) -> Blob {
        let blob = Blob::new(crate::support::content::noise(seed, size_bytes));
        self.registry.put_blob("app", &blob.digest, blob.bytes.clone());
        blob
    }

    /// The URL of a blob on the mirror.
    fn blob_url(&self, digest: &str) -> String {
        self.immutag.mirror(&format!("app/blobs/{digest}?ns={REGISTRY}"))
    }

    /// `GET`s a blob on the mirror.
    fn pull(&self, digest: &str) -> Answer {
        Call::new("GET", &self.blob_url(digest)).send()
    }

    /// The pull of a blob ends with a broken connection, never as if it were whole.
    #[track_caller]
    fn assert_broken(&self, digest: &str) {
        if let Ok(answer) = Call::new("GET", &self.blob_url(digest)).try_send() {
            let (status, size) = (answer.status, answer.body.len());
            assert!(!answer.whole, "a broken blob was complete: {status}, {size} bytes");
        }
    }

    /// The files of the cache's blobs, staged ones too.
    fn cached(&self) -> Vec<String> {
        let cache = self.immutag.data_dir().join("cache");
        let mut names = files(&cache.join("blobs"));
        names.extend(files(&cache.join("staged")));
        names
    }

    /// How many tags have a pin.
    fn pins(&self) -> f64 {
        self.immutag.metric("immutag_pins", "")
    }

    /// After the case: it lives, is clean, told nobody where its upstream is, and its ledger holds
    /// against a restart.
    fn finish(mut self) {
        self.immutag.assert_alive_and_clean();
        let pins = self.pins();
        self.immutag.restart();
        assert!((self.pins() - pins).abs() < f64::EPSILON, "{} pins of {pins}", self.pins());
    }

    /// A refusal with this status, code and reason, in the specification's envelope, that tells
    /// nothing of our network. Gives its detail.
    #[track_caller]
    fn assert_refused(&self, answer: &Answer, status: u16, code: &str, reason: &str) -> Value {
        let text = answer.text();
        assert_eq!(answer.status, status, "{text}");
        let error = answer.json()["errors"][0].clone();
        assert_eq!(error["code"], code, "{text}");
        assert_eq!(error["detail"]["reason"], reason, "{text}");
        assert!(error["message"].as_str().is_some_and(|words| words.starts_with("immutag: ")));
        assert_eq!(answer.field("immutag-reason"), Some(reason));
        assert!(answer.whole);
        let folder = self.immutag.data_dir().to_string_lossy().into_owned();
        for secret in [self.registry.host(), "127.0.0.1".to_owned(), folder] {
            assert!(!text.contains(&secret), "{secret} got out: {text}");
        }
        error["detail"].clone()
    }

    /// The upstream's answer broke the rule `sub_reason`.
    #[track_caller]
    fn assert_invalid(&self, answer: &Answer, sub_reason: &str) {
        let detail = self.assert_refused(answer, 502, "MANIFEST_INVALID", "UPSTREAM_INVALID");
        assert_eq!(detail["sub-reason"], sub_reason, "{}", answer.text());
    }
}

/// Waits until the blob lies whole in the cache and nothing is staged any more.
#[track_caller]
fn eventually_cached(stage: &Stage, blob: &Blob) {
    let hex = blob.digest.split_once(':').expect("a digest has an algorithm").1;
    crate::support::wait::eventually("the blob in the cache", || {
        let cached = stage.cached();
        cached.iter().any(|name| name.ends_with(hex))
            && !cached.iter().any(|name| name.contains("/staged/"))
    });
}

/// The names of all files below a directory.
pub(crate) fn files(directory: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("our own directory").path());
    paths
        .flat_map(|path| {
            if path.is_dir() { files(&path) } else { vec![path.to_string_lossy().into_owned()] }
        })
        .collect()
}
