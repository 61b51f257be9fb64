//! Hold is whole or it is not hold: a pin that something stands against is served only if all that
//! a client will ask for after it is to be had, too.
//!
//! A blob that fails sends Docker's daemon to the next source, tag and all, and there is the
//! content that the pin is to keep away. So the check comes before the manifest.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::asking::Origin;
use super::closure::{AT_ONCE, Closure, Gap, Scope};
use super::covered::PATIENCE;
use super::refusal::{Reason, Refusal};
use super::retain::Need;
use super::{ManifestReply, ManifestRequest, Pull};
use crate::ledger::StoredManifest;
use crate::pin::{Content, Pin, PinKey, TagState};

impl Pull {
    /// Whether all of a pin is here, so that no upstream can take anything away from it.
    pub(super) async fn is_whole_here(
        self: &Arc<Self>,
        request: &ManifestRequest,
        pin: &Pin,
    ) -> bool {
        let manifest = match self.memory.manifests.get(&pin.content.digest) {
            Some(manifest) => Some(manifest),
            None => self.load_pinned(pin).await,
        };
        let Some(manifest) = manifest else { return false };
        let origin = request.origin();
        let looked = self.look_at_content(&origin, &manifest, Scope::Here).await;
        let Ok(closure) = looked else { return false };
        closure.gaps.is_empty() && self.absent(&origin, &closure.blobs).await.is_empty()
    }

    /// Refuses the tag if something stands against its pin and a part of what is to be served is
    /// neither here nor at the upstream; a part that the upstream does not vouch for in time counts
    /// as gone.
    pub(super) async fn check_whole(
        self: &Arc<Self>,
        request: &ManifestRequest,
        key: &PinKey,
        state: &TagState,
        manifest: &StoredManifest,
    ) -> Result<(), Refusal> {
        let Some(pin) = state.pin.as_ref().filter(|_| is_contested(state)) else { return Ok(()) };
        let origin = request.origin();
        let looking = self.find_gap(&origin, key, pin, manifest);
        let gap = tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| {
            let slow = "the upstream did not say within 5 s whether it has what is not held here";
            let why = Refusal::new(Reason::UpstreamTimeout, slow);
            Some(Gap { digest: manifest.content.digest, why })
        });
        gap.map_or(Ok(()), |gap| Err(broken(key, state, pin, &gap)))
    }

    /// Refuses what leads to anything that a person denied everywhere: a client that is refused a
    /// layer only goes to the next source for it.
    pub(super) async fn check_revoked(
        self: &Arc<Self>,
        origin: &Origin,
        manifest: &StoredManifest,
    ) -> Result<(), Refusal> {
        let ledger = &self.edges.ledger;
        if !ledger.has_revoked() {
            return Ok(());
        }
        let closure = self.followed(origin, manifest).await?;
        // An index may name a child by another algorithm than a person denied it by.
        let computed = closure.manifests.iter().map(|manifest| &manifest.content.digest);
        let mut all = closure.named.iter().chain(computed);
        let revoked = all.find(|digest| ledger.is_revoked(digest));
        revoked.map_or(Ok(()), |digest| Err(Refusal::revoked(*digest)))
    }

    /// The same for a reply that is the upstream's, and may be a claim as yet.
    pub(super) async fn check_reply(
        self: &Arc<Self>,
        origin: &Origin,
        reply: &ManifestReply,
    ) -> Result<(), Refusal> {
        let Some(digest) = reply.digest.filter(|_| self.edges.ledger.has_revoked()) else {
            return Ok(());
        };
        if let (Some(bytes), Some(media_type)) = (&reply.bytes, &reply.media_type) {
            let (media_type, size_bytes) = (media_type.clone(), bytes.len() as u64);
            let content = Content { digest, media_type, size_bytes };
            let manifest = StoredManifest { content, bytes: bytes.clone() };
            return self.check_revoked(origin, &manifest).await;
        }
        let fetching = self.stored_or_fetched(origin, digest);
        match tokio::time::timeout(PATIENCE, fetching).await {
            Ok(Ok(manifest)) => self.check_revoked(origin, &manifest).await,
            // What is not to be had in time is not to be had for the client either.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// All that is to be had of what a client may ask for. What the upstream did not give, or not in
    /// time, no client gets either, and it is not asked for again within the minute.
    async fn followed(
        self: &Arc<Self>,
        origin: &Origin,
        manifest: &StoredManifest,
    ) -> Result<Arc<Closure>, Refusal> {
        let unread = &self.memory.unread;
        let place = (origin.circle().0, manifest.content.digest);
        if !unread.contains_key(&place) {
            let following = self.look_at_content(origin, manifest, Scope::Pulled);
            match tokio::time::timeout(PATIENCE, following).await {
                Ok(looked) => {
                    let closure = looked?;
                    if !closure.gaps.is_empty() {
                        unread.insert(place, ());
                    }
                    return Ok(closure);
                }
                Err(_) => unread.insert(place, ()),
            }
        }
        self.look_at_content(origin, manifest, Scope::Here).await
    }

    async fn find_gap(
        self: &Arc<Self>,
        origin: &Origin,
        key: &PinKey,
        pin: &Pin,
        manifest: &StoredManifest,
    ) -> Option<Gap> {
        let closure = match self.look_at_content(origin, manifest, Scope::Pulled).await {
            Ok(closure) => closure,
            Err(why) => return Some(Gap { digest: manifest.content.digest, why }),
        };
        let absent = self.absent(origin, &closure.blobs).await;
        if !absent.is_empty() || !closure.gaps.is_empty() {
            self.complete_later(origin, key, pin, Need::Contested);
        }
        if let Some(gap) = closure.gaps.last() {
            return Some(gap.clone());
        }
        let asking = stream::iter(absent).map(|digest| self.find_upstream(origin, digest));
        let gaps = asking.buffer_unordered(AT_ONCE).filter_map(std::future::ready);
        std::pin::pin!(gaps).next().await
    }
}

/// Whether the upstream may give something else than the pin to a client that asks it: what was
/// rejected, too, is still there.
pub(super) fn is_contested(state: &TagState) -> bool {
    state.conflict.is_some() || state.deleted_ms.is_some() || !state.rejected.is_empty()
}

fn broken(key: &PinKey, state: &TagState, pin: &Pin, gap: &Gap) -> Refusal {
    let pinned = pin.content.digest;
    let observed = state.conflict.as_ref().map(|open| open.observed);
    let stands = match observed {
        Some(observed) => format!("the upstream now answers {observed}"),
        None if state.deleted_ms.is_some() => "the upstream has deleted it".to_owned(),
        None => "the upstream had moved it".to_owned(),
    };
    let anew = match observed {
        Some(observed) => {
            format!("to follow the upstream: immutag ledger approve {key} --digest {observed}")
        }
        None => format!("to start anew: immutag ledger forget {key}"),
    };
    Refusal {
        pinned: Some(pinned),
        observed,
        help: format!("push {pinned} to the upstream again; or {anew} --reason WHY"),
        retry_after: gap.why.retry_after,
        ..Refusal::new(
            Reason::PinnedContentGone,
            format!(
                "{key} is pinned to {pinned}, {stands}, and {} of the pinned content is not to \
                 be had: {}",
                gap.digest, gap.why.message
            ),
        )
    }
}
