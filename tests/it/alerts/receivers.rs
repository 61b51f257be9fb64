//! Receivers that are slow, broken or hostile.

use rustix::process::Signal;

use super::{REGISTRY, Stage};
use crate::support::apart::apart;
use crate::support::gate::Gate;
use crate::support::receiver::Receiver;
use crate::support::server::{Ending, Framing, Reply};

#[test]
fn a_message_is_tried_again_under_its_id_until_it_is_taken() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    let broken =
        Reply { raw: Some("nonsense\r\n\r\n".into()), ending: Ending::Fin, ..Reply::new(0) };
    let gone = Reply { raw: Some("".into()), ending: Ending::Reset, ..Reply::new(0) };
    stage.receiver.then([Reply::new(500), broken, gone]);
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for(1);
    let got = stage.receiver.got();
    assert_eq!(got.len(), 4);
    assert!(got.iter().all(|it| it.fields.get("webhook-id") == got[0].fields.get("webhook-id")));
    assert!(got.iter().all(|it| it.body == got[0].body));
    immutag.wait_for_metric("immutag_notify_deliveries_total", "delivered", 1.0);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "failed", 3.0);
    assert!(immutag.metric("immutag_notify_last_success_timestamp_seconds", "oncall") > 1e9);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_redirect_is_a_failure_and_nobody_is_told_by_it() {
    let stage = Stage::new();
    let elsewhere = Receiver::start();
    let target = format!("http://127.0.0.1:{}/", elsewhere.port());
    let codes = [301, 302, 303, 307, 308];
    stage.receiver.then(codes.map(|code| Reply::new(code).field("Location", &target)));
    let mut immutag = stage.setup("").start();
    stage.move_tag(&immutag, "1.0.0");
    immutag.wait_for_log("it redirects (301), and redirects are not followed");
    // The rest of the pauses is not waited for: a reload tries anew.
    for tries in 2..=codes.len() {
        immutag.signal(Signal::HUP);
        stage.receiver.wait_for_tries(tries);
    }
    stage.receiver.wait_for(1);
    assert!(elsewhere.got().is_empty());
    immutag.assert_alive_and_clean();
}

#[test]
fn a_name_that_leads_to_an_internal_address_is_never_connected_to() {
    let test = a_name_that_leads_to_an_internal_address_is_never_connected_to;
    apart(&test, &[("127.0.0.1", &["alerts.example"])], || {
        let stage = Stage::new();
        let port = stage.receiver.port();
        let lines = format!(
            "[[webhook]]\nname = \"oncall\"\nurl = \"http://alerts.example:{port}/canary\"\n\
             plain-http = true\nunsigned = true\n"
        );
        let immutag = stage.bare().tables(&lines).secret("canary").start();
        stage.move_tag(&immutag, "1.0.0");
        immutag.wait_for_log("it leads to an address that is not allowed");
        assert!(stage.receiver.got().is_empty());
        immutag.assert_no_secret(&immutag.log());
    });
}

#[test]
fn a_receiver_that_hangs_is_given_up_in_time_and_no_pull_waits_for_it() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let hangs = Reply { pause: Some((0, gate.clone())), ..Reply::new(200) };
    let silent = Reply { raw: Some("HTTP/1.1 200 ".into()), ..Reply::new(0) };
    stage.receiver.then([hangs.body("text/plain", "a"), silent]);
    let mut immutag = stage.setup("timeout = \"300ms\"").start();
    stage.move_tag(&immutag, "1.0.0");
    // The head came, so it is taken; its body is not waited for beyond the bound.
    gate.wait_for(1);
    for tag in ["2.0.0", "3.0.0"] {
        stage.move_tag(&immutag, tag);
    }
    stage.receiver.wait_for(3);
    immutag.wait_for_log("it did not answer in time");
    gate.open();
    immutag.assert_alive_and_clean();
}

#[test]
fn an_answer_without_end_is_dropped() {
    let stage = Stage::new();
    let endless = Reply { framing: Framing::Endless, ..Reply::new(200) };
    stage.receiver.always(Some(endless.body("text/plain", vec![b'x'; 4096])));
    let mut immutag = stage.setup("").start();
    for tag in ["1.0.0", "2.0.0"] {
        stage.move_tag(&immutag, tag);
    }
    stage.receiver.wait_for(2);
    immutag.wait_for_metric("immutag_notify_deliveries_total", "delivered", 2.0);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_until_a_reload() {
    let stage = Stage::new();
    stage.receiver.then([Reply::new(410)]);
    let immutag = stage.setup("").start();
    stage.move_tag(&immutag, "1.0.0");
    immutag.wait_for_log("nothing is sent until a reload");
    stage.move_tag(&immutag, "2.0.0");
    immutag.wait_for_metric("immutag_notify_pending", "oncall", 2.0);
    assert_eq!(stage.receiver.got().len(), 1);
    immutag.signal(Signal::HUP);
    stage.receiver.wait_for(2);
    assert_eq!(stage.receiver.taken()[0]["subject"], format!("{REGISTRY}/app:1.0.0"));
}
