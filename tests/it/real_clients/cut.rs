//! An image of 50 layers through connections that break at random places, between immutag and the
//! registry, or between the client and immutag: it arrives, and every byte is right.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::apart::apart;
use crate::support::clients::Home;
use crate::support::containerd::{self, Containerd};
use crate::support::content::{Image, sha256};
use crate::support::immutag::Immutag;
use crate::support::process::{Ran, have};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tcp_proxy::{TcpProxy, Trouble};

const REGISTRY: &str = "registry.example";
const REPOSITORY: &str = "team/app";
const LAYERS: usize = 50;

/// The largest layers have so many bytes.
const LARGEST: usize = 800 << 10;

/// How often a person would pull again.
const ATTEMPTS: usize = 10;

/// Where the connections break.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Upstream,
}

impl Side {
    /// Where each connection breaks.
    fn trouble(self, seed: u64) -> Trouble {
        match self {
            // These clients do not resume, and some begin all layers anew: later connections
            // last longer, or it would never come.
            Self::Client => Trouble::Chance { seed, most: LARGEST / 2, more: LARGEST / 4 },
            // What is larger than this comes in pieces, or never.
            Self::Upstream => Trouble::Chance { seed, most: LARGEST * 7 / 8, more: 0 },
        }
    }

    /// How many connections must have broken for a pull to prove anything.
    fn least_cuts(self) -> usize {
        match self {
            Self::Client => 1,
            Self::Upstream => 10,
        }
    }
}

struct Stage {
    image: Image,
    immutag: Immutag,
    proxy: TcpProxy,
    side: Side,
    _registry: ScriptedRegistry,
}

impl Stage {
    #[expect(clippy::print_stdout, reason = "a failure is a seed to replay")]
    fn new(side: Side) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let seed = u64::from(now.subsec_nanos());
        println!("seed {seed}");
        let registry = ScriptedRegistry::start();
        // The small ones first: clients that copy layer upon layer have less to do.
        let layer_size =
            |number: usize| if number < 40 { 200 << 10 } else { LARGEST >> (number % 4) };
        let image = Image::layered("cut", &(0..LAYERS).map(layer_size).collect::<Vec<_>>());
        registry.put_image(REPOSITORY, &image);
        registry.retag(REPOSITORY, "1.0.0", image.digest());
        let start =
            |url: &str| Setup::new().upstream(REGISTRY, url).every_tag("hold", "1h").start();
        let (immutag, proxy) = match side {
            Side::Client => {
                let immutag = start(&registry.url());
                let proxy = TcpProxy::start(immutag.addresses().direct);
                (immutag, proxy)
            }
            Side::Upstream => {
                let proxy = TcpProxy::start(registry.address());
                (start(&format!("http://{}", proxy.address)), proxy)
            }
        };
        let stage = Self { image, immutag, proxy, side, _registry: registry };
        stage.proxy.trouble(side.trouble(seed));
        stage
    }

    /// Where clients go.
    fn address(&self) -> SocketAddr {
        match self.side {
            Side::Client => self.proxy.address,
            Side::Upstream => self.immutag.addresses().direct,
        }
    }

    fn reference(&self) -> String {
        format!("{}/{REGISTRY}/{REPOSITORY}:1.0.0", self.address())
    }

    /// Pulls until it succeeds.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "how often it took tells of the retries inside")]
    fn arrives(&self, pull: impl Fn() -> Ran) {
        for attempt in 1..=ATTEMPTS {
            let ran = pull();
            if ran.status.success() {
                println!("arrived at attempt {attempt} after {} cuts", self.proxy.cuts());
                let (cuts, least) = (self.proxy.cuts(), self.side.least_cuts());
                assert!(cuts >= least, "{cuts} cuts prove nothing");
                return;
            }
            println!("attempt {attempt}: {}", ran.stderr.lines().last().unwrap_or_default());
        }
        panic!("it did not arrive within {ATTEMPTS} attempts:\n{}", self.immutag.log());
    }
}

fn skopeo_copies(side: Side) {
    if !have(&["skopeo"]) {
        return;
    }
    let mut stage = Stage::new(side);
    let home = Home::plain(&[&stage.address().to_string()]);
    let folder = home.path().join("copy");
    let (from, to) =
        (format!("docker://{}", stage.reference()), format!("dir:{}", folder.display()));
    stage.arrives(|| home.skopeo(&["copy", "--all", "--preserve-digests", &from, &to]));
    let manifest = std::fs::read(folder.join("manifest.json")).expect("it was copied");
    assert_eq!(manifest, stage.image.manifest.blob.bytes);
    for blob in stage.image.layers.iter().chain([&stage.image.config]) {
        let copied = std::fs::read(folder.join(&blob.digest[7..])).expect("it was copied");
        assert_eq!(sha256(&copied), blob.digest);
    }
    stage.immutag.assert_alive_and_clean();
}

fn podman_pulls(side: Side) {
    if !have(&["podman"]) {
        return;
    }
    let mut stage = Stage::new(side);
    let home = Home::plain(&[&stage.address().to_string()]);
    let reference = stage.reference();
    stage.arrives(|| home.podman_pull(&reference));
    assert_eq!(home.podman_digest(&reference), stage.image.digest());
    let format = "{{range .RootFS.Layers}}{{.}} {{end}}";
    let inspected = home.podman(&["image", "inspect", "--format", format, &reference]).ok();
    // The layers are not compressed: their digests are those of what is in them.
    let layers: Vec<_> = stage.image.layers.iter().map(|layer| layer.digest.as_str()).collect();
    assert_eq!(inspected.stdout.split_whitespace().collect::<Vec<_>>(), layers);
    stage.immutag.assert_alive_and_clean();
}

fn containerd_pulls<T: Fn()>(test: &T, side: Side) {
    if !have(&containerd::PROGRAMS) {
        return;
    }
    apart(test, &[], || {
        let mut stage = Stage::new(side);
        let containerd = Containerd::start("");
        let reference = stage.reference();
        stage.arrives(|| containerd.pull(&reference, &["--plain-http"]));
        let listed = containerd.ctr(&["content", "ls", "--quiet"]).ok().stdout;
        let image = &stage.image;
        let all = image.layers.iter().chain([&image.config, &image.manifest.blob]);
        for blob in all {
            assert!(listed.contains(&blob.digest), "{} is not there", blob.digest);
        }
        stage.immutag.assert_alive_and_clean();
    });
}

#[test]
fn fifty_layers_arrive_at_skopeo_though_the_upstream_breaks_off() {
    skopeo_copies(Side::Upstream);
}

#[test]
fn fifty_layers_arrive_at_skopeo_though_its_own_connections_break_off() {
    skopeo_copies(Side::Client);
}

#[test]
fn fifty_layers_arrive_at_podman_though_the_upstream_breaks_off() {
    podman_pulls(Side::Upstream);
}

#[test]
fn fifty_layers_arrive_at_podman_though_its_own_connections_break_off() {
    podman_pulls(Side::Client);
}

#[test]
fn fifty_layers_arrive_at_containerd_though_the_upstream_breaks_off() {
    let test = fifty_layers_arrive_at_containerd_though_the_upstream_breaks_off;
    containerd_pulls(&test, Side::Upstream);
}

#[test]
fn fifty_layers_arrive_at_containerd_though_its_own_connections_break_off() {
    let test = fifty_layers_arrive_at_containerd_though_its_own_connections_break_off;
    containerd_pulls(&test, Side::Client);
}
