//! Networks that refuse, swallow, cut and spoil; registries that are busy or down; names without
//! addresses. `faults.md`, N-01 to N-04.
//!
//! Whatever it is, a tag that is not known yet is refused in words and in time, and what is pinned
//! or cached goes on.

use crate::support::content::{Blob, Image, noise};
use crate::support::http::Answer;
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tcp_proxy::{TcpProxy, Trouble};
use crate::support::tls::Authority;
use crate::support::wait::eventually;

mod busy;
mod names;
mod wire;

const REGISTRY: &str = "registry.example";

/// Short times, so that every limit is met here.
const TIMES: &str =
    "connect-timeout = \"1s\"\nheader-timeout = \"1s\"\nbody-idle-timeout = \"1s\"\n";

/// Times that a busy machine may not keep even without trouble. The whole of a manifest has three
/// times the first two, and the third.
const HASTY: &str =
    "connect-timeout = \"300ms\"\nheader-timeout = \"300ms\"\nbody-idle-timeout = \"300ms\"\n";

const RULES: &str = "[[rule]]\nrepository = \"blocked\"\non-conflict = \"block\"\nrecheck = \"0s\"\n\
                     [[rule]]\nrepository = \"recorded\"\non-conflict = \"record\"\n\
                     [[rule]]\non-conflict = \"hold\"\nrecheck = \"0s\"\n";

/// A registry behind a proxy that makes trouble, and immutag, which has pulled
/// `held`, `blocked` and `recorded` through it, each whole.
struct Stage {
    registry: ScriptedRegistry,
    proxy: TcpProxy,
    known: Vec<(&'static str, Image)>,
    immutag: Immutag,
}

impl Stage {
    fn plain() -> Self {
        Self::new(ScriptedRegistry::start(), |setup, at| {
            setup.upstream_with(REGISTRY, &format!("http://{at}"), TIMES)
        })
    }

    /// The same with little time.
    fn hasty() -> Self {
        Self::new(ScriptedRegistry::start(), |setup, at| {
            setup.upstream_with(REGISTRY, &format!("http://{at}"), HASTY)
        })
    }

    fn encrypted() -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["127.0.0.1"]);
        Self::new(ScriptedRegistry::start_with(Some(identity.server())), |setup, at| {
            let lines = format!("{}{TIMES}", setup.ca_file(&authority.ca_pem));
            setup.upstream_with(REGISTRY, &format!("https://{at}"), &lines)
        })
    }

    fn new(registry: ScriptedRegistry, upstream: impl FnOnce(Setup, &str) -> Setup) -> Self {
        let proxy = TcpProxy::start(registry.address());
        let setup = upstream(Setup::new(), &proxy.address.to_string()).rules(RULES);
        let known = ["held", "blocked", "recorded"]
            .map(|name| (name, registry.push_image(name, "1.0.0", name)))
            .to_vec();
        let stage = Self { registry, proxy, known, immutag: setup.start() };
        for (name, image) in &stage.known {
            let pull = || stage.immutag.manifest(REGISTRY, name, "1.0.0");
            eventually("the first pull", || pull().digest() == image.digest());
            // All of it: a held tag that is not whole asks its upstream before the reply.
            for blob in image.layers.iter().chain([&image.config]) {
                eventually("the first blobs", || stage.blob(name, blob).body == blob.bytes);
            }
        }
        stage.registry.push_image("cold", "1.0.0", "cold");
        // What a client got may be on its way to the disk.
        stage.immutag.wait_for_metric("immutag_fills_total", "complete", 6.0);
        stage
    }

    fn blob(&self, repository: &str, blob: &Blob) -> Answer {
        let path = format!("{repository}/blobs/{}?ns={REGISTRY}", blob.digest);
        crate::support::http::get(&self.immutag.mirror(&path))
    }

    /// A blob in the registry that nobody has pulled.
    fn cold_blob(&self, size_bytes: usize) -> Blob {
        let blob = Blob::new(noise("cold", size_bytes));
        self.registry.put_blob("cold", &blob.digest, blob.bytes.clone());
        blob
    }

    /// What is known goes on as it is. Where the upstream cannot be asked, those that ask it before
    /// the reply say so.
    #[track_caller]
    fn assert_known_goes_on(&self, is_asked: bool) {
        for (name, image) in &self.known {
            let answer = self.immutag.manifest(REGISTRY, name, "1.0.0");
            assert_eq!((answer.status, answer.digest()), (200, image.digest()), "{name}");
            let warning = answer.field("warning").unwrap_or_default();
            let warns = warning.starts_with("299 - \"immutag: ");
            assert!(is_asked || warns == (*name != "held"), "{name}: {warning}");
            let layer = &image.layers[0];
            let blob = self.blob(name, layer);
            assert!(blob.status == 200 && blob.whole && blob.body == layer.bytes, "{name}");
        }
    }

    /// A tag that is not known is refused with one of these, on both listeners.
    #[track_caller]
    fn assert_cold_is_refused(&self, expected: &[(u16, &str)]) {
        for answer in [
            self.immutag.direct_manifest(REGISTRY, "cold", "1.0.0"),
            self.immutag.manifest(REGISTRY, "cold", "1.0.0"),
        ] {
            let reason = answer.field("immutag-reason").unwrap_or_default();
            assert!(expected.contains(&(answer.status, reason)), "{} {reason}", answer.status);
            assert!(answer.whole && !answer.text().contains("127.0.0.1"), "{}", answer.text());
        }
    }

    /// The trouble is over: what was refused comes, and nothing is left of it.
    #[track_caller]
    fn recovers(mut self) {
        eventually("the cold tag", || {
            self.immutag.manifest(REGISTRY, "cold", "1.0.0").status == 200
        });
        self.immutag.assert_alive_and_clean();
    }
}

/// In the middle of an answer's head, and of a manifest behind one.
const IN_HEAD: usize = 20;
const IN_BODY: usize = 400;

/// No answer in time, or none at all.
const FAILS: [(u16, &str); 2] = [(504, "UPSTREAM_TIMEOUT"), (502, "UPSTREAM_UNAVAILABLE")];

/// Goes through one trouble of the wire and out of it again; a connection without a body may be
/// over before it begins.
#[track_caller]
fn survives(stage: Stage, trouble: Trouble, expected: &[(u16, &str)]) {
    use Trouble::{Alert, Chance, Drip, Flip, HalfClose, Reset, Stall};
    let is_late = match trouble {
        Alert(at) | Drip(at) | Flip(at) | HalfClose(at) | Reset(at) | Stall(at) => at >= IN_BODY,
        Chance { .. } | Trouble::None => true,
    };
    stage.proxy.trouble(trouble);
    stage.assert_cold_is_refused(expected);
    stage.assert_known_goes_on(is_late);
    stage.proxy.trouble(Trouble::None);
    stage.recovers();
}
