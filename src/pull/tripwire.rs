//! The tripwire: a client that was refused a tag under block, and now asks for the very digest that
//! was kept from it, had that digest from somebody else.
//!
//! After a bypass containerd and `BuildKit` still ask their mirror for the digest first. The digest
//! itself is served, since somebody's own `tag@digest` is lawful; that it was asked for is told.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::refusal::Refusal;
use super::{ManifestRequest, Pull, remembering};
use crate::event::{Draft, EventKind};
use crate::ledger::Outcome;
use crate::oci::Digest;
use crate::pin::PinKey;

/// How long after a refusal asking for its digest is no coincidence.
pub(super) const ARMED: Duration = Duration::from_mins(1);

/// How often one client at one refused digest is written down.
const TOLD: Duration = Duration::from_hours(24);

/// How often a write is tried again that another one outran.
const ROUNDS: usize = 4;

/// Who was refused what, who was given what, and what was told of it.
pub(super) struct Tripwire {
    /// Whether anybody was refused anything since the start.
    is_armed: AtomicBool,
    refused: moka::sync::Cache<(IpAddr, Digest), PinKey>,
    given: moka::sync::Cache<(IpAddr, Digest), ()>,
    told: moka::sync::Cache<(IpAddr, Digest, PinKey), ()>,
}

impl Default for Tripwire {
    fn default() -> Self {
        Self {
            is_armed: AtomicBool::new(false),
            refused: remembering(100_000, ARMED),
            // A client that gets the same again is noted again only after half of that time.
            given: remembering(100_000, ARMED + ARMED / 2),
            told: remembering(10_000, TOLD),
        }
    }
}

#[cfg(test)]
impl Tripwire {
    pub(super) fn forget_given(&self) {
        self.given.invalidate_all();
    }

    pub(super) fn has_told(&self, client: IpAddr, digest: Digest, key: &PinKey) -> bool {
        self.told.contains_key(&(client, digest, key.clone()))
    }
}

impl Pull {
    /// Notes that a client was refused a tag in the block's form, because the upstream answers
    /// another digest.
    pub fn arm(&self, client: IpAddr, refusal: &Refusal) {
        if let (Some(key), Some(observed)) = (&refusal.key, refusal.observed) {
            self.memory.tripwire.refused.insert((one_client(client), observed), key.clone());
            self.memory.tripwire.is_armed.store(true, Ordering::Release);
        }
    }

    /// Notes that a client got a digest from us, by a tag: a publisher's `1.0.0` may have moved to
    /// what is `latest`, and whoever pulls both has the digest by `latest`.
    pub(super) fn give(&self, client: IpAddr, digest: Digest) {
        self.memory.tripwire.given.insert((one_client(client), digest), ());
    }

    /// Whether a client got this digest from us just now, by a tag.
    pub(super) fn is_given(&self, client: IpAddr, digest: Digest) -> bool {
        self.memory.tripwire.given.contains_key(&(one_client(client), digest))
    }

    /// Whether this client was just refused this digest, in whatever repository.
    pub(super) fn is_armed(&self, client: IpAddr, digest: Digest) -> bool {
        let tripwire = &self.memory.tripwire;
        tripwire.is_armed.load(Ordering::Acquire)
            && tripwire.refused.contains_key(&(one_client(client), digest))
    }

    /// Tells, if this client was just refused this digest.
    pub(super) fn trip(self: &Arc<Self>, request: &ManifestRequest, digest: Digest) {
        let client = one_client(request.asker.client);
        let refused = self.memory.tripwire.refused.get(&(client, digest));
        let is_it = |key: &PinKey| {
            key.registry == request.upstream.name && key.repository == request.repository
        };
        let Some(key) = refused.filter(is_it) else { return };
        if self.is_given(client, digest) {
            return;
        }
        let address = request.asker.client.to_canonical();
        // The HEAD and the GET of one client are one bypass.
        self.memory.tripwire.refused.invalidate(&(client, digest));
        self.edges.metrics.bypasses.inc();
        tracing::error!(client = %address, upstream = %key.registry, repository = %key.repository,
            tag = %key.tag, observed = %digest,
            "a client goes round immutag: it asks for the digest that it was just refused");
        let told = self.memory.tripwire.told.entry((client, digest, key.clone())).or_insert(());
        if told.is_fresh() {
            let pull = Arc::clone(self);
            tokio::spawn(async move { pull.write_bypassed(key, address, digest).await });
        }
    }

    async fn write_bypassed(&self, key: PinKey, client: IpAddr, digest: Digest) {
        for _ in 0..ROUNDS {
            let Ok(Some(state)) = self.edges.ledger.state(&key).await else { break };
            let draft = Draft {
                pinned: state.pin.as_ref().map(|pin| pin.content.digest),
                observed: state.seen(&digest).map(|seen| seen.content.clone()),
                who: client.to_string(),
                why: "it asked for the digest that it was refused within the minute".to_owned(),
                ..Draft::new(EventKind::Bypassed, Some(key.clone()))
            };
            match self.edges.ledger.append(draft, state.sequence, None).await {
                Ok(Outcome::Written(_)) => {
                    let kind = EventKind::Bypassed.name();
                    self.edges.metrics.events.with_label_values(&[kind]).inc();
                    return;
                }
                Ok(Outcome::Raced(_)) => {}
                Err(error) => {
                    tracing::error!(%key, %client, %error, "a bypass could not be written down");
                    return;
                }
            }
        }
    }
}

/// Who counts as one: an IPv4 address, or a /64 network, of which a single host has all addresses.
pub fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}
