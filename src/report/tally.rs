//! What the journal comes to: one tally for each reference that was asked for.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::{Came, DIGESTS, ROWS, Requests};
use crate::journal::{Method, Outcome, Pulled};
use crate::oci::{Digest, Reference};

/// How many addresses are told apart, over all rows: memory stays bounded.
const CLIENTS: usize = 200_000;

/// What came of the requests for one reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The digests that were given, in the order of first sight.
    pub(super) digests: Vec<Digest>,
    pub(super) requests: Requests,
    pub(super) clients: HashSet<IpAddr>,
    pub(super) outcomes: Vec<Came>,
    /// A digest that a client was kept from.
    pub(super) kept_from: Option<Digest>,
}

/// Everything that was asked for.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) all: BTreeMap<Reference, Tally>,
    clients: usize,
    /// Requests for which there was no row.
    pub(super) lost: u64,
}

impl Tallies {
    /// Counts an entry of the journal in.
    pub(super) fn add(&mut self, pulled: Pulled) {
        if self.all.len() >= ROWS && !self.all.contains_key(&pulled.reference) {
            self.lost = self.lost.saturating_add(pulled.count);
            return;
        }
        let tally = self.all.entry(pulled.reference).or_default();
        let requests = match pulled.method {
            Method::Get => &mut tally.requests.get,
            Method::Head => &mut tally.requests.head,
        };
        *requests = requests.saturating_add(pulled.count);
        if self.clients < CLIENTS && tally.clients.insert(pulled.client) {
            self.clients += 1;
        }
        tally.kept_from = tally.kept_from.or(pulled.kept_from);
        tally.see(pulled.digest);
        tally.count(pulled.outcome, pulled.reason.as_deref(), pulled.count);
    }
}

impl Tally {
    /// Whether anything was given.
    pub(super) fn was_served(&self) -> bool {
        self.outcomes.iter().any(|came| came.outcome != Outcome::Refused)
    }

    /// Whether something came of it.
    pub(super) fn has(&self, outcome: Outcome) -> bool {
        self.outcomes.iter().any(|came| came.outcome == outcome)
    }

    /// Whether something was refused for this reason.
    pub(super) fn has_reason(&self, reason: &str) -> bool {
        self.outcomes.iter().any(|came| came.reason.as_deref() == Some(reason))
    }

    /// Takes what was asked for by the digests to which this reference led.
    pub(super) fn absorb(&mut self, other: &Self) {
        let Requests { get, head, by_digest } = other.requests;
        self.requests.by_digest =
            self.requests.by_digest.saturating_add(get).saturating_add(head) + by_digest;
        self.clients.extend(&other.clients);
        for came in other.outcomes.iter().filter(|came| came.outcome == Outcome::Refused) {
            self.count(came.outcome, came.reason.as_deref(), came.count);
        }
    }

    fn see(&mut self, digest: Option<Digest>) {
        let new = digest.filter(|digest| !self.digests.contains(digest));
        if self.digests.len() < DIGESTS {
            self.digests.extend(new);
        }
    }

    fn count(&mut self, outcome: Outcome, reason: Option<&str>, count: u64) {
        let is_same =
            |came: &&mut Came| came.outcome == outcome && came.reason.as_deref() == reason;
        if let Some(came) = self.outcomes.iter_mut().find(is_same) {
            came.count = came.count.saturating_add(count);
        } else {
            let reason = reason.map(str::to_owned);
            self.outcomes.push(Came { outcome, reason, count });
        }
    }
}
