//! The attack of 2026-04-22, as a run: a publisher's stolen account overwrites five tags and
//! pushes two new ones. Nobody configured anything: the built-in rules decide.

use std::fmt::Write as _;

use crate::support::content::Image;
use crate::support::http::Answer;
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REPOSITORY: &str = "vendor/scanner";
const OVERWRITTEN: [&str; 5] = ["latest", "alpine", "debian", "v2.1.20", "v2.1.20-debian"];
const NEW: [&str; 2] = ["v2.1.21", "v2.1.21-debian"];

/// What each tag got by the end: the table of this file.
const OUTCOME: &str = "\
tag             before    after     pins  warned
latest          genuine   hostile   no    no
alpine          genuine   hostile   no    no
debian          genuine   hostile   no    no
v2.1.20         genuine   genuine   yes   yes
v2.1.20-debian  genuine   genuine   yes   yes
v2.1.21         absent    hostile   yes   no
v2.1.21-debian  absent    hostile   yes   no
";

/// Docker Hub with the publisher's images, and what the thief has ready.
struct Hub {
    registry: ScriptedRegistry,
}

impl Hub {
    fn new() -> Self {
        let hub = Self { registry: ScriptedRegistry::start() };
        for tag in OVERWRITTEN {
            hub.registry.push_image(REPOSITORY, tag, &format!("genuine {tag}"));
        }
        hub
    }

    fn attack(&self) {
        for tag in OVERWRITTEN.iter().chain(&NEW) {
            self.registry.push_image(REPOSITORY, tag, &format!("hostile {tag}"));
        }
    }
}

fn pull(immutag: &Immutag, tag: &str) -> Answer {
    immutag.manifest("docker.io", REPOSITORY, tag)
}

/// Whose image an answer is.
fn whose(answer: &Answer, tag: &str) -> &'static str {
    let of = |whose: &str| Image::new(&format!("{whose} {tag}")).digest().to_owned();
    match answer.digest() {
        _ if answer.status == 404 => "absent",
        digest if digest == of("genuine") => "genuine",
        digest if digest == of("hostile") => "hostile",
        _ => panic!("{tag}: {answer:?}"),
    }
}

#[test]
fn the_seven_tags_of_the_attack_get_what_the_built_in_rules_promise() {
    let hub = Hub::new();
    let mut immutag = Setup::new().docker_io(&hub.registry.url()).start();
    let tags = || OVERWRITTEN.iter().chain(&NEW);
    let before: Vec<_> = tags().map(|tag| whose(&pull(&immutag, tag), tag)).collect();
    immutag.wait_for_metric("immutag_events_total", "observed", 3.0);
    assert!((immutag.metric("immutag_pins", "") - 2.0).abs() < f64::EPSILON);

    hub.attack();
    // After a start every answer is old enough to be checked again.
    immutag.restart();
    for tag in tags() {
        pull(&immutag, tag);
    }
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 2.0);
    immutag.wait_for_metric("immutag_events_total", "observed", 3.0);

    let mut table = format!("{:14}  {:8}  {:8}  {:4}  warned\n", "tag", "before", "after", "pins");
    for (tag, before) in tags().zip(before) {
        let answer = pull(&immutag, tag);
        let pins = if tag.starts_with('v') { "yes" } else { "no" };
        let warned = if answer.field("Warning").is_some() { "yes" } else { "no" };
        let after = whose(&answer, tag);
        writeln!(table, "{tag:14}  {before:8}  {after:8}  {pins:4}  {warned}").unwrap();
    }
    println!("{table}");
    assert_eq!(table, OUTCOME);
    assert!((immutag.metric("immutag_pins", "") - 4.0).abs() < f64::EPSILON);
    immutag.assert_alive_and_clean();
}

/// The kinds of events in a tag's history, the first one first.
fn history(immutag: &Immutag, tag: &str) -> Vec<String> {
    let ran = immutag.cli(&["ledger", "history", &format!("docker.io/{REPOSITORY}:{tag}")]).ok();
    let kind = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        event["kind"].as_str().expect("an event has a kind").to_owned()
    };
    ran.stdout.lines().map(kind).collect()
}

#[test]
fn a_hostile_first_pin_is_cured_by_revoke_and_approve() {
    let hub = Hub::new();
    let mut immutag = Setup::new().docker_io(&hub.registry.url()).start();
    hub.attack();
    let tag = NEW[0];
    let hostile = pull(&immutag, tag).digest().to_owned();
    assert_eq!(history(&immutag, tag), ["pinned"]);

    immutag.cli(&["ledger", "revoke", &hostile, "--reason", "stolen account"]).ok();
    let blocked = pull(&immutag, tag);
    assert!(blocked.text().contains("was revoked by the operator"), "{}", blocked.text());
    // By digest neither; and no other content has taken its place.
    let by_digest = pull(&immutag, &hostile);
    assert!(by_digest.text().contains("was revoked by the operator"), "{}", by_digest.text());

    let genuine = hub.registry.push_image(REPOSITORY, tag, &format!("genuine {tag}"));
    immutag.restart();
    pull(&immutag, tag);
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    assert!(pull(&immutag, tag).text().contains("was revoked"), "nobody has approved it yet");
    let reference = format!("docker.io/{REPOSITORY}:{tag}");
    let approve = ["ledger", "approve", &reference, "--digest", genuine.digest()];
    immutag.cli(&[&approve[..], &["--reason", "the publisher is back"]].concat()).ok();
    assert_eq!(whose(&pull(&immutag, tag), tag), "genuine");
    assert_eq!(history(&immutag, tag), ["pinned", "conflict", "approved"]);
    immutag.assert_alive_and_clean();
}
