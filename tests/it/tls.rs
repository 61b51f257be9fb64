//! Listeners with TLS: real clients, certificates that change, handshakes and frames that no
//! client sends. `faults.md`, H-04, H-06 and O-03.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::support::content::{Blob, Image, noise};
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tls::{Authority, Identity};
use crate::support::wire::Wire;

mod clients;
mod floods;
mod reload;
mod slow;
mod versions;

const REGISTRY: &str = "registry.example";

/// What the listeners of the stage are configured with.
const TLS: &str = "tls = { cert-file = \"server.pem\", key-file = \"server.key\" }";

/// A registry with `app:1.0.0`, which is held, and immutag in front of it, whose listeners show a
/// certificate.
struct Stage {
    registry: ScriptedRegistry,
    image: Image,
    authority: Authority,
    files: Files,
    immutag: Immutag,
}

/// The certificate's files.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Stage {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a");
        let authority = Authority::new();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
        let (setup, files) = with_tls(change(setup), &authority.issue(&["127.0.0.1"]));
        Self { registry, image, authority, files, immutag: setup.start() }
    }

    fn mirror(&self) -> SocketAddr {
        self.immutag.addresses().mirror
    }

    fn direct(&self) -> SocketAddr {
        self.immutag.addresses().direct
    }

    /// `GET`s over TLS, HTTP/1.1.
    #[track_caller]
    fn get(&self, listener: SocketAddr, path: &str) -> Answer {
        self.call("GET", listener, path).send()
    }

    fn call(&self, method: &str, listener: SocketAddr, path: &str) -> Call {
        let url = format!("https://{listener}/v2/{path}");
        accepting(Call::new(method, &url)).trust(Some(self.authority.client()))
    }

    /// A normal pull of the tag and of its layer, through both listeners.
    #[track_caller]
    fn pull(&self) {
        let layer = &self.image.layers[0];
        for (listener, prefix, query) in [
            (self.mirror(), String::new(), format!("?ns={REGISTRY}")),
            (self.direct(), format!("{REGISTRY}/"), String::new()),
        ] {
            let answer = self.get(listener, &format!("{prefix}app/manifests/1.0.0{query}"));
            assert_eq!((answer.status, answer.digest()), (200, self.image.digest()));
            let blob = self.get(listener, &format!("{prefix}app/blobs/{}{query}", layer.digest));
            assert!(blob.status == 200 && blob.whole && blob.body == layer.bytes);
        }
    }

    /// A blob of this size in the registry.
    fn blob(&self, size_bytes: usize) -> Blob {
        let blob = Blob::new(noise("large", size_bytes));
        self.registry.put_blob("app", &blob.digest, blob.bytes.clone());
        blob
    }

    /// It lives, is clean and serves.
    fn finish(mut self) {
        self.pull();
        self.immutag.assert_alive_and_clean();
    }
}

/// Both listeners show this certificate.
fn with_tls(setup: Setup, identity: &Identity) -> (Setup, Files) {
    let certificate = setup.file("server.pem", &identity.certificate_pem);
    let key = setup.file("server.key", &identity.key_pem);
    (setup.mirror(TLS).direct(TLS), Files { certificate, key })
}

/// A TLS connection that offers these versions of HTTP; the handshake comes with the first bytes.
fn connect(address: SocketAddr, client: &Arc<ClientConfig>, versions: &[&str]) -> Wire {
    let mut client = ClientConfig::clone(client);
    client.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).expect("a time-out above 0");
    socket.set_write_timeout(patience).expect("a time-out above 0");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let connection = ClientConnection::new(Arc::new(client), name).expect("a valid configuration");
    Wire::Client(Box::new(StreamOwned::new(connection, socket)))
}
