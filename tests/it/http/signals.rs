//! SIGTERM drains, a second one ends at once, SIGHUP reads the configuration again.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{REGISTRY, Stage};
use crate::support::content::{Blob, noise};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Answer, Call};
use crate::support::wait::eventually;

const SIZE: usize = 200_000;

/// Blobs whose second half waits at the gate.
fn slow_blobs(stage: &Stage, count: usize) -> (Vec<Blob>, Gate) {
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::HoldBody(SIZE / 2, gate.clone()));
    let blob = |number: usize| {
        let blob = Blob::new(noise(&number.to_string(), SIZE));
        stage.registry.put_blob("app", &blob.digest, blob.bytes.clone());
        blob
    };
    ((0..count).map(blob).collect(), gate)
}

fn url(stage: &Stage, blob: &Blob) -> String {
    stage.immutag.mirror(&format!("app/blobs/{}?ns={REGISTRY}", blob.digest))
}

#[test]
fn sigterm_lets_a_hundred_pulls_end_and_takes_no_new_ones() {
    let mut stage = Stage::new();
    // Twenty fills with five readers each: an upstream gets no hundred connections.
    let (blobs, gate) = slow_blobs(&stage, 20);
    let urls: Vec<String> = blobs.iter().map(|blob| url(&stage, blob)).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..100)
            .map(|number| {
                let url = &urls[number % urls.len()];
                scope.spawn(move || Call::new("GET", url).send())
            })
            .collect();
        gate.wait_for(blobs.len());
        stage.immutag.wait_for_metric("immutag_requests_total", "status=\"200\"", 100.0);
        stage.immutag.signal(Signal::TERM);
        stage.immutag.wait_for_log("draining");
        let mirror = stage.immutag.addresses().mirror;
        eventually("no new connections", || std::net::TcpStream::connect(mirror).is_err());
        gate.open();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    for (number, answer) in answers.iter().enumerate() {
        let expected = &blobs[number % blobs.len()].bytes;
        assert!(answer.whole && answer.body == *expected, "pull {number}");
    }
    assert_eq!(stage.immutag.wait().code(), Some(0));
    stage.immutag.restart();
    stage.finish();
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let mut stage = Stage::new();
    let (blobs, gate) = slow_blobs(&stage, 1);
    let url = url(&stage, &blobs[0]);
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| Call::new("GET", &url).send());
        gate.wait_for(1);
        stage.immutag.wait_for_metric("immutag_requests_total", "status=\"200\"", 1.0);
        stage.immutag.signal(Signal::TERM);
        stage.immutag.wait_for_log("draining");
        let begun = Instant::now();
        stage.immutag.signal(Signal::TERM);
        stage.immutag.wait();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(!pull.join().unwrap().whole);
        gate.open();
    });
    assert!(stage.immutag.log().contains("a second signal"));
    stage.registry.clear_faults();
    stage.immutag.restart();
    stage.finish();
}

#[test]
fn a_drain_ends_after_its_time_whatever_clients_do() {
    let mut stage = Stage::new();
    stage.immutag.restart_with(|setup| setup.top("drain = \"1s\""));
    let (blobs, gate) = slow_blobs(&stage, 1);
    let url = url(&stage, &blobs[0]);
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| Call::new("GET", &url).send());
        gate.wait_for(1);
        stage.immutag.wait_for_metric("immutag_requests_total", "status=\"200\"", 1.0);
        stage.immutag.terminate();
        assert!(!pull.join().unwrap().whole);
        gate.open();
    });
    stage.registry.clear_faults();
    stage.immutag.restart();
    stage.finish();
}

#[test]
fn sighup_with_a_broken_configuration_keeps_the_old_one_and_says_where_it_is_broken() {
    let stage = Stage::new();
    stage.pull();
    let good = stage.immutag.configuration();
    let broken = format!("{good}\n[cache]\nmax-sise = \"1GiB\"\n");
    let line = broken.lines().count();
    stage.immutag.write_configuration(&broken);
    stage.immutag.signal(Signal::HUP);
    stage.immutag.wait_for_log("the configuration stays as it was");
    let log = stage.immutag.log();
    let told = log.lines().find(|line| line.contains("the configuration stays as it was"));
    let told = told.unwrap();
    assert!(told.contains("max-sise") && told.contains(&format!("immutag.toml:{line}:")), "{told}");
    let other = stage.registry.push_image("app", "1.0.0", "other");
    assert_ne!(other.digest(), stage.image.digest());
    stage.pull();
    stage.immutag.write_configuration(&good);
    stage.finish();
}

#[test]
fn sighup_with_a_good_configuration_changes_the_rules_and_the_upstreams() {
    let stage = Stage::new();
    stage.pull();
    let moved = stage.registry.push_image("app", "1.0.0", "moved");
    stage.pull();
    let good = stage.immutag.configuration();
    let changed = good.replace("\"hold\"\nrecheck = \"1h\"", "\"block\"\nrecheck = \"0s\"");
    assert_ne!(good, changed);
    let upstream = format!(
        "{changed}\n[upstream.\"other.example\"]\nurl = \"{}\"\nplain-http = true\nallow-private = true\n",
        stage.registry.url()
    );
    let other = || stage.immutag.manifest("other.example", "app", moved.digest()).status;
    assert_eq!(other(), 404);
    stage.immutag.write_configuration(&upstream);
    stage.immutag.signal(Signal::HUP);
    stage.immutag.wait_for_log("were read again");
    let refused = stage.immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(other(), 200);
    stage.registry.retag("app", "1.0.0", stage.image.digest());
    stage.finish();
}
