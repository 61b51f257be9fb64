//! Clients that are slow, idle and many.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{REGISTRY, Stage};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

/// How many connections stand idle.
const IDLE: usize = 3000;

/// What an idle connection has sent so far: nothing, part of a head, a whole request and its
/// answer, garbage without an end.
const STARTS: [&str; 4] = [
    "",
    "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/app",
];

#[test]
fn thousands_of_idle_connections_do_not_stop_a_pull() {
    crate::support::process::raise_file_limit();
    let stage = Stage::new();
    let addresses = stage.immutag.addresses();
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|number| {
            let address = if number % 3 == 0 { addresses.direct } else { addresses.mirror };
            begin(address, STARTS[number % STARTS.len()])
        })
        .collect();
    let open = || stage.immutag.metric("immutag_connections", "");
    eventually("all connections", || open() >= f64::from(u32::try_from(IDLE).unwrap()));
    let begun = Instant::now();
    stage.pull();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(crate::support::http::get(&stage.immutag.admin("/livez")).status, 200);
    drop(idle);
    // The one that asks is open itself.
    eventually("no connections", || open() <= 1.0);
    stage.finish();
}

#[test]
fn a_client_that_sends_no_head_in_time_is_cut_off_and_a_busy_one_is_not() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    let timeout = Duration::from_millis(300);
    let here = InProcess::start_with(setup, |config| {
        for listener in &mut config.listeners {
            listener.head_timeout = timeout;
        }
    });
    let addresses = here.addresses();
    for address in [addresses.mirror, addresses.direct] {
        let begun = Instant::now();
        let mut idle: Vec<TcpStream> = STARTS.iter().map(|start| begin(address, start)).collect();
        // A byte now and then does not help.
        let mut dripping = begin(address, STARTS[1]);
        dripping.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        eventually("the end of the dripping connection", || {
            let _ = dripping.write_all(b"x");
            !matches!(dripping.read(&mut [0; 64]), Err(error) if is_timeout(&error))
        });
        for stream in &mut idle {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut rest = Vec::new();
            assert!(!matches!(stream.read_to_end(&mut rest), Err(error) if is_timeout(&error)));
        }
        assert!(begun.elapsed() >= timeout);
        assert_eq!(here.direct_manifest(REGISTRY, "app", "1").digest(), image.digest());
    }
}

#[test]
fn an_answer_that_takes_longer_than_the_head_s_time_is_not_cut_off() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1", "a");
    let gate = crate::support::gate::Gate::closed();
    let hold = crate::support::fault::Fault::Hold(gate.clone());
    registry.fault("GET manifests/1", hold);
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    let here = InProcess::start_with(setup, |config| {
        for listener in &mut config.listeners {
            listener.head_timeout = Duration::from_millis(100);
        }
    });
    let idle = begin(here.addresses().direct, "");
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| here.direct_manifest(REGISTRY, "app", "1"));
        gate.wait_for(1);
        // When this one is cut off, the head's time is over for the other, too.
        idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(matches!((&idle).read(&mut [0; 1]), Ok(0)));
        gate.open();
        assert_eq!(pull.join().unwrap().digest(), image.digest());
    });
}

fn begin(address: SocketAddr, start: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(start.as_bytes()).expect("it reads");
    stream
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
