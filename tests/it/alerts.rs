//! What is told to webhooks: faults O-02.

mod outbox;
mod receivers;

use rustix::process::Signal;

use crate::support::content::Image;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::immutag::{Immutag, immutag};
use crate::support::receiver::{KEY, PATH, Receiver, assert_signed, body};
use crate::support::registry::ScriptedRegistry;
use crate::support::server::Reply;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// A registry whose tags can be moved, and a receiver.
struct Stage {
    registry: ScriptedRegistry,
    receiver: Receiver,
    moved: Image,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let moved = Image::new("b");
        registry.put_image("app", &moved);
        Self { registry, receiver: Receiver::start(), moved }
    }

    /// Every tag is held, and asked for at each pull.
    fn bare(&self) -> Setup {
        let setup = Setup::new().upstream(REGISTRY, &self.registry.url()).every_tag("hold", "0s");
        setup.secret("canary-of-a-secret-path").secret("Y2FuYXJ5LW9mLWEtc2lnbmluZy")
    }

    /// The same with the receiver, signed, and more lines for it.
    fn setup(&self, lines: &str) -> Setup {
        let setup = self.bare();
        let key = setup.file("oncall.secret", KEY);
        let lines = format!("secret-file = \"{}\"\n{lines}", key.display());
        setup.tables(&self.receiver.table("oncall", &lines))
    }

    /// Lets immutag pin `app:<tag>` and then see it moved.
    fn move_tag(&self, immutag: &Immutag, tag: &str) {
        let image = self.registry.push_image("app", tag, tag);
        assert_eq!(immutag.manifest(REGISTRY, "app", tag).digest(), image.digest());
        self.registry.retag("app", tag, self.moved.digest());
        let before = immutag.metric("immutag_conflicts_total", "");
        immutag.manifest(REGISTRY, "app", tag);
        immutag.wait_for_metric("immutag_conflicts_total", "", before + 1.0);
    }
}

#[test]
fn a_moved_tag_is_told_signed_with_the_commands_that_end_it() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for(1);
    let got = stage.receiver.got();
    assert_eq!(got.len(), 1, "a first sight is nobody's business");
    assert_eq!((got[0].method.as_str(), got[0].path.as_str()), ("POST", PATH));
    assert_signed(&got[0], KEY);
    let event = body(&got[0]);
    assert_eq!(event["id"].as_str(), got[0].fields.get("webhook-id"));
    assert_eq!(event["type"], "io.immutag.conflict");
    assert_eq!(event["subject"], format!("{REGISTRY}/app:1.0.0"));
    let data = &event["data"];
    let pinned = Image::new("1.0.0");
    assert_eq!(
        (&data["pinned"], &data["observed"]),
        (&pinned.digest().into(), &stage.moved.digest().into())
    );
    assert_eq!((&data["severity"], &data["pin-is-young"]), (&"critical".into(), &true.into()));
    assert_eq!(data["reaction"], "hold");
    let head = &data["ledger"];
    assert_eq!(head["size"], data["sequence"]);
    assert_eq!(event["source"], format!("urn:immutag:ledger:{}", head["id"].as_str().unwrap()));

    // The command that it names ends it, and is told too.
    let commands = data["commands"].as_array().unwrap();
    let reject = commands.iter().map(|it| it["run"].as_str().unwrap());
    let reject = reject.into_iter().find(|run| run.contains("reject")).unwrap();
    let words: Vec<_> = reject.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
    immutag.cli(&words).ok();
    stage.receiver.wait_for(2);
    assert_eq!(stage.receiver.kinds(), ["conflict", "rejected"]);
    assert!(stage.receiver.taken()[1]["data"]["who"].is_string());
    immutag.assert_no_secret(&immutag.cli(&["validate"]).ok().stdout);
    immutag.assert_alive_and_clean();
}

#[test]
fn an_upstream_that_hangs_hides_nothing_of_what_is_at_hand() {
    let stage = Stage::new();
    let immutag = stage.setup("").start();
    let gate = Gate::closed();
    let hanging = format!("GET app/blobs/{}", stage.moved.config.digest);
    stage.registry.fault(&hanging, Fault::Hold(gate.clone()));
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for(1);
    assert!(stage.registry.count(&hanging) >= 1, "it was asked for, in vain");
    let event = body(&stage.receiver.got()[0]);
    assert!(event["data"]["changes"].is_string(), "{event}");
    gate.open();
}

#[test]
fn a_chat_gets_text_and_only_the_events_and_severities_that_it_wants() {
    let stage = Stage::new();
    let chat = Receiver::start();
    let lines = "format = \"slack\"\nevents = [\"conflict\", \"pinned\"]\nmin-severity = \"high\"";
    let setup = stage.setup("").tables(&chat.table("chat", lines));
    let immutag = setup.start();
    stage.move_tag(&immutag, "1.0.0");
    immutag.cli(&["ledger", "forget", &format!("{REGISTRY}/app:1.0.0"), "--reason", "x"]).ok();
    stage.receiver.wait_for(2);
    chat.wait_for(1);
    assert_eq!(stage.receiver.kinds(), ["conflict", "forgotten"]);
    let got = chat.got();
    assert_eq!(got.len(), 1, "a pin is not severe enough");
    assert_eq!(got[0].fields.get("webhook-signature"), None);
    let text = body(&got[0])["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("immutag: conflict (critical)\n"), "{text}");
    assert!(text.contains("`immutag ledger approve registry.example/app:1.0.0"), "{text}");
}

#[test]
fn a_test_message_is_sent_without_a_server_and_its_exit_code_tells() {
    let stage = Stage::new();
    let mut immutag = stage.setup("").start();
    immutag.terminate();
    let ran = immutag.cli(&["notify", "test", "--json"]).ok();
    let line: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!((&line["webhook"], &line["status"]), (&"oncall".into(), &204.into()));
    let got = stage.receiver.got();
    assert_eq!(got.len(), 1);
    assert_signed(&got[0], KEY);
    assert_eq!(body(&got[0])["type"], "io.immutag.test");
    stage.receiver.then([Reply::new(500)]);
    let ran = immutag.cli(&["notify", "test", "oncall", "--table"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.stdout.starts_with("oncall: it answers 500, after "), "{ran:?}");
    immutag.assert_no_secret(&format!("{ran:?}"));
    immutag.cli(&["notify", "test", "nobody"]).failed_with("there is no webhook");
}

#[test]
fn a_reload_takes_other_webhooks_and_one_that_is_wrong_changes_nothing() {
    let stage = Stage::new();
    let immutag = stage.setup("").start();
    let good = immutag.configuration();
    immutag.write_configuration(&good.replace("allow-private = true\nsecret", "secret"));
    immutag.signal(Signal::HUP);
    immutag.wait_for_log("the configuration stays as it was");
    stage.move_tag(&immutag, "1.0.0");
    stage.receiver.wait_for(1);
    let other = Receiver::start();
    let port = |receiver: &Receiver| format!(":{}/", receiver.port());
    let moved = good.replace(&port(&stage.receiver), &port(&other));
    immutag.write_configuration(&moved.replace("\"oncall\"", "\"night-shift\""));
    immutag.signal(Signal::HUP);
    immutag.wait_for_log("were read again");
    eventually("the metrics of the old one are gone", || {
        let metrics = immutag.metrics();
        !metrics.keys().any(|series| series.contains("oncall"))
            && metrics.keys().any(|series| series.contains("night-shift"))
    });
    stage.move_tag(&immutag, "2.0.0");
    other.wait_for(1);
    assert_eq!(other.taken()[0]["subject"], format!("{REGISTRY}/app:2.0.0"));
    assert_eq!(stage.receiver.kinds(), ["conflict"]);
}

#[test]
fn a_webhook_that_cannot_be_right_refuses_the_start_without_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("immutag.toml");
    for (lines, words) in [
        (
            "url = \"http://169.254.169.254/canary\"\nplain-http = true\nallow-private = true",
            "private",
        ),
        ("url = \"https://a.localhost/canary\"", "private"),
        ("url = \"https://127.0.0.1/canary\"", "private"),
        ("url = \"https://user:canary@alerts.example/\"", "without a user"),
        ("url = \"http://alerts.example/canary\"", "plain-http"),
    ] {
        let text = format!("[[webhook]]\nname = \"x\"\nunsigned = true\n{lines}\n");
        std::fs::write(&file, text).unwrap();
        let ran = immutag(&["validate", "--config", file.to_str().unwrap()]);
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("canary"), "{ran:?}");
    }
}
