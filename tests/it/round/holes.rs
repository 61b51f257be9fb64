//! Where a client's design, or its settings, leave a way round: what happens there, exactly, and
//! who is told.

use std::process::Command;

use crate::support::fault::Fault;
use crate::support::process::{have, run};
use crate::support::registry::ScriptedRegistry;

use super::client::Client;
use super::settings::Way;
use super::stage::{ADDRESS, Outcome, Repository, Stage, play};

/// Outside of this host, and no private address; there is nobody in this world.
const OUTSIDE: &str = "11.11.11.2";

const HELD: Repository = "team/hold";
const BLOCKED: Repository = "team/block";

/// A layer that is neither held nor any more upstream, right after the upstream vouched for it:
/// Docker's daemon takes the failed blob for a failed mirror and begins anew at Docker Hub, tag and
/// all. Every other client ends there.
#[test]
fn docker_alone_goes_round_when_a_layer_is_lost_after_its_upstream_vouched_for_it() {
    let test = docker_alone_goes_round_when_a_layer_is_lost_after_its_upstream_vouched_for_it;
    let others = [Client::Buildah, Client::Containerd, Client::Podman, Client::Skopeo];
    play(&test, &[&[Client::Docker], &others[..]].concat(), || {
        // Nothing can be held, so that Docker Hub's copy is the only one.
        let stage = Stage::with(|setup| setup.tables("[cache]\nmax-size = \"0\"\n"));
        stage.release(&[HELD]);
        assert_eq!(stage.pull(Client::Docker, Way::Mirror, HELD), Outcome::First);
        stage.overwrite(&[HELD]);
        assert_eq!(stage.pull(Client::Docker, Way::Mirror, HELD), Outcome::First);
        assert!(stage.strangers().is_empty());
        stage.hub.delete_blob(HELD, &Stage::first(HELD).images[0].layers[0].digest);
        assert_eq!(stage.pull(Client::Docker, Way::Mirror, HELD), Outcome::Moved);
        assert!(!stage.strangers().is_empty());
        for client in others {
            for way in client.ways() {
                let outcome = stage.pull(client, *way, HELD);
                assert!(matches!(outcome, Outcome::Refused(_)), "{client} {way:?}: {outcome:?}");
            }
        }
    });
}

/// What no setting of Docker's classic store and its `BuildKit` closes, the network does: without
/// the rules their attempts at Docker Hub would end there, where immutag is down.
#[test]
fn egress_rules_close_what_docker_and_build_kit_leave_open() {
    let clients = [Client::Docker, Client::BuildKit];
    if !have(&["ip", "nft"]) {
        return;
    }
    play(&egress_rules_close_what_docker_and_build_kit_leave_open, &clients, || {
        let mut stage = Stage::new();
        stage.release(&[HELD]);
        assert_eq!(stage.pull(Client::Docker, Way::Mirror, HELD), Outcome::First);
        lead_outside();
        let rules = ["setup", "egress", "nftables", "--user", "65532", "--write"];
        stage.immutag.cli(&rules).ok();
        run(Command::new("nft").args(["-f", "/etc/immutag/egress.nft"])).ok();
        for client in clients {
            assert_eq!(stage.pull(client, Way::Mirror, HELD), Outcome::First, "{client}");
        }
        stage.immutag.kill9();
        for client in clients {
            let before = packets_refused();
            let outcome = stage.pull(client, Way::Mirror, HELD);
            let Outcome::Refused(words) = &outcome else { panic!("{client}: {outcome:?}") };
            assert!(words.contains("connect: connection refused"), "{client}: {words}");
            assert!(packets_refused() > before, "{client} did not try to go round");
        }
    });
}

/// How many packets to registries the rules have refused.
fn packets_refused() -> u64 {
    let list = ["-j", "list", "chain", "inet", "immutag_egress", "registries"];
    let listed = run(Command::new("nft").args(list)).ok().stdout;
    let listed: serde_json::Value = listed.parse().expect("JSON");
    let rules = listed["nftables"].as_array().expect("rules").iter();
    let expressions = rules.filter_map(|rule| rule["rule"]["expr"].as_array()).flatten();
    expressions.filter_map(|it| it["counter"]["packets"].as_u64()).sum()
}

/// From now on Docker Hub's names lead out of this host, by a cable at whose end nobody is.
fn lead_outside() {
    let hosts = std::fs::read_to_string("/etc/hosts").expect("this world's own");
    std::fs::write("/etc/hosts", hosts.replace(ADDRESS, OUTSIDE)).expect("this world's own");
    for arguments in [
        &["link", "add", "out", "type", "veth", "peer", "name", "end"][..],
        &["address", "add", "11.11.11.1/24", "dev", "out"],
        &["link", "set", "out", "up"],
        &["link", "set", "end", "up"],
    ] {
        run(Command::new("ip").args(arguments)).ok();
    }
}

#[test]
fn a_client_whose_mirror_is_not_asked_for_tags_is_told_of() {
    play(&a_client_whose_mirror_is_not_asked_for_tags_is_told_of, &[Client::Containerd], || {
        let mut stage = Stage::new();
        stage.release(&[BLOCKED]);
        assert_eq!(stage.pull(Client::Containerd, Way::Mirror, BLOCKED), Outcome::First);
        stage.overwrite(&[BLOCKED]);
        let refused = stage.pull(Client::Containerd, Way::Mirror, BLOCKED);
        assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        stage.assert_nobody_went_round();
        assert!(stage.immutag.metric("immutag_bypasses_total", "").abs() < f64::EPSILON);

        assert_eq!(stage.pull(Client::Containerd, Way::Unresolved, BLOCKED), Outcome::Moved);
        stage.immutag.wait_for_metric("immutag_bypasses_total", "", 1.0);
        stage.immutag.wait_for_metric("immutag_events_total", "bypassed", 1.0);
        stage.immutag.wait_for_log("a client goes round immutag");
        let history = ["ledger", "history", "docker.io/team/block:1.0.0"];
        let told = stage.immutag.cli(&history).ok().stdout;
        let bypass = told.lines().find(|line| line.contains("bypassed")).expect(&told);
        for part in ["127.0.0.1", Stage::moved(BLOCKED).digest()] {
            assert!(bypass.contains(part), "no {part} in {bypass}");
        }
        stage.immutag.assert_alive_and_clean();
    });
}

#[test]
fn a_first_sight_that_the_upstream_refuses_sends_clients_on_and_is_counted() {
    let test = a_first_sight_that_the_upstream_refuses_sends_clients_on_and_is_counted;
    let clients = [Client::Containerd, Client::Docker, Client::Podman];
    play(&test, &clients, || {
        let limited = ScriptedRegistry::start();
        let mut stage = Stage::asking(&limited.url(), |setup| setup);
        limited.fault("* manifests/", Fault::Status(403));
        stage.release(&[BLOCKED]);
        for (n, client) in (1..).zip(clients) {
            assert_eq!(stage.pull(client, Way::Mirror, BLOCKED), Outcome::First, "{client}");
            assert!(!stage.strangers().is_empty(), "{client} had it from Docker Hub");
            stage.immutag.wait_for_metric("immutag_possible_bypass_total", "", f64::from(n));
        }
        // Nothing was pinned by it.
        assert!(stage.immutag.metric("immutag_pins", "").abs() < f64::EPSILON);
        stage.immutag.assert_alive_and_clean();
    });
}
