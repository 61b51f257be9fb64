//! An overwritten release and its clean-up, replayed with a real registry and with nobody pulling:
//! what the operator sees, in which order, and which commands end it. `docs/incident.md` is this
//! run, for people; `--success-output immediate` prints it.
//!
//! A publisher's stolen account pushes over five tags of a scanner, as on 2026-04-22. Some hours
//! later the publisher deletes what is hostile, or puts the genuine images back, or releases anew.

mod alerts;
mod before;
mod inside;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::process::{Ran, have};
use crate::support::receiver::{KEY, Receiver};
use crate::support::setup::Setup;
use crate::support::wait::{eventually, within};

const REGISTRY: &str = "registry.example";
const REPOSITORY: &str = "vendor/scanner";
const TAGS: [&str; 5] = ["latest", "alpine", "debian", "v2.1.20", "v2.1.20-debian"];

/// What the publisher deletes first, and pushes again later.
const DELETED: [&str; 2] = ["alpine", "debian"];

/// What the publisher releases anew under the same name.
const REBUILT: &str = "v2.1.20-debian";

/// The clients: the one pulls all tags, the other only [`FAVOURITE`].
const ALICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const FAVOURITE: &str = "v2.1.20";

/// How long an event may take that is written after the reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// The scanner's tags are held.
const RULES: &str = "\
[[rule]]
registry = \"registry.example\"
repository = \"vendor/scanner\"
on-conflict = \"hold\"
";

/// Every pin is asked for once a minute, and who pulled what is known.
const TABLES: &str = "\
[audit]
interval = \"1m\"
[journal]
keep = \"90d\"
";

#[test]
fn an_overwritten_release_is_told_with_nobody_pulling_and_ended_by_what_the_alerts_say() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    // Both wait for the same minute.
    std::thread::scope(|scope| {
        scope.spawn(before::play);
        inside::play();
    });
}

/// The registry, immutag between it and its clients, and the operator's receiver of alerts.
struct Incident {
    registry: DockerRegistry,
    immutag: Immutag,
    receiver: Receiver,
    /// How many messages were looked at.
    seen: usize,
}

impl Incident {
    /// The publisher has released.
    fn new() -> Self {
        let (registry, receiver) = (DockerRegistry::start(), Receiver::start());
        let setup = Setup::new().upstream(REGISTRY, registry.url()).rules(RULES);
        let key = setup.file("oncall.secret", KEY);
        let signed = format!("secret-file = \"{}\"", key.display());
        let setup = setup.tables(TABLES).tables(&receiver.table("oncall", &signed));
        let incident = Self { immutag: setup.start(), registry, receiver, seen: 0 };
        for tag in TAGS {
            incident.push("genuine", tag);
        }
        incident
    }

    /// Pushes an image over the tag: the publisher's, or the thief's. When that was.
    fn push(&self, whose: &str, tag: &str) -> Instant {
        self.registry.push(REPOSITORY, tag, &image(whose, tag));
        Instant::now()
    }

    /// The publisher deletes what the thief pushed, and with it the tag.
    fn delete_hostile(&self, tag: &str) -> Instant {
        self.registry.delete_manifest(REPOSITORY, image("hostile", tag).digest());
        Instant::now()
    }

    /// A client of the mirror pulls a tag, or by digest.
    fn pull(&self, client: Ipv4Addr, reference: &str) -> Answer {
        let path = format!("{REPOSITORY}/manifests/{reference}?ns={REGISTRY}");
        accepting(Call::new("GET", &self.immutag.mirror(&path))).from(client).send()
    }

    /// The clients pull, and the journal has it.
    fn everybody_pulls(&self, whose: &str) {
        for tag in TAGS {
            self.assert_gets(whose, tag);
            self.assert_history(tag, &[&format!("pinned {whose}")]);
        }
        let digest = image(whose, FAVOURITE).digest().to_owned();
        assert_eq!(self.pull(BOB, FAVOURITE).digest(), digest);
        eventually("the journal has both", || {
            let found = self.immutag.cli(&["pulls", "--digest", &digest]).ok().stdout;
            [ALICE, BOB].iter().all(|client| found.contains(&client.to_string()))
        });
    }

    /// The client gets this one's image.
    #[track_caller]
    fn assert_gets(&self, whose: &str, tag: &str) {
        let answer = self.pull(ALICE, tag);
        assert_eq!(answer.digest(), image(whose, tag).digest(), "{tag}: {}", answer.text());
    }

    /// The client gets no image and, on a mirror, no way to the registry.
    #[track_caller]
    fn assert_refused(&self, reference: &str, words: &str) {
        let text = self.pull(ALICE, reference).text();
        let is_refused = text.contains("application/vnd.immutag.blocked") && text.contains(words);
        assert!(is_refused, "{reference}: {text}");
    }

    /// What a person types, and what that prints.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the runbook is made of it")]
    fn types(&self, words: &[&str]) -> Ran {
        let ran = self.immutag.cli(words);
        let Ran { status, stdout, stderr } = &ran;
        let typed: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        println!("$ immutag {}\n{stdout}{stderr}({status})\n", typed.join(" "));
        ran
    }

    /// The publisher says that it is over: the operator has everything asked for at once.
    #[track_caller]
    fn audits_now(&self, code: i32) {
        let ran = self.types(&["audit", "now", "registry.example/vendor/**", "--table"]);
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
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
            let event: Value = serde_json::from_str(line).expect("a line of JSON");
            let digest = event["observed"]["digest"].as_str().unwrap_or_default();
            let kind = event["kind"].as_str().expect("an event has a kind");
            format!("{kind} {}", whose(digest, tag)).trim().to_owned()
        };
        ran.stdout.lines().map(told).collect()
    }

    /// It is over: nothing waits for a decision, every tag stands for this one's image, real
    /// clients get all of it, and the ledger is sound.
    fn assert_over(&mut self, of: impl Fn(&str) -> &'static str) {
        self.audits_now(0);
        self.types(&["ledger", "list", "--conflicts", "--table"]);
        let open = self.immutag.cli(&["ledger", "list", "--conflicts", "--json"]).ok().stdout;
        assert_eq!(open, "");
        let direct = self.immutag.addresses().direct.to_string();
        let home = Home::plain(&[&direct]);
        for tag in TAGS {
            let reference = format!("{direct}/{REGISTRY}/{REPOSITORY}:{tag}");
            assert_eq!(home.skopeo_digest(&reference), image(of(tag), tag).digest());
            home.skopeo_copy(&reference).ok();
        }
        self.types(&["ledger", "verify", "--table"]).ok();
        self.immutag.assert_alive_and_clean();
    }
}

/// The publisher's image of the tag; what the thief made of it, with a layer on top that runs
/// first; or what the publisher released after that.
fn image(whose: &str, tag: &str) -> Image {
    let (base, sizes, entrypoint): (_, &[usize], _) = match whose {
        "genuine" => ("scanner", &[2048, 512], "/scanner"),
        "hostile" => ("scanner", &[2048, 512, 256], "/collector"),
        "rebuilt" => ("scanner rebuilt", &[2048, 512], "/scanner"),
        _ => panic!("nobody knows {whose}"),
    };
    Image::layered(&format!("{base} {tag}"), sizes).configured(&json!({"Entrypoint": [entrypoint]}))
}

/// Whose image of the tag that is, or nothing.
fn whose(digest: &str, tag: &str) -> &'static str {
    let all = ["genuine", "hostile", "rebuilt"];
    all.into_iter().find(|it| image(it, tag).digest() == digest).unwrap_or_default()
}

/// A word as a person types it.
fn quoted(word: &str) -> String {
    if word.contains([' ', '*']) { format!("'{word}'") } else { word.to_owned() }
}

fn reference(tag: &str) -> String {
    format!("{REGISTRY}/{REPOSITORY}:{tag}")
}
