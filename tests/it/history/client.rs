//! A client that pulls, by every way in, and remembers what it got.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::checker::Answer;
use super::random::Random;
use super::stage::Images;
use super::{REGISTRY, now, pause};
use crate::support::content::sha256;
use crate::support::http::Call;
use crate::support::immutag::accepting;
use crate::support::setup::Addresses;
use crate::support::wait::within;

/// What only a refusal has that is a manifest.
const TOMBSTONE: &str = "application/vnd.immutag.blocked";

/// One of the clients.
pub(super) struct Client<'a> {
    pub(super) addresses: Addresses,
    pub(super) images: &'a Images,
    pub(super) is_over: &'a AtomicBool,
    pub(super) is_up: &'a AtomicBool,
}

impl Client<'_> {
    /// Pulls until it is over.
    pub(super) fn play(&self, random: &mut Random) -> Vec<Answer> {
        let mut answers = Vec::new();
        for step in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let tag = self.images.pick(random, step);
            let is_by_digest = random.is_in(8);
            let reference = if is_by_digest { random.one_of(&tag.digests) } else { &tag.name };
            let method = if random.is_in(20) { "HEAD" } else { "GET" };
            let is_mirror = random.is_in(50);
            if let Some((digest, begun, ended)) = self.ask(method, is_mirror, reference) {
                if is_by_digest {
                    assert_eq!(digest, *reference, "other bytes than were asked for");
                }
                let tag = tag.name.clone();
                answers.push(Answer { tag, digest, begun, ended, is_by_digest });
            }
            pause(random, 2, 20, self.is_over);
            within(Duration::from_secs(5), || self.is_up.load(Ordering::SeqCst));
        }
        answers
    }

    /// The digest of a whole, successful answer, and when it was asked for and was there.
    fn ask(&self, method: &str, is_mirror: bool, reference: &str) -> Option<(String, u64, u64)> {
        let Addresses { mirror, direct, .. } = self.addresses;
        let url = if is_mirror {
            format!("http://{mirror}/v2/app/manifests/{reference}?ns={REGISTRY}")
        } else {
            format!("http://{direct}/v2/{REGISTRY}/app/manifests/{reference}")
        };
        let begun = now();
        let answer = accepting(Call::new(method, &url)).try_send().ok()?;
        let ended = now();
        if answer.status != 200 || !answer.whole || answer.text().contains(TOMBSTONE) {
            return None;
        }
        if method == "HEAD" {
            return Some((answer.digest().to_owned(), begun, ended));
        }
        let digest = sha256(&answer.body);
        assert_eq!(digest, answer.digest(), "the head names another digest");
        Some((digest, begun, ended))
    }
}
