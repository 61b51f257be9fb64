//! Much at once, too little of everything, and kills: what leaves is right or breaks off, and all
//! that was taken comes back. `faults.md`, P-25, D-04, D-09, D-12, H-05, H-07, H-08, R-01, R-03.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::content::{Blob, noise};
use crate::support::http::{Answer, Call};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::vast::Vast;
use crate::support::wait::{eventually, within};

mod evicted;
mod full;
mod half_written;
mod killed;
mod leaving;
mod limits;
mod many;
mod slow;

const REGISTRY: &str = "registry.example";

/// What was slowed down on purpose may take so long to end; files of blobs stay open for a while.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one thread of a crowd has for its stack.
const STACK: usize = 256 << 10;

/// Tags that begin with `rec-` are recorded, all others held and not asked for again.
const RULES: &str = r#"
[[rule]]
tag = { glob = "rec-*" }
on-conflict = "record"
[[rule]]
on-conflict = "hold"
recheck = "1h"
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

    /// Puts a blob of noise there.
    fn blob(&self, seed: &str, size_bytes: usize) -> Blob {
        let blob = Blob::new(noise(seed, size_bytes));
        self.registry.put_blob("app", &blob.digest, blob.bytes.clone());
        blob
    }

    /// Puts a blob there that nobody holds.
    fn vast(&self, seed: &str, size_bytes: u64) -> Vast {
        let vast = Vast::new(seed, size_bytes);
        self.registry.put_vast("app", &vast);
        vast
    }

    /// The target of a request for a blob on the mirror.
    fn target(digest: &str) -> String {
        format!("/v2/app/blobs/{digest}?ns={REGISTRY}")
    }

    /// A request for a blob on the mirror.
    fn call(&self, digest: &str) -> Call {
        let mirror = self.immutag.addresses().mirror;
        Call::new("GET", &format!("http://{mirror}{}", Self::target(digest)))
    }

    /// `GET`s a blob on the mirror.
    fn pull(&self, digest: &str) -> io::Result<Answer> {
        self.call(digest).try_send()
    }

    /// The whole blob comes, and nothing else.
    #[track_caller]
    fn assert_pulls(&self, blob: &Blob) {
        let answer = self.pull(&blob.digest).unwrap_or_else(|error| panic!("{error}"));
        let size = answer.body.len();
        assert!(answer.status == 200 && answer.whole, "{} {size} {}", answer.status, answer.whole);
        assert!(answer.body == blob.bytes, "other bytes of {}", blob.digest);
    }

    /// Clients of the mirror whose connections are open.
    fn connections(&self) -> f64 {
        self.immutag.metric("immutag_connections", "mirror")
    }

    /// Waits until so many clients of the mirror are there.
    #[track_caller]
    fn wait_for_clients(&self, count: usize) {
        let count = f64::from(u32::try_from(count).expect("a small number"));
        eventually("all clients at the mirror", || self.connections() >= count);
    }

    /// The files of blobs that are being fetched.
    fn staged(&self) -> Vec<String> {
        crate::content::files(&self.immutag.data_dir().join("cache/staged"))
    }

    /// The files of stored blobs.
    fn cached(&self) -> Vec<String> {
        crate::content::files(&self.immutag.data_dir().join("cache/blobs"))
    }

    /// Nobody is there any more, nothing is being fetched, and all descriptors are back.
    #[track_caller]
    fn finish(&mut self) {
        let is_left = within(PATIENCE, || self.connections() < 0.5);
        assert!(is_left, "{} connections stay open", self.connections());
        eventually("the end of all fetches", || self.staged().is_empty());
        self.immutag.assert_alive_and_clean_within(PATIENCE);
    }
}

/// Runs `act` in so many threads at once; what each gave.
fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let act = &act;
    std::thread::scope(|scope| {
        let spawn = |number| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || act(number)).expect("a thread")
        };
        let threads: Vec<_> = (0..count).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    })
}

/// A connection on which these bytes were sent, and of which nothing is read; its side buffers
/// next to nothing.
fn begin(to: SocketAddr, bytes: &str) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
    connect(&socket, &to).expect("the listener accepts");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time above 0");
    stream.write_all(bytes.as_bytes()).expect("a few bytes are taken");
    stream
}

/// The head of a `GET`.
fn request(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

/// Whether the long forms are wanted.
fn is_long() -> bool {
    std::env::var_os("IMMUTAG_TEST_LONG").is_some()
}

/// What is not tested, where the machine has not what it takes.
#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
fn skip(why: &str) {
    let test = std::thread::current();
    eprintln!("SKIPPED {}: {why}", test.name().unwrap_or("a test"));
}
