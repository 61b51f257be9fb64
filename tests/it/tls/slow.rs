//! Clients that never finish a handshake, or may not begin one. `faults.md`, H-04.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{REGISTRY, Stage, connect, with_tls};
use crate::support::content::{Image, Manifest};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, Http2, WINDOW_UPDATE, get_block,
};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tls::Authority;
use crate::support::wait::{eventually, within};

/// How many connections stand half-way through a handshake.
const HALF_WAY: usize = 3000;

const PATH: &str = "app/manifests/1.0.0?ns=registry.example";

/// What a client says first.
fn greeting(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let client = ClientConnection::new(authority.client(), name);
    let mut bytes = Vec::new();
    client.expect("it is valid").write_tls(&mut bytes).expect("memory takes it");
    bytes
}

fn begin(address: SocketAddr, start: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(start).expect("it reads");
    stream
}

/// The peer has to close, with whatever last words.
#[track_caller]
fn assert_closes(mut stream: impl std::io::Read) {
    let ended = stream.read_to_end(&mut Vec::new());
    let waits = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    };
    assert!(!matches!(&ended, Err(error) if waits(error)), "{ended:?}");
}

#[test]
fn thousands_of_half_made_handshakes_do_not_stop_a_pull() {
    crate::support::process::raise_file_limit();
    let stage = Stage::new();
    let greeting = greeting(&stage.authority);
    let half: Vec<TcpStream> = (0..HALF_WAY)
        .map(|number| {
            let address = if number % 3 == 0 { stage.direct() } else { stage.mirror() };
            // Nothing, a part, a byte less than all, all but what follows it.
            let size = [0, 10, greeting.len() - 1, greeting.len()][number % 4];
            begin(address, &greeting[..size])
        })
        .collect();
    let open = || stage.immutag.metric("immutag_connections", "");
    eventually("all connections", || open() >= f64::from(u32::try_from(HALF_WAY).unwrap()));
    stage.pull();
    drop(half);
    // The one that asks is open itself.
    eventually("no connections", || open() <= 1.0);
    stage.finish();
}

/// An immutag with TLS whose clients have little time.
fn hurried(authority: &Authority, registry: &ScriptedRegistry) -> (InProcess, Duration) {
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    let setup = setup.mirror("head-timeout = \"300ms\"").direct("head-timeout = \"300ms\"");
    let (setup, _files) = with_tls(setup, &authority.issue(&["127.0.0.1"]));
    (InProcess::start(setup), Duration::from_millis(300))
}

#[test]
fn a_handshake_that_is_not_made_in_time_is_cut_off() {
    let (authority, registry) = (Authority::new(), ScriptedRegistry::start());
    let (here, timeout) = hurried(&authority, &registry);
    let greeting = greeting(&authority);
    for address in [here.addresses().mirror, here.addresses().direct] {
        let begun = Instant::now();
        let starts = [0, 1, 10, greeting.len() - 1, greeting.len()];
        let slow: Vec<_> = starts.iter().map(|size| begin(address, &greeting[..*size])).collect();
        // A byte now and then does not help.
        let mut dripping = begin(address, &[]);
        dripping.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut bytes = greeting.iter();
        eventually("the end of the dripping connection", || {
            let _ = bytes.next().map(|byte| dripping.write_all(&[*byte]));
            matches!(dripping.read(&mut [0; 64]), Ok(0)) || dripping.write_all(&[]).is_err()
        });
        for stream in slow {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_closes(stream);
        }
        assert!(begun.elapsed() >= timeout);
    }
}

#[test]
fn a_client_that_says_nothing_after_its_handshake_is_cut_off() {
    let (authority, registry) = (Authority::new(), ScriptedRegistry::start());
    let (here, timeout) = hurried(&authority, &registry);
    let direct = here.addresses().direct;
    let client = authority.client();
    let begun = Instant::now();
    // HTTP/1.1 with nothing and with half a head; HTTP/2 without a preface, and after a request.
    let mut silent = connect(direct, &client, &["http/1.1"]);
    silent.write_all(b"").unwrap();
    let mut half = connect(direct, &client, &["http/1.1"]);
    half.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    let mut unsaid = connect(direct, &client, &["h2"]);
    unsaid.write_all(b"PRI * HT").unwrap();
    let mut idle = Http2::connect(direct, &client);
    assert_eq!(idle.get("/v2/").status, 200);
    for wire in [silent, half, unsaid] {
        assert_closes(wire);
    }
    // An HTTP/2 client is told: NO_ERROR.
    assert_eq!(idle.ending(), Some(0));
    assert!(begun.elapsed() >= timeout);
}

#[test]
fn an_http_2_answer_that_takes_longer_than_the_head_s_time_is_not_cut_off() {
    let (authority, registry) = (Authority::new(), ScriptedRegistry::start());
    let image = registry.push_image("app", "1", "a");
    let gate = crate::support::gate::Gate::closed();
    registry.fault("GET manifests/1", crate::support::fault::Fault::Hold(gate.clone()));
    let (here, _) = hurried(&authority, &registry);
    let direct = here.addresses().direct;
    let mut idle = Http2::connect(direct, &authority.client());
    assert_eq!(idle.get("/v2/").status, 200);
    std::thread::scope(|scope| {
        let client = authority.client();
        let pull = scope.spawn(move || {
            let path = format!("/v2/{REGISTRY}/app/manifests/1");
            Http2::connect(direct, &client).get(&path)
        });
        gate.wait_for(1);
        // When this one is sent away, the time is over for the other, too.
        assert_eq!(idle.ending(), Some(0));
        gate.open();
        let reply = pull.join().unwrap();
        assert!(reply.whole && reply.body == image.manifest.blob.bytes);
    });
}

#[test]
fn an_http_2_client_that_takes_its_answer_slowly_is_not_idle() {
    const STEP: u32 = 2000;
    let (authority, registry) = (Authority::new(), ScriptedRegistry::start());
    let image = Image::new("a").manifest;
    let text = String::from_utf8(image.blob.bytes.to_vec()).unwrap();
    let filler = "x".repeat(50_000);
    let text = format!("{},\"annotations\":{{\"filler\":\"{filler}\"}}}}", &text[..text.len() - 1]);
    let large = Manifest::new(&image.media_type, text);
    registry.put_manifest("app", &large);
    registry.retag("app", "1", large.digest());
    let (here, timeout) = hurried(&authority, &registry);
    let mut slow = Http2::connect_with(here.addresses().direct, &authority.client(), STEP);
    let stream = slow.stream();
    let block = get_block(&format!("/v2/{REGISTRY}/app/manifests/1"));
    slow.send(HEADERS, END_HEADERS | END_STREAM, stream, &block).unwrap();
    let begun = Instant::now();
    let mut body = Vec::new();
    while body.len() < large.blob.bytes.len() {
        let frame = slow.next().expect("it is not cut off");
        if frame.kind == DATA && frame.stream == stream {
            body.extend(&frame.payload);
            // This client is slow, though never for as long as it may be.
            within(timeout / 3, || false);
            slow.send(WINDOW_UPDATE, 0, stream, &STEP.to_be_bytes()).unwrap();
        }
    }
    assert!(body == large.blob.bytes);
    assert!(begun.elapsed() > 2 * timeout + Duration::from_secs(1), "it was not slow");
}

#[test]
fn a_client_outside_allow_from_gets_no_handshake() {
    let stage = Stage::with(|setup| setup.mirror("allow-from = [\"127.0.0.2\"]"));
    let stream = begin(stage.mirror(), &greeting(&stage.authority));
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    let _ = (&stream).read_to_end(&mut rest);
    assert!(rest.is_empty(), "not even an alert: {rest:?}");
    let part = "listener=\"mirror\",reason=\"allow-from\"";
    stage.immutag.wait_for_metric("immutag_connections_refused_total", part, 1.0);
    let path = format!("{REGISTRY}/app/manifests/1.0.0");
    assert_eq!(stage.get(stage.direct(), &path).digest(), stage.image.digest());
}

#[test]
fn a_client_has_no_more_connections_than_the_limit_and_others_have_theirs() {
    let stage = Stage::with(|setup| setup.direct("max-connections-per-client = 3"));
    let direct = stage.direct();
    let open = || stage.immutag.metric("immutag_connections", "direct");
    let mut own: Vec<_> = (0..3).map(|_| begin(direct, b"")).collect();
    eventually("three connections", || open() >= 3.0);
    for number in 1..=2 {
        let fourth = begin(direct, b"");
        fourth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_closes(fourth);
        let part = "reason=\"max-connections-per-client\"";
        stage.immutag.wait_for_metric("immutag_connections_refused_total", part, f64::from(number));
    }
    let told = stage.immutag.log().matches("was refused another one").count();
    assert_eq!(told, 1, "once is enough");
    // Another address of this machine is another client.
    let other = from(Ipv4Addr::new(127, 0, 0, 2), direct);
    eventually("a fourth of another client", || open() >= 4.0);
    drop(other);
    own.pop();
    eventually("a place is free", || open() <= 2.0);
    // One request: the next would come by a connection of its own, while this one may still count.
    let path = format!("{REGISTRY}/app/manifests/1.0.0");
    assert_eq!(stage.get(direct, &path).digest(), stage.image.digest());
    drop(own);
    eventually("all are gone", || open() <= 0.0);
    stage.finish();
}

#[test]
fn a_listener_serves_no_more_connections_than_its_limit_at_once() {
    let stage = Stage::with(|setup| setup.mirror("max-connections = 2"));
    let mirror = stage.mirror();
    let open = || stage.immutag.metric("immutag_connections", "mirror");
    let (first, _second) = (begin(mirror, b""), begin(mirror, b""));
    eventually("two connections", || open() >= 2.0);
    std::thread::scope(|scope| {
        let third = scope.spawn(|| stage.get(stage.mirror(), PATH));
        // Through the other listener pulls go on meanwhile.
        let direct = format!("{REGISTRY}/app/manifests/1.0.0");
        assert_eq!(stage.get(stage.direct(), &direct).digest(), stage.image.digest());
        assert!(!third.is_finished() && open() <= 2.0);
        drop(first);
        assert_eq!(third.join().unwrap().digest(), stage.image.digest());
    });
}

/// A connection from another of this machine's addresses.
fn from(own: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&stream, &SocketAddr::new(IpAddr::V4(own), 0)).expect("an address of this machine");
    connect(&stream, &to).expect("it listens");
    TcpStream::from(stream)
}
