//! Nothing is lost, and nothing is told twice.

use std::collections::BTreeSet;

use super::{REGISTRY, Stage};
use crate::support::receiver::{Receiver, body};
use crate::support::server::Reply;

#[test]
fn what_could_not_be_told_is_told_after_a_kill_in_order_and_once() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    stage.move_tag(&immutag, "0.0.1");
    stage.receiver.wait_for(1);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "delivered", 1.0);
    stage.receiver.always(Some(Reply::new(503)));
    for tag in ["1.0.0", "2.0.0", "3.0.0"] {
        stage.move_tag(&immutag, tag);
    }
    stage.receiver.wait_for_tries(2);
    immutag.wait_for_metric("immutag_notify_pending", "oncall", 3.0);
    immutag.restart();
    stage.receiver.wait_for_tries(3);
    stage.receiver.always(None);
    immutag.restart();
    stage.receiver.wait_for(4);
    let subjects: Vec<_> = stage.receiver.taken().iter().map(|it| it["subject"].clone()).collect();
    let expected = ["0.0.1", "1.0.0", "2.0.0", "3.0.0"].map(|tag| format!("{REGISTRY}/app:{tag}"));
    assert_eq!(subjects, expected);
    // The one that was tried before is the same message at each try.
    let tries = stage.receiver.got();
    let second = tries.iter().filter(|request| body(request)["subject"] == expected[1]);
    let ids: BTreeSet<_> = second.map(|request| request.fields.get("webhook-id")).collect();
    assert_eq!(ids.len(), 1);
    immutag.restart();
    immutag.wait_for_metric("immutag_notify_pending", "", 0.0);
    stage.move_tag(&immutag, "4.0.0");
    stage.receiver.wait_for(5);
    assert_eq!(stage.receiver.taken().len(), 5, "nothing of before came again");
    immutag.assert_alive_and_clean();
}

#[test]
fn what_happens_while_the_server_is_down_is_told_by_its_next_start() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for(1);
    assert!(immutag.terminate().success());
    let tag = format!("{REGISTRY}/app:1.0.0");
    let digest = stage.moved.digest();
    immutag.cli(&["ledger", "approve", &tag, "--digest", digest, "--reason", "x"]).ok();
    immutag.restart();
    stage.receiver.wait_for(2);
    assert_eq!(stage.receiver.kinds(), ["conflict", "approved"]);
}

#[test]
fn a_stop_tries_once_more_what_is_due_and_leaves_the_rest_to_the_next_start() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    // By its own word it is not to be asked within the hour.
    let busy = || Reply::new(503).field("Retry-After", "3600");
    stage.receiver.then([busy()]);
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for_tries(1);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "failed", 1.0);
    assert!(immutag.terminate().success());
    assert_eq!(stage.receiver.kinds(), ["conflict"]);

    stage.receiver.always(Some(busy()));
    immutag.restart();
    stage.move_tag(&immutag, "2.0.0");
    stage.receiver.wait_for_tries(3);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "failed", 1.0);
    assert!(immutag.terminate().success());
    assert_eq!(stage.receiver.got().len(), 4, "once more, and no longer");
    stage.receiver.always(None);
    immutag.restart();
    stage.receiver.wait_for(2);
    assert_eq!(stage.receiver.kinds(), ["conflict", "conflict"]);
}

#[test]
fn repeats_that_waited_are_told_by_one_message_that_counts_them() {
    let stage = Stage::new();
    let immutag = stage.setup("").start();
    let first = stage.registry.push_image("app", "1.0.0", "1.0.0");
    stage.receiver.always(Some(Reply::new(503).field("Retry-After", "2")));
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for_tries(1);
    for turn in 1..=3 {
        for (digest, kind) in [(first.digest(), "healed"), (stage.moved.digest(), "flapped")] {
            stage.registry.retag("app", "1.0.0", digest);
            immutag.manifest(REGISTRY, "app", "1.0.0");
            immutag.wait_for_metric("immutag_events_total", kind, f64::from(turn));
        }
    }
    stage.receiver.always(None);
    stage.receiver.wait_for(3);
    assert_eq!(stage.receiver.kinds(), ["conflict", "healed", "flapped"]);
    let counts: Vec<_> =
        stage.receiver.taken().iter().map(|it| it["data"]["repeats"]["count"].clone()).collect();
    assert_eq!(counts, [serde_json::Value::Null, 3.into(), 3.into()]);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "delivered", 3.0);
}

#[test]
fn one_webhook_that_fails_holds_up_no_other() {
    let stage = Stage::new();
    let other = Receiver::start();
    stage.receiver.always(Some(Reply::new(500)));
    let setup = stage.setup("").tables(&other.table("other", "unsigned = true"));
    let mut immutag = setup.start();
    for tag in ["1.0.0", "2.0.0"] {
        stage.move_tag(&immutag, tag);
    }
    other.wait_for(2);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "failed\",webhook=\"oncall", 1.0);
    assert!(stage.receiver.taken().is_empty());
    let ran = immutag.cli(&["notify", "status", "--json"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let states: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&states[0]["name"], &states[0]["state"]), (&"oncall".into(), &"failing".into()));
    assert_eq!(states[0]["last-error"], "it answers 500");
    assert_eq!((&states[1]["name"], &states[1]["state"]), (&"other".into(), &"well".into()));
    immutag.assert_no_secret(&ran.stdout);
    immutag.assert_alive_and_clean();
}
