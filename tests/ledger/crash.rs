//! `kill -9` at random points: what was acknowledged is there, and nothing contradicts it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use immutag::event::EventKind;
use immutag::ledger::{FileLedger, LedgerStore, OpenOptions, Outcome};

use super::common::{is_long, key, manifest, open, options, random, try_open, until_known};

/// What was acknowledged, by tag: the text of the manifest that was said to be pinned.
pub(crate) type Acknowledged = HashMap<String, String>;

/// Not a test of its own: what the processes do that are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_pins_until_it_is_killed() {
    let Some(dir) = std::env::var_os("IMMUTAG_TEST_PIN") else { return };
    let ledger = Arc::new(open(Path::new(&dir)));
    println!("\nopen");
    let racers = (0..8).map(|racer| {
        let ledger = ledger.clone();
        tokio::spawn(async move { pin_on_and_on(&ledger, racer).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
}

/// Pins the tags in turn, each racer to a manifest of its own, and says what the ledger says.
async fn pin_on_and_on(ledger: &FileLedger, racer: u64) {
    let start = if racer < 2 { 0 } else { ledger.status().pins };
    for n in start.. {
        let (tag, text) = (format!("t{n}"), format!("{} of {}", racer, std::process::id()));
        let Ok(outcome) = ledger.pin_if_absent(&key(&tag), manifest(&text), "rule").await else {
            // A power cut; the parent sees to the rest.
            if ledger.status().failure.is_some() {
                return;
            }
            continue;
        };
        let (Outcome::Raced(state) | Outcome::Written(state)) = outcome;
        let digest = state.pin.as_ref().unwrap().content.digest;
        let mut out = std::io::stdout().lock();
        if writeln!(out, "ack {tag} {digest}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// A process that pins into `dir`.
pub(crate) struct Pinner {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Pinner {
    /// Starts it; returns when its ledger is open.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "crash::a_child_pins_until_it_is_killed"])
            .env("IMMUTAG_TEST_PIN", dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "open"), "the child did not open its ledger");
        Self { child, lines }
    }

    /// Lets it pin until so many new tags are acknowledged: a busy machine only takes longer.
    pub(crate) fn run(&mut self, acknowledged: &mut Acknowledged, tags: u64) {
        let goal = acknowledged.len() as u64 + tags;
        while (acknowledged.len() as u64) < goal {
            let Some(Ok(line)) = self.lines.next() else { break };
            note(&line, acknowledged);
        }
    }

    /// Kills it, and takes what it still said.
    pub(crate) fn kill(mut self, acknowledged: &mut Acknowledged) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in self.lines.by_ref().map_while(Result::ok) {
            note(&line, acknowledged);
        }
    }
}

/// Takes an acknowledgement; fails if it contradicts an earlier one. A line cut short is none.
fn note(line: &str, acknowledged: &mut Acknowledged) {
    let mut words = line.split(' ');
    let (Some("ack"), Some(tag), Some(digest)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    if digest.len() == "sha256:".len() + 64 {
        let before = acknowledged.entry(tag.to_owned()).or_insert_with(|| digest.to_owned());
        assert_eq!(before, digest, "{tag} was answered with two digests");
    }
}

/// Opens the ledger and holds it against what was acknowledged.
pub(crate) async fn check(options: &OpenOptions, acknowledged: &Acknowledged) {
    let ledger = try_open(options).unwrap();
    let verified = ledger.verify().unwrap();
    let tags = until_known(async || ledger.list(None, usize::MAX).await).await;
    assert_eq!(verified.tags, tags.len());
    let tags: HashMap<_, _> = tags.into_iter().collect();
    for (tag, digest) in acknowledged {
        let pin = tags.get(&key(tag)).and_then(|state| state.pin.clone());
        let pin = pin.unwrap_or_else(|| panic!("{tag} was acknowledged and is lost"));
        assert_eq!(pin.content.digest.to_string(), *digest, "{tag}");
    }
    let mut pinned = HashMap::new();
    for event in ledger.events(0, usize::MAX).await.unwrap() {
        if event.kind == EventKind::Pinned {
            let again = pinned.insert(event.key.clone().unwrap(), event.observed_digest().unwrap());
            assert_eq!(again, None, "a second first sight: {event:?}");
        }
    }
    for digest in pinned.values() {
        let kept = until_known(async || ledger.manifest(digest).await).await;
        assert!(kept.is_some(), "the manifest {digest} is lost");
    }
    ledger.close().await;
}

#[tokio::test]
async fn no_acknowledged_pin_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    for round in 0..if is_long() { 500 } else { 30 } {
        let mut pinner = Pinner::start(dir.path());
        pinner.run(&mut acknowledged, random(20));
        pinner.kill(&mut acknowledged);
        // Every other start follows upon a kill without an orderly end between.
        if round % 2 == 1 {
            let options = OpenOptions { verify: random(2) == 0, ..options(dir.path()) };
            check(&options, &acknowledged).await;
        }
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}
