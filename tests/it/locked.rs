//! Held to a lock file: what is in it, and, in locked mode, nothing else.

mod content;
mod hostile;
mod real;
mod start;
mod tags;

use std::fmt::Write as _;

use crate::support::content::Image;
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// A lock file's text: references without their registry, and digests.
fn lock(entries: &[(&str, &str)]) -> String {
    lock_of(REGISTRY, entries)
}

fn lock_of(registry: &str, entries: &[(&str, &str)]) -> String {
    let mut images = String::new();
    for (reference, digest) in entries {
        let comma = if images.is_empty() { "" } else { ",\n" };
        write!(images, "{comma}\"{registry}/{reference}\": {{\"digest\": \"{digest}\"}}")
            .expect("a String takes everything");
    }
    format!("{{\"version\": 1, \"sources\": [], \"images\": {{{images}}}}}")
}

/// A server to be, with a ledger in memory and this lock file.
fn job(setup: Setup, lock: &str) -> Setup {
    let file = setup.file("images.lock", lock);
    let file = file.to_str().expect("a path of ours").to_owned();
    setup.argument("--ledger").argument("memory").argument("--lock").argument(&file)
}

fn locked(registry: &ScriptedRegistry, lock: &str) -> Immutag {
    job(Setup::new().upstream(REGISTRY, &registry.url()), lock).argument("--locked").start()
}

/// Asks the mirror, with `ns`, for what stands behind the repository.
fn ask(immutag: &Immutag, method: &str, path: &str) -> Answer {
    let url = immutag.mirror(&format!("{path}?ns={REGISTRY}"));
    accepting(Call::new(method, &url)).send()
}

/// Asks the direct listener.
fn ask_direct(immutag: &Immutag, method: &str, path: &str) -> Answer {
    accepting(Call::new(method, &immutag.direct(&format!("{REGISTRY}/{path}")))).send()
}

/// It is refused as not in the lock file, in the form of each listener, by HEAD as by GET.
#[track_caller]
fn assert_required(immutag: &Immutag, path: &str) {
    assert_refused(immutag, path, "PIN_REQUIRED");
}

#[track_caller]
fn assert_refused(immutag: &Immutag, path: &str, reason: &str) {
    let head = ask(immutag, "HEAD", path);
    assert_eq!(head.status, 300, "{path}");
    assert!(head.reason.contains(reason), "{path}: {}", head.reason);
    let get = ask(immutag, "GET", path);
    assert_eq!(get.status, 200, "{path}");
    assert!(get.text().contains("application/vnd.immutag.blocked.v1+json"), "{}", get.text());
    assert!(get.text().contains(reason), "{}", get.text());
    let direct = ask_direct(immutag, "GET", path);
    assert!(direct.status >= 400 && direct.text().contains(reason), "{path}: {}", direct.text());
    assert_eq!(ask_direct(immutag, "HEAD", path).status, direct.status, "{path}");
}

/// The image's manifest by this reference, byte for byte, by HEAD as by GET, and all its blobs.
#[track_caller]
fn assert_serves(immutag: &Immutag, repository: &str, reference: &str, image: &Image) {
    let path = format!("{repository}/manifests/{reference}");
    for ask in [ask, ask_direct] {
        let get = ask(immutag, "GET", &path);
        assert_eq!(get.status, 200, "{path}: {}", get.text());
        assert_eq!(get.body, image.manifest.blob.bytes, "{path}");
        let head = ask(immutag, "HEAD", &path);
        assert_eq!((head.status, head.digest()), (200, image.digest()), "{path}");
        assert_eq!(
            ask(immutag, "GET", &format!("{repository}/manifests/{}", image.digest())).status,
            200
        );
        for blob in image.layers.iter().chain([&image.config]) {
            let got = ask(immutag, "GET", &format!("{repository}/blobs/{}", blob.digest));
            assert!(got.status == 200 && got.body == blob.bytes, "{}: {}", blob.digest, got.status);
        }
    }
}

/// Waits until the journal has a line with all of these words.
#[track_caller]
fn wait_for_pull(immutag: &Immutag, words: &[&str]) {
    eventually(&format!("a pull with {words:?}"), || {
        let pulls = immutag.cli(&["pulls"]).ok().stdout;
        pulls.lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}
