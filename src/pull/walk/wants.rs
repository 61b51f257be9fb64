//! What a pin needs and has not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::Pull;
use super::super::asking::Origin;
use super::super::closure::{Closure, Named};
use super::super::retain::Need;
use crate::oci::Digest;

/// What a pin needs and has not.
#[derive(Default)]
pub(super) struct Wants {
    /// Here, and to be held.
    pub(super) hold: Vec<Digest>,
    /// Not here.
    pub(super) fetch: Vec<(Named, Need)>,
    /// Manifests that were held.
    pub(super) lost: Vec<Digest>,
    /// Configs that are kept for ever: as small as their manifests say.
    pub(super) core: HashSet<Digest>,
}

impl Pull {
    /// What a pin needs and has not: it looks at the disk, and asks nobody.
    pub(super) async fn wants(
        self: &Arc<Self>,
        origin: &Origin,
        closure: &Arc<Closure>,
        with_layers: bool,
    ) -> Wants {
        let (pull, origin, closure) = (Arc::clone(self), origin.clone(), Arc::clone(closure));
        let look = move || pull.look_for_wants(&origin, &closure, with_layers);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    fn look_for_wants(&self, origin: &Origin, closure: &Closure, with_layers: bool) -> Wants {
        let Origin { upstream, repository, .. } = origin;
        let (links, store) = (&self.edges.links, &self.edges.store);
        let was_held = |digest: &Digest| links.is_held(&upstream.name, repository, digest);
        let is_held = |digest: &Digest| was_held(digest) && store.is_held(digest);
        let mut wants = Wants::default();
        let lost = closure.gaps.iter().map(|gap| gap.digest);
        wants.lost.extend(lost.filter(|digest| was_held(digest)));
        let manifests = closure.manifests.iter().map(|manifest| manifest.content.digest);
        wants.hold.extend(manifests.filter(|digest| !is_held(digest)));
        for blob in &closure.blobs {
            let is_long = |size_bytes| size_bytes > blob.size_bytes;
            let is_core = blob.is_kept_for_ever()
                && !store.size_bytes(&blob.digest).ok().flatten().is_some_and(is_long);
            if is_core {
                wants.core.insert(blob.digest);
            }
            if (!with_layers && !is_core) || is_held(&blob.digest) {
                continue;
            }
            if self.has_here(origin, *blob) {
                if is_core || self.was_used(&blob.digest) {
                    wants.hold.push(blob.digest);
                }
            } else if was_held(&blob.digest) {
                wants.fetch.push((*blob, Need::Lost));
            } else if is_core {
                wants.fetch.push((*blob, Need::Config));
            }
        }
        wants
    }

    /// Whether stored content was used within `retain-idle`.
    fn was_used(&self, digest: &Digest) -> bool {
        let retain_idle = self.settings.load().retain_idle;
        let used_ms = self.edges.store.used_ms(digest).ok().flatten();
        retain_idle == Duration::ZERO
            || used_ms.is_some_and(|used_ms| used_ms >= self.idle_since_ms(retain_idle))
    }
}
