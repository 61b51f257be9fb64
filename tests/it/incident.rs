//! An overwritten release and its clean-up, replayed with a real registry: what clients get, what
//! the ledger writes, and which commands end it. `docs/incident.md` is this run, for people.
//!
//! A publisher's stolen account pushes over five tags of a scanner, as on 2026-04-22. Some hours
//! later the publisher deletes what is hostile, or puts the genuine images back.

use std::time::Duration;

use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::http::Answer;
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::setup::Setup;
use crate::support::wait::{eventually, within};

const REGISTRY: &str = "registry.example";
const REPOSITORY: &str = "vendor/scanner";
const TAGS: [&str; 5] = ["latest", "alpine", "debian", "v2.1.20", "v2.1.20-debian"];

/// What the publisher deletes first, and pushes again later.
const DELETED: [&str; 2] = ["alpine", "debian"];

/// How long an event may take that is written after the reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// The scanner's tags are held, and each pull asks: no test waits a minute.
const RULES: &str = "\
[[rule]]
registry = \"registry.example\"
repository = \"vendor/scanner\"
on-conflict = \"hold\"
recheck = \"0s\"
";

/// The registry, and immutag between it and its clients.
struct Incident {
    registry: DockerRegistry,
    immutag: Immutag,
}

impl Incident {
    /// The publisher has released; `None` without the registry's program.
    fn new() -> Option<Self> {
        if !have(&["docker-registry", "skopeo"]) {
            return None;
        }
        let registry = DockerRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, registry.url());
        let incident = Self { immutag: setup.rules(RULES).start(), registry };
        for tag in TAGS {
            incident.push("genuine", tag);
        }
        Some(incident)
    }

    /// Pushes an image over the tag: the publisher's, or the thief's.
    fn push(&self, whose: &str, tag: &str) {
        self.registry.push(REPOSITORY, tag, &image(whose, tag));
    }

    fn attack(&self) {
        for tag in TAGS {
            self.push("hostile", tag);
        }
    }

    /// The publisher deletes what the thief pushed, and with it the tag.
    fn delete_hostile(&self, tag: &str) {
        self.registry.delete_manifest(REPOSITORY, image("hostile", tag).digest());
    }

    /// A client of the mirror pulls the tag.
    fn pull(&self, tag: &str) -> Answer {
        self.immutag.manifest(REGISTRY, REPOSITORY, tag)
    }

    /// The client gets this one's image.
    #[track_caller]
    fn assert_gets(&self, whose: &str, tag: &str) {
        let answer = self.pull(tag);
        assert_eq!(answer.digest(), image(whose, tag).digest(), "{tag}: {}", answer.text());
    }

    /// The client gets no image and, on a mirror, no way to the registry. A whole pin is served
    /// before the upstream is asked: one more client may get it.
    #[track_caller]
    fn assert_refused(&self, tag: &str, words: &str) {
        eventually(&format!("{tag} is refused"), || {
            let text = self.pull(tag).text();
            text.contains("application/vnd.immutag.blocked") && text.contains(words)
        });
    }

    /// `immutag ledger …`, and what it prints for a person.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the runbook is made of it")]
    fn ledger(&self, words: &[&str]) -> String {
        let command = [&["ledger"], words, &["--table"]].concat();
        let printed = self.immutag.cli(&command).ok().stdout;
        println!("$ immutag {}\n{printed}", command.join(" "));
        printed
    }

    /// The events of the tag, and for each whose image was observed with it; the last may come
    /// after the reply.
    #[track_caller]
    fn assert_history(&self, tag: &str, expected: &[&str]) {
        let mut told = Vec::new();
        within(PATIENCE, || {
            told = self.history(tag);
            told == expected
        });
        assert_eq!(told, expected, "{tag}");
    }

    fn history(&self, tag: &str) -> Vec<String> {
        let ran = self.immutag.cli(&["ledger", "history", &reference(tag), "--json"]).ok();
        let told = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            let digest = event["observed"]["digest"].as_str().unwrap_or_default();
            let whose = ["genuine", "hostile"];
            let whose = whose.into_iter().find(|it| image(it, tag).digest() == digest);
            let kind = event["kind"].as_str().expect("an event has a kind");
            format!("{kind} {}", whose.unwrap_or_default()).trim().to_owned()
        };
        ran.stdout.lines().map(told).collect()
    }

    /// The tags that wait for a decision.
    fn conflicts(&self) -> usize {
        let ran = self.immutag.cli(&["ledger", "list", "--conflicts", "--json"]).ok();
        ran.stdout.lines().count()
    }
}

fn image(whose: &str, tag: &str) -> Image {
    Image::new(&format!("{whose} {tag}"))
}

fn reference(tag: &str) -> String {
    format!("{REGISTRY}/{REPOSITORY}:{tag}")
}

#[test]
fn tags_that_were_pinned_before_the_attack_stay_genuine_until_the_publisher_is_back() {
    let Some(mut it) = Incident::new() else { return };
    for tag in TAGS {
        it.assert_gets("genuine", tag);
        it.assert_history(tag, &["pinned genuine"]);
    }
    it.attack();
    for tag in TAGS {
        it.assert_gets("genuine", tag);
        it.assert_history(tag, &["pinned genuine", "conflict hostile"]);
        let warned = it.pull(tag).field("Warning").expect("a warning").to_owned();
        assert!(warned.contains("is held at"), "{warned}");
        println!("Warning: {warned}");
    }
    assert_eq!(it.conflicts(), TAGS.len());
    it.ledger(&["list", "--conflicts"]);
    it.ledger(&["history", &reference("v2.1.20")]);

    // What is hostile goes nowhere any more, whatever the tags do.
    for tag in TAGS {
        let hostile = image("hostile", tag);
        it.ledger(&["revoke", hostile.digest(), "--reason", "stolen account"]);
    }
    for tag in DELETED {
        it.delete_hostile(tag);
        it.assert_refused(tag, "deleted");
        it.assert_history(tag, &["pinned genuine", "conflict hostile", "deleted"]);
    }
    for tag in TAGS {
        it.push("genuine", tag);
        it.assert_gets("genuine", tag);
        let mut expected = vec!["pinned genuine", "conflict hostile"];
        expected.extend(DELETED.contains(&tag).then_some("deleted"));
        expected.push("healed genuine");
        it.assert_history(tag, &expected);
    }
    assert_eq!(it.conflicts(), 0);
    it.ledger(&["history", &reference("alpine")]);
    assert_whole(&it);
    it.ledger(&["verify"]);
    it.immutag.assert_alive_and_clean();
}

#[test]
fn a_first_sight_inside_the_attack_is_told_as_young_and_ended_by_one_command() {
    let Some(mut it) = Incident::new() else { return };
    it.attack();
    for tag in TAGS {
        it.assert_gets("hostile", tag);
        it.assert_history(tag, &["pinned hostile"]);
    }
    for tag in DELETED {
        it.delete_hostile(tag);
        it.assert_refused(tag, "deleted");
        it.assert_history(tag, &["pinned hostile", "deleted"]);
    }
    for tag in TAGS {
        it.push("genuine", tag);
        let mut expected = vec!["pinned hostile"];
        expected.extend(DELETED.contains(&tag).then_some("deleted"));
        expected.push("conflict genuine");
        // Held, as it was first seen: which of both is the hostile one, only a person knows.
        it.assert_gets("hostile", tag);
        it.assert_history(tag, &expected);
        let told = it.ledger(&["history", &reference(tag)]);
        assert!(told.contains("it may itself be the hostile one"), "{told}");

        let (genuine, hostile) = (image("genuine", tag), image("hostile", tag));
        it.ledger(&[
            "approve",
            &reference(tag),
            "--digest",
            genuine.digest(),
            "--revoke",
            hostile.digest(),
            "--reason",
            "first seen while the account was stolen",
        ]);
        it.assert_gets("genuine", tag);
        expected.push("approved genuine");
        it.assert_history(tag, &expected);
        it.assert_refused(hostile.digest(), "revoked");
    }
    assert_eq!(it.conflicts(), 0);
    assert_whole(&it);
    it.ledger(&["verify"]);
    it.immutag.assert_alive_and_clean();
}

/// A real client gets the whole image, and the publisher's.
fn assert_whole(it: &Incident) {
    let direct = it.immutag.addresses().direct.to_string();
    let home = Home::plain(&[&direct]);
    for tag in TAGS {
        let reference = format!("{direct}/{REGISTRY}/{REPOSITORY}:{tag}");
        assert_eq!(home.skopeo_digest(&reference), image("genuine", tag).digest());
        home.skopeo_copy(&reference).ok();
    }
}
