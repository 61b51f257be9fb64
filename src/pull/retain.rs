//! What is fetched for a pin though no client asked for it: its config, and with
//! `retain = "all-platforms"` all that it leads to. In the background, bounded, and never in the
//! way of what a contested pin needs.
//!
//! What found no room, or could not be had, is found again by the walk over all pins.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::asking::Origin;
use super::closure::{Gap, Named};
use super::refusal::{Reason, Refusal};
use super::{Pull, place};
use crate::config::Retention;
use crate::oci::Descriptor;
use crate::pin::{Pin, PinKey};

/// How many things at most wait to be fetched, or are; the walk finds the others.
pub(super) const CHORES: usize = 2_000;

/// The largest config that is kept for ever unasked, in bytes, as its manifest claims. Honest ones
/// have some KiB; a larger one is kept as a layer is.
pub(super) const CONFIG_LIMIT: u64 = 8 << 20;

/// Why something is fetched for a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// Something stands against the pin: the upstream may soon have its content no more.
    Contested,
    /// A config.
    Config,
    /// What was held is held no more.
    Lost,
    /// All that the pin leads to is to be kept.
    Platforms,
}

/// Leave to do something later, until it is dropped.
pub(super) struct Chore {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Need {
    const fn name(self) -> &'static str {
        match self {
            Self::Contested => "contested",
            Self::Config => "config",
            Self::Lost => "lost",
            Self::Platforms => "platforms",
        }
    }

    /// How many such things of one upstream are fetched at once.
    const fn at_once(self) -> usize {
        match self {
            Self::Contested | Self::Config => 4,
            Self::Lost | Self::Platforms => 1,
        }
    }
}

impl Pull {
    /// Room at an upstream: other upstreams and other needs have their own.
    pub(super) fn room(&self, origin: &Origin, need: Need) -> Arc<Semaphore> {
        let room = || Arc::new(Semaphore::new(need.at_once()));
        self.memory.completions.get_with((origin.upstream.name.clone(), need), room)
    }

    /// Leave to do something later; `None` if too much waits already. What a contested pin needs
    /// always has it.
    pub(super) fn chore(&self, need: Need) -> Option<Chore> {
        if need == Need::Contested {
            return Some(Chore { _permit: None });
        }
        let permit = Arc::clone(&self.memory.chores).try_acquire_owned().ok()?;
        Some(Chore { _permit: Some(permit) })
    }

    /// After a pin was served for the first time by this process, off the path.
    pub(super) fn retain_later(self: &Arc<Self>, origin: &Origin, key: &PinKey, pin: &Pin) {
        if self.is_retained_whole(key) {
            self.complete_later(origin, key, pin, Need::Platforms);
        }
    }

    /// Whether all that a pin leads to is kept, pulled or not.
    pub(super) fn is_retained_whole(&self, key: &PinKey) -> bool {
        let is_canary = key.registry.as_str() == super::canary::REGISTRY;
        self.settings.load().retain == Retention::AllPlatforms
            && !is_canary
            && self.keeps_layers(key)
    }

    /// Fetches the config of a manifest that a pin needs, and holds it.
    pub(super) fn keep_config_later(self: &Arc<Self>, origin: &Origin, config: &Descriptor) {
        let named = Named { digest: config.digest, size_bytes: config.size_bytes, is_config: true };
        let at = (place(&origin.upstream.name, &origin.repository), config.digest);
        let is_canary = origin.upstream.name.as_str() == super::canary::REGISTRY;
        let is_due = named.is_kept_for_ever() && !self.memory.held.contains_key(&at);
        if !is_due || is_canary || self.is_offline(&origin.upstream) {
            return;
        }
        let Some(chore) = self.chore(Need::Config) else { return };
        let (pull, origin) = (Arc::clone(self), origin.clone());
        tokio::spawn(async move {
            let room = pull.room(&origin, Need::Config).acquire_owned().await;
            let gap = pull.keep_config(&origin, named).await.err();
            drop((room, chore));
            pull.tell_retained(&at.0, Need::Config, gap.as_ref());
        });
    }

    /// Fetches a config, if it is not here, and holds it for ever: so it must be as small as its
    /// manifest says.
    pub(super) async fn keep_config(
        self: &Arc<Self>,
        origin: &Origin,
        config: Named,
    ) -> Result<(), Gap> {
        let digest = config.digest;
        if !self.absent(origin, &[config]).await.is_empty() {
            self.fetch_blob(origin, digest).await.map_err(|why| Gap { digest, why })?;
        }
        let store = Arc::clone(&self.edges.store);
        let size = tokio::task::spawn_blocking(move || store.size_bytes(&digest)).await;
        match size {
            Ok(Ok(Some(size_bytes))) if size_bytes == config.size_bytes => {
                self.hold_now(origin, digest).await
            }
            _ => {
                let words = "the config is not as long as its manifest says";
                Err(Gap { digest, why: Refusal::invalid("SIZE", words) })
            }
        }
    }

    pub(super) fn tell_retained(&self, of: &impl std::fmt::Display, need: Need, gap: Option<&Gap>) {
        let outcome = if gap.is_none() { "kept" } else { "failed" };
        self.edges.metrics.retention.retained.with_label_values(&[need.name(), outcome]).inc();
        let Some(Gap { digest, why }) = gap else { return };
        // An upstream that is down, or a cache that is full, is told elsewhere, and once.
        let (of, need) = (of.to_string(), need.name());
        if why.reason == Reason::UpstreamInvalid {
            tracing::warn!(of, %digest, need, why = %why.message, "pinned content is not kept");
        } else {
            tracing::debug!(of, %digest, need, why = %why.message, "pinned content is not kept");
        }
    }
}

impl Named {
    /// Whether it is kept for as long as a pin names it, pulled or not.
    pub(super) const fn is_kept_for_ever(&self) -> bool {
        self.is_config && self.size_bytes <= CONFIG_LIMIT
    }
}
