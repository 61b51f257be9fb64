//! An answer that is given again is the very same, and the first request after any decision gets
//! what was decided, on connections that were open before.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::content::{DOCKER_MANIFEST, Image, Index, OCI_INDEX, OCI_MANIFEST};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;
use crate::support::wire::{Reader, Wire};

/// A registry with an image and an index, and immutag, which tells of each answer in its log.
struct Stage {
    registry: ScriptedRegistry,
    image: Image,
    index: Index,
    immutag: Immutag,
}

impl Stage {
    fn new(recheck: &str) -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("library/app", "1.0.0", "a");
        let index = registry.push_index("library/multi", "1.0.0", "m", &["arm64", "amd64"]);
        let immutag = Setup::new()
            .docker_io(&registry.url())
            .every_tag("hold", recheck)
            .env("IMMUTAG_LOG", "debug")
            .start();
        Self { registry, image, index, immutag }
    }

    fn mirror(&self) -> Client {
        Client::open(self.immutag.addresses().mirror)
    }

    /// How often an answer was given again that was given before.
    fn again(&self) -> usize {
        self.immutag.log().matches("\"answered again\"").count()
    }

    /// Asks until the answer is one that is given again; the last one.
    #[track_caller]
    fn warm(&self, client: &mut Client, request: &str) -> Seen {
        let before = self.again();
        let first = client.ask(request);
        eventually("an answer is given again", || {
            assert_eq!(client.ask(request), first, "{request}");
            self.again() > before
        });
        client.ask(request)
    }

    fn ledger(&self, arguments: &[&str]) {
        let arguments = [&["ledger"], arguments, &["--reason", "a test"]].concat();
        self.immutag.cli(&arguments).ok();
    }

    /// Changes the configuration, which is in force when this returns.
    #[track_caller]
    fn reload(&self, from: &str, to: &str) {
        let changed = self.immutag.configuration().replace(from, to);
        assert!(changed.contains(to), "{changed}");
        let told = || self.immutag.log().matches("were read again").count();
        let before = told();
        self.immutag.write_configuration(&changed);
        self.immutag.signal(Signal::HUP);
        eventually("the configuration was read again", || told() > before);
    }
}

/// What came back: the head without its date, and the body.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn has(&self, digest: &str) -> bool {
        self.head.contains(&format!("docker-content-digest: {digest}\r\n"))
    }
}

/// A connection that stays open.
struct Client {
    wire: Wire,
    reader: Reader,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out above 0");
        Self { wire: Wire::Plain(socket), reader: Reader::default() }
    }

    /// Sends a request line and fields, each but the last with its line's end.
    #[track_caller]
    fn ask(&mut self, request: &str) -> Seen {
        use std::io::Write as _;
        let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
        let end = if fields.is_empty() { "" } else { "\r\n" };
        let fields = fields.replace('\n', "\r\n");
        let text = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}{end}\r\n");
        self.wire.write_all(text.as_bytes()).expect("it reads");
        let head = self.reader.head(&mut self.wire).expect("an answer").expect("a head");
        let mut fields = head.fields.clone();
        fields.set("Date", None);
        let length = fields.get("Content-Length").and_then(|text| text.parse().ok());
        let length = length.filter(|_| !line.starts_with("HEAD")).unwrap_or(0);
        let body = self.reader.sized(&mut self.wire, length);
        assert!(body.whole);
        Seen { head: format!("{}\r\n{fields}", head.first_line), body: body.bytes }
    }
}

const APP: &str = "GET /v2/library/app/manifests/1.0.0";

#[test]
fn an_answer_that_is_given_again_is_the_same_to_the_last_byte() {
    let mut stage = Stage::new("1h");
    let addresses = stage.immutag.addresses();
    let (amd64, arm64) = (stage.index.images[1].clone(), stage.index.images[0].clone());
    let accepts = [
        String::new(),
        format!("Accept: {OCI_INDEX}, {OCI_MANIFEST}"),
        format!("Accept: {OCI_MANIFEST}"),
        format!("Accept: {DOCKER_MANIFEST}\nAccept: {OCI_INDEX}\nAccept: {OCI_MANIFEST}"),
    ];
    let by_digest = format!("/v2/docker.io/library/multi/manifests/{}", arm64.digest());
    let targets = [
        (addresses.mirror, "/v2/library/app/manifests/1.0.0"),
        (addresses.mirror, "/v2/library/app/manifests/1.0.0?ns=docker.io"),
        (addresses.mirror, "/v2/app/manifests/1.0.0?ns=index.docker.io"),
        (addresses.mirror, "/docker.io/v2/library/multi/manifests/1.0.0"),
        (addresses.mirror, "/v2/library/multi/manifests/1.0.0?ns=docker.io"),
        (addresses.direct, "/v2/docker.io/library/multi/manifests/1.0.0"),
        (addresses.direct, "/v2/registry-1.docker.io/app/manifests/1.0.0"),
        (addresses.direct, &by_digest),
    ];
    for (listener, target) in targets {
        let mut client = Client::open(listener);
        for (accept, method) in accepts.iter().flat_map(|it| [(it, "GET"), (it, "HEAD")]) {
            let seen = stage.warm(&mut client, &format!("{method} {target}\n{accept}"));
            let wants_child = *accept == accepts[2] && target.ends_with("1.0.0");
            let expected = match target {
                _ if target.contains("app") => &stage.image.manifest,
                _ if target == by_digest => &arm64.manifest,
                _ if wants_child || *accept == accepts[2] => &amd64.manifest,
                _ => &stage.index.manifest,
            };
            assert!(seen.has(expected.digest()), "{method} {target}\n{accept}: {seen:?}");
            let bytes = if method == "GET" { &*expected.blob.bytes } else { b"" };
            assert_eq!(seen.body, bytes, "{method} {target}\n{accept}");
            let ns = target.split_once("ns=").map(|_| "oci-namespace: docker.io\r\n");
            assert_eq!(seen.head.contains("oci-namespace"), ns.is_some(), "{}", seen.head);
            assert!(seen.head.contains(ns.unwrap_or_default()), "{}", seen.head);
        }
    }
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn what_is_not_the_very_same_request_is_not_answered_by_another_ones_answer() {
    let stage = Stage::new("1h");
    let mut client = stage.mirror();
    let path = "/v2/library/multi/manifests/1.0.0";
    stage.warm(&mut client, &format!("GET {path}\nAccept: {OCI_INDEX}"));
    let child = client.ask(&format!("GET {path}\nAccept: {OCI_MANIFEST}"));
    assert!(child.has(stage.index.images[1].digest()));
    // Of the same length as those that take an index.
    let swapped = OCI_INDEX.replace("index", "xedni");
    for request in [
        format!("GET {path}\nAccept: {swapped}, {OCI_MANIFEST}"),
        format!("GET {path}\nAccept: {swapped}\nAccept: {OCI_MANIFEST}"),
    ] {
        let same_length = request.replace(&swapped, OCI_INDEX);
        let index = stage.warm(&mut client, &same_length);
        assert!(index.has(stage.index.digest()), "{same_length}");
        assert!(client.ask(&request).has(stage.index.images[1].digest()), "{request}");
    }
    let refused = client.ask(&format!("PUT {path}\nAccept: {OCI_INDEX}"));
    assert!(refused.head.contains(" 405 "), "{}", refused.head);
    let bodied = format!("GET {path}\nAccept: {OCI_INDEX}\nContent-Length: 1");
    assert!(stage.mirror().ask(&bodied).head.contains(" 413 "));
    assert!(stage.mirror().ask(&format!("GET {path}\nHost: y")).head.contains(" 400 "));
}

#[test]
fn the_next_request_after_a_decision_of_a_person_gets_what_was_decided() {
    let stage = Stage::new("1h");
    let mut client = stage.mirror();
    let digest = stage.image.digest();
    let by_digest = format!("GET /v2/library/app/manifests/{digest}");
    assert!(stage.warm(&mut client, APP).has(digest));
    stage.warm(&mut client, &by_digest);
    stage.ledger(&["revoke", digest]);
    assert!(!client.ask(APP).has(digest));
    assert!(!client.ask(&by_digest).has(digest));
    stage.ledger(&["revoke", digest, "--undo"]);
    assert!(stage.warm(&mut client, APP).has(digest));
    let moved = stage.registry.push_image("library/app", "1.0.0", "b");
    assert!(client.ask(APP).has(digest));
    stage.ledger(&["forget", "docker.io/library/app:1.0.0"]);
    assert!(client.ask(APP).has(moved.digest()));
}

#[test]
fn the_next_request_after_an_approval_gets_what_was_approved() {
    let stage = Stage::new("0s");
    let mut client = stage.mirror();
    client.ask(APP);
    let moved = stage.registry.push_image("library/app", "1.0.0", "b");
    client.ask(APP);
    stage.immutag.wait_for_metric("immutag_events_total", "conflict", 1.0);
    stage.registry.retag("library/app", "1.0.0", stage.image.digest());
    client.ask(APP);
    stage.immutag.wait_for_metric("immutag_events_total", "healed", 1.0);
    stage.reload("recheck = \"0s\"", "recheck = \"1h\"");
    assert!(stage.warm(&mut client, APP).has(stage.image.digest()));
    stage.ledger(&["approve", "docker.io/library/app:1.0.0", "--digest", moved.digest()]);
    assert!(client.ask(APP).has(moved.digest()));
}

#[test]
fn the_next_request_after_a_reload_goes_by_the_new_rules() {
    let stage = Stage::new("1h");
    let mut client = stage.mirror();
    assert!(stage.warm(&mut client, APP).has(stage.image.digest()));
    let moved = stage.registry.push_image("library/app", "1.0.0", "b");
    assert!(client.ask(APP).has(stage.image.digest()));
    stage.reload("on-conflict = \"hold\"\nrecheck = \"1h\"", "on-conflict = \"record\"");
    assert!(client.ask(APP).has(moved.digest()));
}

#[test]
fn the_next_request_after_a_conflict_is_told_of_it() {
    let stage = Stage::new("1s");
    let mut client = stage.mirror();
    assert!(stage.warm(&mut client, APP).has(stage.image.digest()));
    let moved = stage.registry.push_image("library/app", "1.0.0", "b");
    eventually("a conflict is known", || {
        client.ask(APP);
        stage.immutag.metric("immutag_conflicts_total", "hold") > 0.0
    });
    let told = client.ask(APP);
    assert!(told.has(stage.image.digest()) && told.head.contains("warning: 299"), "{}", told.head);
    assert!(told.head.contains(moved.digest()), "{}", told.head);
}
