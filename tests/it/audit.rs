//! Watching: what is noticed, accepted, begun anew and let through with nobody pulling, and how much
//! of an upstream's patience that takes.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::content::Image;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Answer, Call, head};
use crate::support::immutag::Immutag;
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

mod now;
mod quota;

const REGISTRY: &str = "registry.example";
const HOUR: Duration = Duration::from_hours(1);

/// Within this a young pin, or an open conflict, is asked for: its period, and as far ahead as it is
/// planned without knowing of it.
const SOON: Duration = Duration::from_mins(75);
const DAY: Duration = Duration::from_hours(24);

/// A registry with `app:1.0.0` at image A, and B ready to be moved to.
struct Stage {
    registry: ScriptedRegistry,
    a: Image,
    b: Image,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        let b = Image::new("b");
        registry.put_image("app", &b);
        Self { registry, a, b }
    }

    /// Watched as by default, under one rule for every tag.
    fn setup(&self, rule: &str) -> Setup {
        Setup::new()
            .upstream(REGISTRY, &self.registry.url())
            .rules(&format!("[[rule]]\n{rule}\n"))
            .tables("[audit]\ninterval = \"24h\"\n")
    }

    fn start(&self, rule: &str) -> InProcess {
        InProcess::start(self.setup(rule))
    }

    /// The same, and the tag is pinned to A, and that for so long that it is nothing young.
    fn pinned(&self, rule: &str) -> InProcess {
        let immutag = self.start(rule);
        assert_eq!(pull(&immutag).digest(), self.a.digest());
        immutag.audit_after(DAY * 4, "match", 1);
        immutag
    }

    fn point_to(&self, image: &Image) {
        self.registry.retag("app", "1.0.0", image.digest());
    }
}

fn pull(immutag: &InProcess) -> Answer {
    immutag.direct_manifest(REGISTRY, "app", "1.0.0")
}

fn reason(answer: &Answer) -> String {
    answer.json()["errors"][0]["detail"]["reason"].as_str().expect("a refusal").to_owned()
}

#[test]
fn a_tag_that_moved_is_noticed_with_nobody_pulling_it() {
    let stage = Stage::new();
    let immutag = stage.pinned("on-conflict = \"hold\"");
    stage.point_to(&stage.b);
    immutag.audit_after(DAY, "conflict", 1);
    assert_eq!(immutag.events("conflict"), 1);
    assert_eq!(immutag.metrics().conflicts.with_label_values(&["hold"]).get(), 1);
    assert_eq!(pull(&immutag).digest(), stage.a.digest());
    stage.point_to(&stage.a);
    immutag.audit_after(SOON, "match", 1);
    assert_eq!(immutag.events("healed"), 1);
}

#[test]
fn a_young_pin_is_asked_for_each_hour() {
    let stage = Stage::new();
    let immutag = stage.start("on-conflict = \"block\"");
    assert_eq!(pull(&immutag).digest(), stage.a.digest());
    stage.point_to(&stage.b);
    immutag.audit_after(SOON, "conflict", 1);
    assert_eq!(reason(&pull(&immutag)), "DIGEST_CHANGED");
}

#[test]
fn under_alert_the_pin_follows_without_a_pull() {
    let stage = Stage::new();
    let immutag = stage.pinned("on-conflict = \"alert\"");
    stage.point_to(&stage.b);
    immutag.audit_after(DAY, "match", 1);
    assert_eq!((immutag.events("conflict"), immutag.events("followed")), (1, 1));
}

#[test]
fn what_stood_for_accept_after_becomes_the_pin_without_a_pull_and_a_flap_begins_anew() {
    let stage = Stage::new();
    let immutag = stage.pinned("on-conflict = \"hold\"\naccept-after = \"2d\"");
    stage.point_to(&stage.b);
    immutag.audit_after(DAY, "conflict", 1);
    stage.point_to(&stage.a);
    immutag.audit_after(47 * HOUR, "match", 1);
    stage.point_to(&stage.b);
    immutag.audit_after(DAY, "conflict", 1);
    assert_eq!(immutag.events("flapped"), 1);
    immutag.audit_after(47 * HOUR, "conflict", 1);
    assert_eq!(immutag.events("accepted"), 0, "the time before the flap does not count");
    immutag.audit_after(HOUR, "match", 1);
    assert_eq!(immutag.events("accepted"), 1);
    assert_eq!(pull(&immutag).digest(), stage.b.digest());
}

#[test]
fn a_deleted_tag_is_noticed_and_healed_when_it_is_back_as_it_was() {
    let stage = Stage::new();
    let immutag = stage.pinned("on-conflict = \"hold\"");
    stage.registry.delete_tag("app", "1.0.0");
    immutag.audit_after(DAY, "gone", 1);
    assert_eq!(immutag.events("deleted"), 1);
    assert_eq!(pull(&immutag).digest(), stage.a.digest(), "an old pin is held");
    stage.point_to(&stage.a);
    immutag.audit_after(DAY, "match", 1);
    assert_eq!(immutag.events("healed"), 1);
    stage.registry.delete_tag("app", "1.0.0");
    immutag.audit_after(DAY, "gone", 1);
    stage.point_to(&stage.b);
    immutag.audit_after(DAY, "conflict", 1);
}

#[test]
fn a_tag_is_refused_until_it_has_stood_for_min_age_and_is_the_pin_then_without_a_pull() {
    let stage = Stage::new();
    let immutag = stage.start("on-conflict = \"hold\"\nmin-age = \"2d\"\nrecheck = \"1m\"");
    let refused = pull(&immutag);
    assert_eq!((refused.status, reason(&refused).as_str()), (403, "PIN_PENDING"));
    let message = refused.json()["errors"][0]["message"].to_string();
    for words in [
        "min-age 2d",
        "first seen there at 2027-01-15T08:00:00Z",
        "served from 2027-01-17T08:00:00Z on",
        "immutag ledger approve registry.example/app:1.0.0 --digest sha256:",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let head = immutag.direct_head(REGISTRY, "app", "1.0.0");
    assert_eq!((head.status, head.field("immutag-reason")), (403, Some("PIN_PENDING")));
    assert_eq!(stage.registry.count("* manifests/1.0.0"), 1, "within recheck nobody asks again");
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", stage.a.digest()).status, 200);

    immutag.audit_after(12 * HOUR, "pending", 1);
    immutag.audit_after(35 * HOUR, "pending", 1);
    assert_eq!(reason(&pull(&immutag)), "PIN_PENDING");
    assert_eq!((immutag.events("pending"), immutag.events("pinned")), (1, 0));
    immutag.audit_after(HOUR, "match", 1);
    assert_eq!(immutag.events("pinned"), 1);
    assert_eq!(pull(&immutag).digest(), stage.a.digest());
}

#[test]
fn another_digest_or_a_deletion_begins_min_age_anew() {
    let stage = Stage::new();
    let immutag = stage.start("on-conflict = \"block\"\nmin-age = \"2d\"");
    assert_eq!(reason(&pull(&immutag)), "PIN_PENDING");
    stage.point_to(&stage.b);
    immutag.audit_after(47 * HOUR, "pending", 1);
    assert_eq!(immutag.events("pending"), 2);
    stage.registry.delete_tag("app", "1.0.0");
    immutag.audit_after(47 * HOUR, "gone", 1);
    stage.point_to(&stage.b);
    assert_eq!(reason(&pull(&immutag)), "PIN_PENDING");
    immutag.audit_after(47 * HOUR, "pending", 1);
    assert_eq!((immutag.events("pending"), immutag.events("pinned")), (3, 0));
    immutag.audit_after(HOUR, "match", 1);
    assert_eq!(pull(&immutag).digest(), stage.b.digest());
}

#[test]
fn a_young_tag_is_refused_in_the_blocks_form_also_while_its_upstream_is_down_until_a_person_says() {
    let mut stage = Stage::new();
    let rule = "on-conflict = \"alert\"\nmin-age = \"2d\"\nrecheck = \"0s\"";
    let mut immutag = stage.setup(rule).start();
    let url = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let refused = head(&url);
    assert_eq!(refused.status, 300);
    assert!(refused.reason.contains("(PIN_PENDING)"), "{}", refused.reason);
    stage.registry.stop();
    let refused = immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(refused.status, 200);
    assert!(refused.text().contains("(PIN_PENDING)") && refused.text().contains("looked at"));
    let tag = format!("{REGISTRY}/app:1.0.0");
    let approve = ["ledger", "approve", &tag, "--digest", stage.a.digest(), "--reason", "mine"];
    immutag.cli(&approve).ok();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    immutag.assert_alive_and_clean();
}

/// Two registries with `app:1.0.0` and `app:1.0.1`, pinned and no longer young.
fn two() -> (ScriptedRegistry, ScriptedRegistry, InProcess) {
    let [one, other] = [0, 1].map(|_| {
        let registry = ScriptedRegistry::start();
        for tag in ["1.0.0", "1.0.1"] {
            registry.push_image("app", tag, tag);
        }
        registry
    });
    let setup = Setup::new()
        .upstream("one.example", &one.url())
        .upstream("other.example", &other.url())
        .every_tag("hold", "0s")
        .tables("[audit]\ninterval = \"24h\"\n");
    let immutag = InProcess::start(setup);
    for registry in ["one.example", "other.example"] {
        for tag in ["1.0.0", "1.0.1"] {
            assert_eq!(immutag.direct_manifest(registry, "app", tag).status, 200);
        }
    }
    immutag.audit_after(4 * DAY, "match", 4);
    (one, other, immutag)
}

#[test]
fn a_429_is_obeyed_for_its_upstream_alone() {
    let (one, _other, immutag) = two();
    for fault in [Fault::Status(429), Fault::field("Retry-After", "3000")] {
        one.fault("* manifests/", fault);
    }
    let before = one.count("* manifests/");
    immutag.audit_after(DAY, "match", 2);
    immutag.audit_after(DAY, "match", 2);
    immutag.audit_after(DAY, "match", 2);
    let asked = one.count("* manifests/") - before;
    assert!((1..=2).contains(&asked), "{asked} times, both tags at once at most");
}

#[test]
fn the_last_quarter_of_a_limit_is_left_to_clients() {
    let (one, _other, immutag) = two();
    one.fault("* manifests/", Fault::field("RateLimit-Limit", "100;w=21600"));
    one.fault("* manifests/", Fault::field("RateLimit-Remaining", "24;w=21600"));
    assert_eq!(immutag.direct_manifest("one.example", "app", "1.0.0").status, 200);
    let limits = &immutag.metrics().limits;
    let said = |gauge: &prometheus::IntGaugeVec| gauge.with_label_values(&["one.example"]).get();
    crate::support::wait::eventually("the limit in the metrics", || {
        said(&limits.limit) == 100 && said(&limits.remaining) == 24
    });
    let before = one.count("* manifests/");
    immutag.audit_after(DAY, "match", 2);
    immutag.audit_after(DAY, "match", 2);
    assert_eq!(one.count("* manifests/"), before);
    assert!(immutag.metrics().audit.overdue.get() > 0);
}

#[test]
fn an_upstream_that_hangs_holds_up_no_other() {
    let (one, _other, immutag) = two();
    let gate = Gate::closed();
    one.fault("* manifests/", Fault::Hold(gate.clone()));
    immutag.audit_after(DAY, "match", 2);
    immutag.audit_after(DAY, "match", 2);
    assert!(gate.arrived() > 0);
    gate.open();
}

#[test]
fn an_upstream_that_takes_the_clients_credentials_is_not_asked() {
    let stage = Stage::new();
    let setup = Setup::new()
        .upstream_with(REGISTRY, &stage.registry.url(), "credentials = \"client\"\n")
        .every_tag("hold", "0s")
        .tables("[audit]\ninterval = \"24h\"\n");
    let immutag = InProcess::start(setup);
    assert_eq!(pull(&immutag).digest(), stage.a.digest());
    let before = stage.registry.count("* manifests/");
    immutag.audit_after(SOON, "skipped", 1);
    assert_eq!(stage.registry.count("* manifests/"), before);
}

#[test]
fn a_reload_takes_a_new_interval_and_offline_asks_nobody() {
    let stage = Stage::new();
    let setup = |interval: &str, offline: bool| {
        let mut setup = Setup::new().upstream(REGISTRY, &stage.registry.url());
        setup =
            setup.every_tag("hold", "1h").tables(&format!("[audit]\ninterval = \"{interval}\"\n"));
        setup.top(&format!("offline = {offline}"))
    };
    let mut immutag = setup("0s", false).start();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), stage.a.digest());
    let change = |immutag: &Immutag, from: &str, to: &str| {
        let toml = immutag.configuration();
        let changed = toml.replace(from, to);
        assert_ne!(toml, changed);
        immutag.write_configuration(&changed);
        immutag.signal(Signal::HUP);
    };
    assert!(immutag.metric("immutag_audit_rounds_total", "") < 1.0, "an interval of 0 is none");
    change(&immutag, "interval = \"0s\"", "interval = \"1s\"");
    immutag.wait_for_metric("immutag_audit_asks_total", "match", 2.0);
    assert!(immutag.metric("immutag_audit_watched", "") > 0.0);
    let toml = immutag.configuration().replace("\"0s\"", "\"1s\"").replace("= false", "= true");
    immutag.write_configuration(&toml);
    immutag.signal(Signal::HUP);
    crate::support::wait::eventually("the second reload", || {
        immutag.log().matches("were read again").count() == 2
    });
    let rounds = immutag.metric("immutag_audit_rounds_total", "");
    immutag.wait_for_metric("immutag_audit_rounds_total", "", rounds + 1.0);
    let asked = stage.registry.count("* manifests/");
    let rounds = immutag.metric("immutag_audit_rounds_total", "");
    immutag.wait_for_metric("immutag_audit_rounds_total", "", rounds + 3.0);
    assert_eq!(stage.registry.count("* manifests/"), asked);
    immutag.assert_alive_and_clean();
}

/// `GET`s a manifest at the mirror by HEAD and GET, and gives both.
fn both(immutag: &Immutag, tag: &str) -> (Answer, Answer) {
    let url = immutag.mirror(&format!("app/manifests/{tag}?ns={REGISTRY}"));
    (Call::new("HEAD", &url).send(), immutag.manifest(REGISTRY, "app", tag))
}
