//! What the lock costs on the way of an answer: a locked server beside one without a lock file,
//! both with a ledger in memory. Ratios are to the one without.

use immutag::lockfile::{LockFile, Locked};
use immutag::oci::{ComputedDigest, Reference};

use crate::measure::heading;
use crate::peers::Peer;
use crate::requests::{by_head, by_wrk, measure, push_all, warm};
use crate::stage::support::content::Image;
use crate::stage::support::registry::ScriptedRegistry;
use crate::stage::support::setup::Setup;

/// References of the lock file.
const LOCKED: usize = 10_000;

/// To which of the two the ratios are.
const UNLOCKED: usize = 0;

/// Manifests by tag and by digest, and small blobs.
pub(crate) fn run() {
    let registry = ScriptedRegistry::start();
    let images = push_all(&registry);
    let paths = |of: &dyn Fn(&Image) -> String| -> Vec<String> {
        let path = |(number, image)| format!("/v2/library/app{number}/{}", of(image));
        images.iter().enumerate().map(path).collect()
    };
    let tags = paths(&|_| "manifests/1.0.0".to_owned());
    let digests = paths(&|image| format!("manifests/{}", image.digest()));
    let blobs = paths(&|image| format!("blobs/{}", image.config.digest));
    let setup = || {
        let setup = Setup::new().docker_io(&registry.url()).every_tag("hold", "1h");
        setup.argument("--ledger").argument("memory")
    };
    let locked = setup();
    let lock = locked.file("images.lock", &lock_of(&images));
    let locked = locked.argument("--lock").argument(&lock.display().to_string());
    let peers = [
        Peer::immutag("unlocked", setup(), None),
        Peer::immutag("locked", locked.argument("--locked"), None),
    ];
    for peer in &peers {
        tags.iter().chain(&digests).chain(&blobs).for_each(|path| warm(peer, path, None));
    }
    let title = format!("with a lock file of {LOCKED} references and without");
    heading(&title, &["req/s", "CPU µs", "p99 ms"]);
    measure("by tag, 1", (&peers, UNLOCKED), &by_wrk(1, &tags));
    measure("by tag, 32", (&peers, UNLOCKED), &by_wrk(32, &tags));
    measure("by digest, 32", (&peers, UNLOCKED), &by_wrk(32, &digests));
    measure("blob, 32", (&peers, UNLOCKED), &by_wrk(32, &blobs));
    // wrk would wait for the body that a HEAD's answer announces.
    measure("HEAD by tag, 32", (&peers, UNLOCKED), &|peer| by_head(peer, 32, &tags));
}

/// These images, and others up to the number of references.
fn lock_of(images: &[Image]) -> String {
    let entry = |number: usize| {
        let name = format!("docker.io/library/app{number}:1.0.0");
        let other = || ComputedDigest::of(name.as_bytes(), None).digest();
        let digest =
            images.get(number).map_or_else(other, |it| it.digest().parse().expect("a digest"));
        (name.parse::<Reference>().expect("it is one"), Locked { digest, is_immutable: false })
    };
    LockFile { sources: Vec::new(), images: (0..LOCKED).map(entry).collect() }.to_string()
}
