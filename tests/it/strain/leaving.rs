//! Clients that leave, at whatever stage. H-07.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use super::{Stage, begin, request};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::wait::eventually;

/// Clients that leave at each stage.
const LEAVING: usize = 10;

/// How a client goes.
#[derive(Clone, Copy)]
enum Leaving {
    Closes,
    Resets,
}

fn leave(stream: TcpStream, how: Leaving) {
    if matches!(how, Leaving::Resets) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&stream, linger).expect("a socket");
    }
    drop(stream);
}

#[test]
fn clients_that_leave_at_any_stage_leave_nothing_behind() {
    let mut stage = Stage::new();
    let stored = stage.vast("stored", 16 << 20);
    let answer = stage.call(&stored.digest).stream(|_| ()).expect("an answer");
    assert!(answer.whole);
    for how in [Leaving::Closes, Leaving::Resets] {
        let gate = Gate::closed();
        let name = |what: &str| format!("{what} {}", matches!(how, Leaving::Resets));
        let [headless, half] = ["headless", "half"].map(|it| stage.blob(&name(it), 1 << 20));
        let pattern = |digest: &str| format!("GET blobs/{digest}");
        stage.registry.fault(&pattern(&headless.digest), Fault::Hold(gate.clone()));
        stage.registry.fault(&pattern(&half.digest), Fault::HoldBody(1 << 19, gate.clone()));
        let [stored, headless, half] =
            [&stored.digest, &headless.digest, &half.digest].map(|it| Stage::target(it));
        let tail = request(&half, "Range: bytes=1000000-\r\n");
        // What is sent, and whether an answer begins then.
        let stages = [
            (String::new(), false),
            ("GET /v2/app/blobs/".to_owned(), false),
            (request("/v2/", ""), true),
            (request(&headless, ""), false),
            (request(&half, ""), true),
            (tail, true),
            (request(&stored, ""), true),
            (request(&stored, "Range: bytes=5-\r\n"), true),
        ];
        let mut there = Vec::new();
        for (sent, is_answered) in &stages {
            for _ in 0..LEAVING {
                let mut stream = begin(stage.immutag.addresses().mirror, sent);
                if *is_answered {
                    stream.read_exact(&mut [0; 1]).expect("the answer begins");
                }
                there.push(stream);
            }
        }
        stage.wait_for_clients(stages.len() * LEAVING);
        gate.wait_for(2);
        for stream in there {
            leave(stream, how);
        }
        eventually("the end of all connections", || stage.connections() < 0.5);
        gate.open();
        stage.finish();
    }
    // And nobody later is the worse for it.
    for seed in ["headless true", "half false"] {
        let blob = stage.blob(seed, 1 << 20);
        stage.assert_pulls(&blob);
    }
    stage.finish();
}
