//! Warming: a reference is pulled into the cache as a client would pull it. Its tag is judged,
//! pinned and refused as any other, and what a pin needs of it is held.

mod platform;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::asking::Origin;
use super::closure::{Named, Scope};
use super::filling::{Filling, Source};
use super::refusal::{Reason, Refusal};
use super::{Asker, ManifestRequest, Pull};
use crate::blob::fill::Fill;
use crate::config::ListenerKind;
use crate::ledger::StoredManifest;
use crate::oci::{Accept, CANONICAL_ACCEPT, Descriptor, Digest, Manifest, Reference};
use crate::pin::{Content, PinKey};

pub use platform::WarmPlatform;
use platform::text_of;

/// How many blobs of one reference are fetched at once.
const AT_ONCE: usize = 3;

/// How often it is told how far it is.
const BEAT: Duration = Duration::from_millis(200);

/// How far a warming is, as the manifests claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WarmProgress {
    /// What is here, in bytes.
    pub done_bytes: u64,
    /// All that is wanted, in bytes; 0 as long as that is not known.
    pub total_bytes: u64,
}

/// What a warming came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Warmed {
    /// What the reference stands for: what clients get.
    pub digest: Digest,
    /// The platforms of an index that are here now.
    pub platforms: Vec<String>,
    /// How many blobs that needs.
    pub blobs: u64,
    /// How long they are, in bytes.
    pub size_bytes: u64,
    /// How much of that was fetched for this, in bytes.
    pub fetched_bytes: u64,
    /// What the upstream answers instead, if that is a conflict.
    pub conflict: Option<Digest>,
    /// What clients are told, too.
    pub warnings: Vec<String>,
}

/// What is wanted of a reference.
struct Wanted {
    manifests: Vec<StoredManifest>,
    platforms: Vec<String>,
}

/// Counts bytes as they come.
struct Meter {
    to: watch::Sender<WarmProgress>,
    done: AtomicU64,
    fetched: AtomicU64,
    total_bytes: u64,
}

impl Pull {
    /// Pulls a reference into the cache: for these platforms, or, if none is named, for all of
    /// them, attestations too. Whoever drops it lets go of what is under way.
    pub async fn warm(
        self: &Arc<Self>,
        reference: &Reference,
        platforms: &[WarmPlatform],
        to: watch::Sender<WarmProgress>,
    ) -> Result<Warmed, Refusal> {
        let (origin, root, warnings) = self.pull_root(reference).await?;
        let wanted = self.choose(&origin, &root, platforms).await?;
        let blobs = self.blobs_of(&origin, &wanted).await?;
        let total_bytes = blobs.iter().map(|blob| blob.size_bytes).fold(0, u64::saturating_add);
        let (done, fetched) = Default::default();
        let meter = Arc::new(Meter { to, done, fetched, total_bytes });
        meter.add(0, 0);
        let warm_one = |blob: Named| {
            let (pull, origin, meter) = (Arc::clone(self), origin.clone(), Arc::clone(&meter));
            async move { pull.warm_blob(&origin, blob, &meter).await }
        };
        let warming = stream::iter(blobs.clone()).map(warm_one);
        let mut warming = std::pin::pin!(warming.buffer_unordered(AT_ONCE));
        while let Some(warmed) = warming.next().await {
            warmed?;
        }
        Ok(Warmed {
            digest: root.content.digest,
            platforms: wanted.platforms,
            blobs: blobs.len() as u64,
            size_bytes: total_bytes,
            fetched_bytes: meter.fetched.load(Ordering::Relaxed),
            conflict: self.open_conflict(reference).await,
            warnings,
        })
    }

    async fn pull_root(
        self: &Arc<Self>,
        reference: &Reference,
    ) -> Result<(Origin, StoredManifest, Vec<String>), Refusal> {
        let upstream = self.settings.load().upstreams.locate(&reference.registry);
        let upstream = upstream.ok_or_else(|| {
            let words = format!("the registry {} is not configured", reference.registry);
            Refusal::new(Reason::UpstreamUnknown, words)
        })?;
        // Nobody's address: what is told of clients is not about this.
        let client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let asker = Asker { listener: ListenerKind::Direct, client, credential: None };
        let origin = asker.origin(&upstream, &reference.repository);
        let request = ManifestRequest {
            upstream,
            repository: reference.repository.clone(),
            reference: reference.manifest_reference(),
            is_head: false,
            accept: Accept::parse([CANONICAL_ACCEPT]),
            accept_text: Some(CANONICAL_ACCEPT.to_owned()),
            asker,
        };
        let reply = self.manifest(request).await?;
        let (Some(digest), Some(media_type), Some(bytes)) =
            (reply.digest, reply.media_type, reply.bytes)
        else {
            return Err(Refusal::invalid("EMPTY", "the upstream sent no manifest"));
        };
        let size_bytes = bytes.len() as u64;
        let content = Content { digest, media_type, size_bytes };
        Ok((origin, StoredManifest { content, bytes }, reply.warnings))
    }

    /// The manifests that these platforms need: of an index, its children for them.
    async fn choose(
        self: &Arc<Self>,
        origin: &Origin,
        root: &StoredManifest,
        platforms: &[WarmPlatform],
    ) -> Result<Wanted, Refusal> {
        let parsed = Manifest::parse(&root.bytes, Some(&root.content.media_type));
        let parsed = parsed.map_err(|error| Refusal::unreadable(&error))?;
        let known = parsed.children.iter().filter_map(|child| child.platform.as_ref());
        let known: Vec<_> = known.filter(|platform| !platform.is_unknown()).map(text_of).collect();
        if platforms.is_empty() || !parsed.kind.is_index() {
            return Ok(Wanted { manifests: vec![root.clone()], platforms: known });
        }
        let mut wanted = Wanted { manifests: Vec::new(), platforms: Vec::new() };
        for platform in platforms {
            let fits =
                |child: &&Descriptor| child.platform.as_ref().is_some_and(|it| platform.takes(it));
            let children: Vec<_> = parsed.children.iter().filter(fits).collect();
            if children.is_empty() {
                let words = format!("it has nothing for {platform}, only for {}", known.join(", "));
                return Err(Refusal::new(Reason::ManifestUnknown, words));
            }
            for child in children {
                if self.edges.ledger.is_revoked(&child.digest) {
                    return Err(Refusal::revoked(child.digest));
                }
                wanted.manifests.push(self.stored_or_fetched(origin, child.digest).await?);
                wanted.platforms.extend(child.platform.as_ref().map(text_of));
            }
        }
        Ok(wanted)
    }

    async fn blobs_of(
        self: &Arc<Self>,
        origin: &Origin,
        wanted: &Wanted,
    ) -> Result<Vec<Named>, Refusal> {
        let (mut blobs, mut seen) = (Vec::new(), HashSet::new());
        for manifest in &wanted.manifests {
            let closure = self.closure(origin, manifest, Scope::All).await;
            if let Some(gap) = closure.gaps.into_iter().next() {
                return Err(gap.why);
            }
            blobs.extend(closure.blobs.into_iter().filter(|blob| seen.insert(blob.digest)));
        }
        Ok(blobs)
    }

    async fn warm_blob(
        self: &Arc<Self>,
        origin: &Origin,
        blob: Named,
        meter: &Meter,
    ) -> Result<(), Refusal> {
        let digest = blob.digest;
        if self.edges.ledger.is_revoked(&digest) {
            return Err(Refusal::revoked(digest));
        }
        if self.absent(origin, &[blob]).await.is_empty() {
            self.edges.store.touch(&digest);
            meter.add(blob.size_bytes, 0);
        } else if self.open_stored(digest).await.is_some() {
            // The bytes are here, by another repository.
            self.vouch(origin, digest).await?;
            meter.add(blob.size_bytes, 0);
        } else {
            self.warm_by_fill(origin, blob, meter).await?;
        }
        if self.is_wanted(&origin.upstream.name, &origin.repository, digest) {
            self.hold_now(origin, digest).await.map_err(|gap| gap.why)?;
        }
        Ok(())
    }

    async fn warm_by_fill(
        self: &Arc<Self>,
        origin: &Origin,
        blob: Named,
        meter: &Meter,
    ) -> Result<(), Refusal> {
        let digest = blob.digest;
        let filling = Filling { pull: Arc::clone(self), origin: origin.clone(), digest };
        match filling.source().await? {
            Source::Fill(fill) => meter.follow(&fill, blob).await,
            Source::Passing(_) => {
                Err(Refusal::new(Reason::Overloaded, "the cache takes nothing more"))
            }
            Source::Stored(_) => {
                meter.add(blob.size_bytes, 0);
                Ok(())
            }
        }
    }

    async fn open_conflict(&self, reference: &Reference) -> Option<Digest> {
        let tag = reference.tag_or_latest();
        let (registry, repository) = (reference.registry.clone(), reference.repository.clone());
        let key = PinKey { registry, repository, tag };
        // By digest nothing is judged.
        reference.digest.is_none().then_some(())?;
        let state = self.edges.ledger.state(&key).await.ok()??;
        state.conflict.as_ref().map(|open| open.observed)
    }
}

impl Meter {
    fn add(&self, done: u64, fetched: u64) {
        let done_bytes = self.done.fetch_add(done, Ordering::Relaxed) + done;
        self.fetched.fetch_add(fetched, Ordering::Relaxed);
        self.to.send_replace(WarmProgress { done_bytes, total_bytes: self.total_bytes });
    }

    /// Follows a fill to its end.
    async fn follow(&self, fill: &Fill, blob: Named) -> Result<(), Refusal> {
        let mut settled = std::pin::pin!(fill.settled());
        let mut told = 0;
        loop {
            let is_whole = tokio::select! {
                is_whole = &mut settled => Some(is_whole),
                () = tokio::time::sleep(BEAT) => None,
            };
            // It may be longer than the manifest says.
            let here = fill.running().written().min(blob.size_bytes);
            let here = if is_whole == Some(true) { blob.size_bytes } else { here };
            self.add(here - told, here - told);
            told = here;
            match is_whole {
                Some(true) => return Ok(()),
                Some(false) => {
                    let words = format!("{} was wrong, cut, or could not be stored", blob.digest);
                    return Err(Refusal::new(Reason::UpstreamUnavailable, words));
                }
                None => {}
            }
        }
    }
}
