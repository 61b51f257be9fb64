//! What can happen to a connection. `faults.md`, N-01.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{FAILS, IN_BODY, IN_HEAD, REGISTRY, Stage, survives};
use crate::support::tcp_proxy::Trouble;

const TIMEOUT: &[(u16, &str)] = &[FAILS[0]];
const UNAVAILABLE: &[(u16, &str)] = &[FAILS[1]];

/// What a spoilt TLS connection may come to.
const BREAKS: [(u16, &str); 3] = [FAILS[0], FAILS[1], (502, "UPSTREAM_INVALID")];

#[test]
fn an_upstream_that_refuses_connections() {
    let mut stage = Stage::plain();
    stage.proxy.stop();
    stage.assert_cold_is_refused(UNAVAILABLE);
    stage.assert_known_goes_on(false);
    stage.proxy.start_again();
    stage.recovers();
}

#[test]
fn an_upstream_to_which_nothing_comes_through() {
    let mut stage = Stage::plain();
    stage.proxy.stop();
    let deaf = Deaf::new(stage.proxy.address);
    stage.assert_cold_is_refused(&FAILS);
    stage.assert_known_goes_on(false);
    drop(deaf);
    stage.proxy.start_again();
    stage.recovers();
}

#[test]
fn a_reset_in_a_head_and_in_a_body() {
    for at in [0, IN_HEAD, IN_BODY] {
        survives(Stage::plain(), Trouble::Reset(at), UNAVAILABLE);
    }
}

#[test]
fn an_end_in_a_head_and_in_a_body_while_the_other_direction_stays_open() {
    for at in [0, IN_HEAD, IN_BODY] {
        survives(Stage::plain(), Trouble::HalfClose(at), UNAVAILABLE);
    }
}

#[test]
fn nothing_more_after_a_part_of_a_head_and_of_a_body() {
    for at in [0, IN_HEAD, IN_BODY] {
        survives(Stage::hasty(), Trouble::Stall(at), &FAILS);
    }
}

#[test]
fn a_byte_now_and_then_is_not_waited_for_for_ever() {
    // Never long without a byte: the whole takes too long.
    survives(Stage::hasty(), Trouble::Drip(IN_HEAD), &FAILS);
    survives(Stage::hasty(), Trouble::Drip(IN_BODY), TIMEOUT);
}

#[test]
fn a_bit_that_flips_in_a_manifest_without_tls() {
    let stage = Stage::plain();
    stage.proxy.trouble(Trouble::Flip(IN_BODY));
    // The registry's header names the digest; nothing is pinned by other bytes.
    let answer = stage.immutag.direct_manifest(REGISTRY, "cold", "1.0.0");
    let reason = answer.field("immutag-reason");
    assert_eq!((answer.status, reason), (502, Some("UPSTREAM_DIGEST_MISMATCH")));
    for (name, image) in &stage.known {
        let answer = stage.immutag.manifest(REGISTRY, name, "1.0.0");
        let is_right = (answer.status, answer.digest()) == (200, image.digest());
        // It is asked for each time; by a new connection, if others are asked for meanwhile, and
        // there the bit flips in its manifest or in a head.
        let is_refused = *name == "recorded" && answer.status == 502;
        assert!(is_right || is_refused, "{name}: {}", answer.text());
    }
    stage.proxy.trouble(Trouble::None);
    stage.assert_known_goes_on(true);
    stage.recovers();
}

#[test]
fn a_bit_that_flips_with_tls_breaks_the_connection() {
    // In the handshake: in its first record's head, and behind it.
    for at in [1, 100] {
        survives(Stage::encrypted(), Trouble::Flip(at), &BREAKS);
    }
}

#[test]
fn a_tls_alert_in_the_middle_of_a_handshake() {
    survives(Stage::encrypted(), Trouble::Alert(0), &BREAKS);
}

/// What breaks a connection after so many bytes, with TLS and without.
fn breaks(is_encrypted: bool, at: usize) -> Vec<Trouble> {
    if is_encrypted {
        vec![Trouble::Reset(at), Trouble::Flip(at), Trouble::Alert(at)]
    } else {
        vec![Trouble::Reset(at), Trouble::HalfClose(at), Trouble::Stall(at)]
    }
}

fn stage(is_encrypted: bool) -> Stage {
    if is_encrypted { Stage::encrypted() } else { Stage::plain() }
}

#[test]
fn a_blob_whose_connections_break_goes_on_by_the_next() {
    for is_encrypted in [false, true] {
        let stage = stage(is_encrypted);
        for (number, trouble) in breaks(is_encrypted, 150_000).into_iter().enumerate() {
            let blob = stage.cold_blob(300_000 + number);
            stage.proxy.trouble(trouble);
            let answer = stage.blob("cold", &blob);
            assert!(answer.whole && answer.body == blob.bytes, "{trouble:?}");
            let asked = stage.registry.count(&format!("GET blobs/{}", blob.digest));
            assert!((2..=4).contains(&asked), "{trouble:?}: {asked} requests");
            stage.proxy.trouble(Trouble::None);
        }
        stage.recovers();
    }
}

#[test]
fn a_blob_that_is_broken_on_its_way_never_completes_and_comes_whole_the_next_time() {
    for is_encrypted in [false, true] {
        let stage = stage(is_encrypted);
        let mut troubles = breaks(is_encrypted, 1000);
        if !is_encrypted {
            troubles.push(Trouble::Flip(150_000));
        }
        for (number, trouble) in troubles.into_iter().enumerate() {
            let blob = stage.cold_blob(300_000 + number);
            stage.proxy.trouble(trouble);
            let broken = stage.blob("cold", &blob);
            assert!(!broken.whole || broken.status != 200, "{trouble:?}");
            assert!(broken.body.len() < blob.bytes.len(), "{trouble:?}");
            stage.assert_known_goes_on(true);
            stage.proxy.trouble(Trouble::None);
            crate::support::wait::eventually("the whole blob", || {
                let answer = stage.blob("cold", &blob);
                answer.status == 200 && answer.whole && answer.body == blob.bytes
            });
        }
        stage.recovers();
    }
}

#[test]
fn a_blob_that_comes_a_byte_at_a_time_holds_up_nothing_else() {
    let stage = Stage::plain();
    let blob = stage.cold_blob(300_000);
    stage.proxy.trouble(Trouble::Drip(1000));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| stage.blob("cold", &blob));
        stage.registry.wait_for(&format!("GET blobs/{}", blob.digest), 1);
        stage.assert_known_goes_on(true);
        assert!(!slow.is_finished());
        // It breaks with its connection, and goes on by another.
        stage.proxy.trouble(Trouble::None);
        let answer = slow.join().unwrap();
        assert!(answer.whole && answer.body == blob.bytes);
    });
    stage.recovers();
}

/// A port at which nobody answers: its queue of connections is full, so that the system drops
/// what asks for another one.
pub(super) struct Deaf {
    _listener: OwnedFd,
    _waiting: Vec<OwnedFd>,
}

impl Deaf {
    pub(super) fn new(at: SocketAddr) -> Self {
        use rustix::net::sockopt::set_socket_reuseaddr;
        use rustix::net::{
            AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with,
        };
        let socket = || {
            let flags = SocketFlags::NONBLOCK;
            let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            socket_with(family, SocketType::STREAM, flags, None).expect("a socket")
        };
        let listener = socket();
        set_socket_reuseaddr(&listener, true).expect("our own socket");
        bind(&listener, &at).expect("the port is free");
        listen(&listener, 0).expect("our own socket");
        let waiting: Vec<OwnedFd> = (0..4)
            .map(|_| {
                let waiting = socket();
                // It is under way, or in the queue.
                let _ = connect(&waiting, &at);
                waiting
            })
            .collect();
        let deaf = Self { _listener: listener, _waiting: waiting };
        let hurried = TcpStream::connect_timeout(&at, Duration::from_millis(300));
        assert!(hurried.is_err(), "somebody answers");
        deaf
    }
}

#[test]
fn a_full_queue_takes_nobody() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    drop(Deaf::new(free));
}
