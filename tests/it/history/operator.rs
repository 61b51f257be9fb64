//! The person who decides about tags, and who stops and starts immutag.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use super::checker::{Decided, Decision};
use super::random::Random;
use super::stage::Images;
use super::{REGISTRY, now, pause};
use crate::support::immutag::Immutag;
use crate::support::process::kill;

/// The person, and what was decided so far.
pub(super) struct Operator<'a> {
    immutag: &'a mut Immutag,
    images: &'a Images,
    is_up: &'a AtomicBool,
    revoked: Vec<String>,
    step: u64,
    pub(super) decisions: Vec<Decision>,
    pub(super) restarts: usize,
}

impl<'a> Operator<'a> {
    pub(super) fn new(immutag: &'a mut Immutag, images: &'a Images, is_up: &'a AtomicBool) -> Self {
        let (revoked, decisions) = (Vec::new(), Vec::new());
        Self { immutag, images, is_up, revoked, step: 0, decisions, restarts: 0 }
    }

    /// Does one thing, and lets others go on for a while.
    pub(super) fn step(&mut self, random: &mut Random, is_over: &AtomicBool) {
        self.step += 1;
        match random.below(100) {
            0..80 => {
                let command = self.command(random);
                self.decide(command, None);
            }
            80..88 => {
                // A kill while the decision is under way.
                let command = self.command(random);
                let id = self.immutag.id();
                self.is_up.store(false, Ordering::SeqCst);
                self.decide(command, Some((id, random.between(0, 60))));
                self.start();
            }
            88..95 => {
                self.is_up.store(false, Ordering::SeqCst);
                self.start();
            }
            _ => {
                self.is_up.store(false, Ordering::SeqCst);
                self.immutag.terminate();
                self.start();
            }
        }
        pause(random, 50, 300, is_over);
    }

    /// Kills it if it runs, and starts it.
    fn start(&mut self) {
        self.immutag.restart();
        self.restarts += 1;
        self.is_up.store(true, Ordering::SeqCst);
    }

    /// A decision's words, and what it is about.
    fn command(&mut self, random: &mut Random) -> (Vec<String>, Decided) {
        let tag = self.images.pick(random, self.step * 20);
        let reference = format!("{REGISTRY}/app:{}", tag.name);
        let digest = random.one_of(&tag.digests).clone();
        let of_tag = Decided::OfTag(tag.name.clone());
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        // Soon: as long as anything is revoked, no answer is simply given again.
        if random.is_in(60)
            && let Some(digest) = self.revoked.pop()
        {
            return (words(&["revoke", &digest, "--undo"]), Decided::Unrevoked(digest));
        }
        match random.below(100) {
            0..70 => (words(&["approve", &reference, "--digest", &digest]), of_tag),
            70..82 => (words(&["reject", &reference, "--digest", &digest]), of_tag),
            82..92 => (words(&["forget", &reference]), of_tag),
            _ => {
                self.revoked.push(digest.clone());
                (words(&["revoke", &digest]), Decided::Revoked(digest))
            }
        }
    }

    /// Decides; `kill` is immutag's process, and when to kill it, in milliseconds.
    fn decide(&mut self, (words, what): (Vec<String>, Decided), killed: Option<(u32, u64)>) {
        let why = format!("decision {}", self.step);
        let mut command = vec!["ledger"];
        command.extend(words.iter().map(String::as_str));
        command.extend(["--reason", &why, "--json"]);
        let immutag = &*self.immutag;
        let begun = now();
        let ran = std::thread::scope(|scope| {
            if let Some((id, after_ms)) = killed {
                scope.spawn(move || {
                    let until = now() + after_ms * 1000;
                    while now() < until {
                        std::thread::yield_now();
                    }
                    kill(id, Signal::KILL);
                });
            }
            immutag.cli(&command)
        });
        let ended = now();
        let told = ran.stdout.lines().next().and_then(|line| serde_json::from_str(line).ok());
        let told: serde_json::Value = told.unwrap_or_default();
        let is_acknowledged = ran.status.success() && told["changed"] == true;
        self.decisions.push(Decision { what, why, begun, ended, is_acknowledged });
    }
}
