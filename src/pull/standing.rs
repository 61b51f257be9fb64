//! What an answer rests on, and whether it still stands: a pinned and fresh tag is answered over
//! and over again, and each time all that decides it says the same.
//!
//! No rule is decided here. An answer of the long way ([`Pull::manifest`]) may be given again as
//! long as nothing that could have made it another one has changed; on any doubt the long way is
//! gone again.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::asking::Origin;
use super::covered::Asked;
use super::tripwire::ARMED;
use super::whole::is_contested;
use super::{ManifestRequest, Pull, place};
use crate::config::Credentials;
use crate::oci::Digest;
use crate::pin::TagState;
use crate::policy::Rule;
use crate::policy::judge::is_within;

/// How long an answer may stand, in milliseconds: links, and what else the long way looks at or
/// takes note of, may be as old as this.
const STANDS_MS: u64 = 60_000;

/// How often a client that gets the same digest again is noted as having it.
const NOTED: Duration = ARMED.checked_div(2).expect("two is not zero");

/// What settings, canary and ledger were when an answer was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    settings: u64,
    ledger: u64,
}

/// What an answer rests on.
#[derive(Clone, Debug)]
pub struct Standing(Arc<Ground>);

#[derive(Debug)]
struct Ground {
    epoch: Epoch,
    since_ms: u64,
    digest: Digest,
    by: By,
}

/// What the client asked by.
#[derive(Debug)]
enum By {
    /// The digest. A recorded tag's claim may wait for whoever asks for it.
    Digest { claim: (Arc<str>, Digest) },
    /// A covered tag.
    Tag { asked: Arc<Asked>, recheck: Duration, noted: Mutex<Option<(IpAddr, u64)>> },
}

impl Pull {
    /// What holds now; to be read before anything else of it is. `None`: it cannot be known when
    /// that changes, or the request came by what does not hold any more.
    pub(super) fn epoch_of(&self, request: &ManifestRequest) -> Option<Epoch> {
        let epoch = self.epoch()?;
        let ManifestRequest { upstream, repository, .. } = request;
        let is_public = upstream.config.credentials != Credentials::Client;
        let is_canary = self.canary_upstream(repository.as_str()).is_some();
        let located = self.settings.load().upstreams.locate(&upstream.name);
        let is_same = located.is_some_and(|located| Arc::ptr_eq(&located, upstream));
        (is_public && is_same && !is_canary).then_some(epoch)
    }

    fn epoch(&self) -> Option<Epoch> {
        let settings = self.turns.load(Ordering::Acquire);
        Some(Epoch { settings, ledger: self.edges.ledger.version()? })
    }

    /// No answer stands any more; to be said after every change of what answers rest on, the
    /// ledger apart: settings, canary, which content is to be held and what it is called.
    pub(super) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// What the answer for a covered tag rests on, if it was the pin's and nothing is to be told or
    /// looked at with it.
    pub(super) fn standing_of_tag(
        &self,
        epoch: Option<Epoch>,
        state: &TagState,
        rule: &Rule,
        asked: &Arc<Asked>,
        digest: Digest,
    ) -> Option<Standing> {
        let is_plain = !is_contested(state) && !self.edges.ledger.has_revoked();
        let (asked, recheck) = (Arc::clone(asked), rule.recheck);
        let by = By::Tag { asked, recheck, noted: Mutex::default() };
        epoch.filter(|_| is_plain).map(|epoch| self.standing(epoch, digest, by))
    }

    /// What the answer for a digest rests on. Where a pin wants it held, that was just begun.
    pub(super) fn standing_of_digest(
        &self,
        epoch: Option<Epoch>,
        origin: &Origin,
        digest: Digest,
    ) -> Option<Standing> {
        let claim = (place(&origin.upstream.name, &origin.repository), digest);
        Some(self.standing(epoch?, digest, By::Digest { claim }))
    }

    fn standing(&self, epoch: Epoch, digest: Digest, by: By) -> Standing {
        let since_ms = self.now_ms();
        Standing(Arc::new(Ground { epoch, since_ms, digest, by }))
    }

    /// Whether the answer may be given again, to this client. If so it is counted and noted like
    /// the first time.
    pub fn stands(&self, standing: &Standing, client: IpAddr) -> bool {
        let Ground { epoch, since_ms, digest, by } = &*standing.0;
        let now_ms = self.now_ms();
        if self.epoch() != Some(*epoch) || now_ms.saturating_sub(*since_ms) >= STANDS_MS {
            return false;
        }
        match by {
            By::Digest { claim } => {
                if self.memory.claims.contains_key(claim) || self.is_armed(client, *digest) {
                    return false;
                }
            }
            By::Tag { asked, recheck, noted } => {
                let at_ms = asked.at_ms.load(Ordering::Relaxed);
                if at_ms == 0 || !is_within(at_ms, now_ms, *recheck) {
                    return false;
                }
                self.give_again(client, *digest, now_ms, noted);
            }
        }
        self.memory.manifest_hits.inc();
        true
    }

    /// Notes what the client got, unless that was just noted.
    fn give_again(
        &self,
        client: IpAddr,
        digest: Digest,
        now_ms: u64,
        noted: &Mutex<Option<(IpAddr, u64)>>,
    ) {
        let Ok(mut noted) = noted.try_lock() else { return self.give(client, digest) };
        let is_noted =
            noted.is_some_and(|(other, at)| other == client && is_within(at, now_ms, NOTED));
        if !is_noted {
            self.give(client, digest);
            *noted = Some((client, now_ms));
        }
    }
}
