//! The HTTP server against malformed, slow and many clients, and signals. `faults.md`, group H.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::content::Image;
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wire::{Reader, Wire};

mod clients;
mod malformed;
mod signals;

const REGISTRY: &str = "registry.example";

/// A registry with `app:1.0.0`, which is held, and immutag in front of it.
struct Stage {
    registry: ScriptedRegistry,
    image: Image,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a");
        let immutag =
            Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h").start();
        Self { registry, image, immutag }
    }

    /// A normal pull of the tag and of its layer.
    #[track_caller]
    fn pull(&self) {
        let answer = self.immutag.manifest(REGISTRY, "app", "1.0.0");
        assert_eq!((answer.status, answer.digest()), (200, self.image.digest()));
        let layer = &self.image.layers[0];
        let path = format!("app/blobs/{}?ns={REGISTRY}", layer.digest);
        let blob = crate::support::http::get(&self.immutag.mirror(&path));
        assert!(blob.status == 200 && blob.whole && blob.body == layer.bytes);
    }

    /// It lives, is clean, serves, and its ledger holds against a restart.
    fn finish(mut self) {
        self.pull();
        self.immutag.assert_alive_and_clean();
        self.immutag.restart();
        self.pull();
    }
}

/// Sends `bytes` and gives what comes back until the peer closes; the peer has to close, cleanly
/// or not.
#[track_caller]
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut wire = Wire::Plain(TcpStream::connect(address).expect("it listens"));
    wire.socket().set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out above 0");
    let begun = std::time::Instant::now();
    // A server that refuses early may close while we still write.
    let _ = wire.write_all(bytes);
    let rest = Reader::default().rest(&mut wire).bytes;
    assert!(begun.elapsed() < Duration::from_secs(9), "the connection stayed open");
    String::from_utf8_lossy(&rest).into_owned()
}

/// The statuses of the answers in what came back.
fn statuses(text: &str) -> Vec<u16> {
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.filter_map(|head| head.get(..3)?.parse().ok()).collect()
}
