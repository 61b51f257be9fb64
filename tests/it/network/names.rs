//! Names whose servers fail. `faults.md`, N-01 (DNS) and N-02.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::wire::Deaf;
use super::{FAILS, Stage, TIMES};
use crate::support::apart::apart;
use crate::support::dns::{NameServer, Says};
use crate::support::process::run;
use crate::support::registry::ScriptedRegistry;
use crate::support::tcp_proxy::Trouble;

const RESOLV: (&str, &str) =
    ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
/// The same without hurry, as most machines have it.
const SLOW_RESOLV: (&str, &str) = ("/etc/resolv.conf", "nameserver 127.0.0.1\n");
const NSSWITCH: (&str, &str) = ("/etc/nsswitch.conf", "hosts: files dns\n");

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Plays a test where these files of the system have this content.
#[track_caller]
fn with_files<T: Fn()>(test: &T, files: &[(&str, &str)], body: impl FnOnce()) {
    apart(test, &[], || {
        for (file, text) in files {
            // It may be a link to where another program keeps it.
            let _ = std::fs::remove_file(file);
            std::fs::write(file, text).expect("this world's own /etc");
        }
        body();
    });
}

/// An upstream with a name, which the server knows.
fn named() -> (NameServer, Stage) {
    named_with(TIMES)
}

fn named_with(times: &str) -> (NameServer, Stage) {
    let server = NameServer::start(Says::Addresses(vec![HERE]));
    let stage = Stage::new(ScriptedRegistry::start(), |setup, at| {
        let port = at.rsplit(':').next().expect("a port");
        setup.upstream_with(super::REGISTRY, &format!("http://upstream.test:{port}"), times)
    });
    (server, stage)
}

/// Goes through one trouble of names and out of it again; connections of before are gone.
#[track_caller]
fn survives(says: Says) {
    let (server, stage) = named();
    let before = server.asked();
    server.say(says);
    stage.proxy.trouble(Trouble::None);
    stage.assert_cold_is_refused(&FAILS);
    stage.assert_known_goes_on(false);
    assert!(server.asked() > before, "nobody asked for the name");
    server.say(Says::Addresses(vec![HERE]));
    stage.recovers();
}

#[test]
fn a_name_that_does_not_exist() {
    with_files(&a_name_that_does_not_exist, &[RESOLV, NSSWITCH], || {
        survives(Says::NXDOMAIN);
    });
}

#[test]
fn a_name_server_that_fails() {
    with_files(&a_name_server_that_fails, &[RESOLV, NSSWITCH], || {
        survives(Says::SERVFAIL);
    });
}

#[test]
fn a_name_server_that_says_nothing() {
    with_files(&a_name_server_that_says_nothing, &[SLOW_RESOLV, NSSWITCH], || {
        survives(Says::Silence);
    });
}

#[test]
fn a_name_server_that_says_nonsense() {
    with_files(&a_name_server_that_says_nonsense, &[RESOLV, NSSWITCH], || {
        survives(Says::Garbage);
    });
}

#[test]
fn a_name_without_an_address() {
    with_files(&a_name_without_an_address, &[RESOLV, NSSWITCH], || {
        survives(Says::EMPTY);
    });
}

/// A thousand addresses of this machine, at none of which anybody listens.
fn crowd() -> impl Iterator<Item = IpAddr> {
    (0..1000u32).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 9, high, low))
    })
}

#[test]
fn a_thousand_addresses_at_which_nobody_is() {
    with_files(&a_thousand_addresses_at_which_nobody_is, &[RESOLV, NSSWITCH], || {
        survives(Says::Addresses(crowd().collect()));
    });
}

#[test]
fn an_upstream_among_a_few_addresses_is_found() {
    with_files(&an_upstream_among_a_few_addresses_is_found, &[RESOLV, NSSWITCH], || {
        let (server, stage) = named();
        let addresses = crowd().take(5).chain([HERE]).collect();
        server.say(Says::Addresses(addresses));
        stage.proxy.trouble(Trouble::None);
        stage.recovers();
    });
}

#[test]
fn an_address_that_swallows_everything_does_not_hide_a_good_one() {
    // The swallowing one is to be tried first.
    let first = ("/etc/gai.conf", "precedence fd00::/8 100\nprecedence ::ffff:0:0/96 10\n");
    let test = an_address_that_swallows_everything_does_not_hide_a_good_one;
    with_files(&test, &[RESOLV, NSSWITCH, first], beside_a_hole);
}

fn beside_a_hole() {
    let hole = Ipv6Addr::new(0xfd00, 0xbad, 0, 0, 0, 0, 0, 2);
    let own = format!("{hole}/128");
    run(Command::new("ip").args(["address", "add", &own, "dev", "lo", "nodad"])).ok();
    let (server, stage) = named_with("connect-timeout = \"20s\"\n");
    let _deaf = Deaf::new(SocketAddr::new(hole.into(), stage.proxy.address.port()));
    server.say(Says::Addresses(vec![hole.into(), HERE]));
    let order = run(Command::new("getent").args(["ahosts", "upstream.test"])).ok().stdout;
    assert!(order.starts_with(&hole.to_string()), "{order}");
    stage.proxy.trouble(Trouble::None);
    let begun = Instant::now();
    let answer = stage.immutag.manifest(super::REGISTRY, "cold", "1.0.0");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // A second is meant; each of two addresses has ten of the twenty.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    stage.recovers();
}
