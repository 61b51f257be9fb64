//! The program is started, watched, killed and started again as told.

use crate::support::http::{get, raw};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn it_is_ready_alive_and_clean_after_pulls_and_after_a_kill() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1.0.0", "one");
    let mut immutag = Setup::new().upstream("registry.example", &registry.url()).start();
    for _ in 0..8 {
        let answer = immutag.manifest("registry.example", "app", "1.0.0");
        assert_eq!(answer.digest(), image.digest());
    }
    immutag.assert_alive_and_clean();
    let before = immutag.id();
    immutag.restart();
    assert_ne!(immutag.id(), before);
    let answer = immutag.direct_manifest("registry.example", "app", "1.0.0");
    assert_eq!(answer.digest(), image.digest());
    immutag.assert_alive_and_clean();
    assert!(immutag.terminate().success(), "{}", immutag.log());
}

#[test]
fn a_connection_that_stays_open_is_noticed() {
    let mut immutag = Setup::new().start();
    let _held = std::net::TcpStream::connect(immutag.addresses().mirror).expect("it listens");
    assert_eq!(get(&immutag.mirror("")).status, 200);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        immutag.assert_alive_and_clean_within(std::time::Duration::from_millis(200));
    }));
    assert!(caught.is_err());
}

#[test]
fn a_secret_that_gets_out_is_noticed() {
    let immutag = Setup::new().secret("canary-1").start();
    immutag.assert_no_secret("nothing");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        immutag.assert_no_secret("password canary-1");
    }));
    assert!(caught.is_err());
}

#[test]
fn bytes_go_out_as_they_stand() {
    let immutag = Setup::new().start();
    let answer = Immutag::raw(immutag.addresses().mirror, b"no http\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    let silence = std::time::Duration::from_millis(50);
    assert!(raw(immutag.addresses().mirror, b"GET", silence).is_empty());
}
