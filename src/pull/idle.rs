//! Letting go of held content that nobody pulled for `retain-idle`: while its upstream still has it
//! for every repository that pins it, or if no pin needs it any more. Manifests and configs of pins
//! stay, and all that a contested pin leads to.
//!
//! A crash anywhere in between leaves content held that could have gone; the next walk finds it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::asking::Origin;
use super::closure::{Closure, Scope};
use super::{Pull, place};
use crate::config::Credentials;
use crate::ledger::LedgerError;
use crate::oci::{Digest, Registry, Repository};
use crate::pin::PinKey;

/// How much is let go in one walk at most; the rest waits for the next.
const AT_MOST: usize = 10_000;

/// What more repositories need than this stays: it would take too many questions.
const REPOSITORIES: usize = 64;

/// How often a decision is looked at again because the ledger took events meanwhile.
const ROUNDS: usize = 4;

/// How many events are read at once.
const PAGE: usize = 500;

/// Content is held, or is let go, never both at once.
#[derive(Default)]
pub(super) struct Gate(RwLock<()>);

impl Gate {
    /// While this is kept, nothing is let go.
    pub(super) fn holding(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn letting_go(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held content that nobody pulled for long, and who needs it all the same.
#[derive(Default)]
pub(super) struct Idle {
    content: HashMap<Digest, Vec<(Registry, Repository)>>,
    /// What was used since is not idle, in milliseconds since the Unix epoch.
    before_ms: u64,
    /// The ledger's last event that was taken into account.
    sequence: u64,
    /// Not every pin could be read: what none seems to need may be needed.
    has_blanks: bool,
}

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LetGo {
    pub(super) blobs: u64,
    pub(super) bytes: u64,
}

/// What came of letting go.
enum Went {
    /// It is let go; it was so long, in bytes.
    Gone(u64),
    /// It stays.
    Not,
    /// The ledger took an event meanwhile.
    Raced,
}

impl Idle {
    /// This content stays.
    pub(super) fn keep(&mut self, digest: &Digest) {
        self.content.remove(digest);
    }

    /// Some pin could not be read.
    pub(super) const fn has_a_blank(&mut self) {
        self.has_blanks = true;
    }

    /// A repository needs this content as long as its upstream does not have it.
    pub(super) fn need(&mut self, origin: &Origin, digest: &Digest) {
        let Some(needed_by) = self.content.get_mut(digest) else { return };
        let name = &origin.upstream.name;
        let is_known = needed_by.iter().any(|(of, at)| of == name && *at == origin.repository);
        if needed_by.len() >= REPOSITORIES {
            self.keep(digest);
        } else if !is_known {
            needed_by.push((name.clone(), origin.repository.clone()));
        }
    }
}

impl Pull {
    /// What is held, and was not pulled for `retain-idle`.
    pub(super) async fn find_idle(&self) -> Idle {
        let settings = self.settings.load();
        // In this order: an event that comes while content is looked for is looked at later.
        let sequence = self.edges.ledger.status().sequence;
        let mut idle = Idle { sequence, ..Idle::default() };
        if settings.retain_idle == Duration::ZERO || settings.offline {
            return idle;
        }
        let store = Arc::clone(&self.edges.store);
        let before_ms = self.idle_since_ms(settings.retain_idle);
        idle.before_ms = before_ms;
        let found = tokio::task::spawn_blocking(move || store.idle_held(before_ms, AT_MOST)).await;
        idle.content.extend(found.unwrap_or_default().into_iter().map(|it| (it, Vec::new())));
        idle
    }

    /// What was last used before this is idle, in milliseconds since the Unix epoch.
    pub(super) fn idle_since_ms(&self, retain_idle: Duration) -> u64 {
        let span = u64::try_from(retain_idle.as_millis()).unwrap_or(u64::MAX);
        self.edges.clock.wall_ms().saturating_sub(span)
    }

    /// Lets go of what may go, after every pin was asked what it needs.
    pub(super) async fn let_idle_go(self: &Arc<Self>, mut idle: Idle) -> LetGo {
        let mut all = LetGo::default();
        let found: Vec<_> = idle.content.keys().copied().collect();
        for digest in found {
            let settings = self.settings.load_full();
            if settings.offline {
                break;
            }
            let Some(needed_by) = idle.content.get(&digest).cloned() else { continue };
            let is_free = needed_by.is_empty() && !idle.has_blanks;
            if !is_free && !self.has_all(digest, &needed_by).await {
                continue;
            }
            for _ in 0..ROUNDS {
                if self.catch_up(&mut idle).await.is_err() || !idle.content.contains_key(&digest) {
                    break;
                }
                match self.try_let_go(digest, &needed_by, &idle).await {
                    Went::Gone(size_bytes) => {
                        all.blobs += 1;
                        all.bytes += size_bytes;
                    }
                    Went::Not => {}
                    Went::Raced => continue,
                }
                break;
            }
        }
        let metrics = &self.edges.metrics.retention;
        metrics.let_go.inc_by(all.blobs);
        metrics.let_go_bytes.inc_by(all.bytes);
        all
    }

    /// Whether the upstream has this content for each of these repositories, of which there must be
    /// some. One that cannot be asked does not have it.
    async fn has_all(&self, digest: Digest, needed_by: &[(Registry, Repository)]) -> bool {
        for (registry, repository) in needed_by {
            let Some(upstream) = self.settings.load().upstreams.locate(registry) else {
                return false;
            };
            // With nobody's credentials it may say anything.
            if upstream.config.credentials == Credentials::Client {
                return false;
            }
            let origin = Origin { upstream, repository: repository.clone(), credential: None };
            if self.head_blob(&origin, digest).await.is_err() {
                return false;
            }
        }
        !needed_by.is_empty()
    }

    /// Takes the events since then into account: what their tags lead to stays.
    async fn catch_up(self: &Arc<Self>, idle: &mut Idle) -> Result<(), LedgerError> {
        loop {
            let events = self.edges.ledger.events(idle.sequence + 1, PAGE).await?;
            let Some(last) = events.last() else { return Ok(()) };
            idle.sequence = last.sequence;
            for key in events.iter().filter_map(|event| event.key.as_ref()) {
                self.keep_all_of(key, idle).await?;
            }
        }
    }

    async fn keep_all_of(
        self: &Arc<Self>,
        key: &PinKey,
        idle: &mut Idle,
    ) -> Result<(), LedgerError> {
        let Some(state) = self.edges.ledger.state(key).await? else { return Ok(()) };
        let Some(pin) = &state.pin else { return Ok(()) };
        let Some(upstream) = self.settings.load().upstreams.locate(&key.registry) else {
            return Ok(());
        };
        let Some(manifest) = self.load_pinned(pin).await else { return Ok(()) };
        let origin = Origin { upstream, repository: key.repository.clone(), credential: None };
        let Closure { blobs, named, .. } = self.closure(&origin, &manifest, Scope::Kept).await;
        let blobs = blobs.iter().map(|blob| &blob.digest);
        named.iter().chain(blobs).for_each(|digest| idle.keep(digest));
        Ok(())
    }

    /// Lets go, unless the ledger took an event since it was last looked at, or somebody used it:
    /// a walk takes its time.
    async fn try_let_go(
        self: &Arc<Self>,
        digest: Digest,
        needed_by: &[(Registry, Repository)],
        &Idle { sequence, before_ms, .. }: &Idle,
    ) -> Went {
        let (pull, needed_by) = (Arc::clone(self), needed_by.to_vec());
        let go = move || {
            let _nobody_holds = pull.memory.letting_go.letting_go();
            if pull.edges.ledger.status().sequence != sequence {
                return Went::Raced;
            }
            let used_ms = pull.edges.store.used_ms(&digest).ok().flatten();
            if used_ms.is_none_or(|used_ms| used_ms >= before_ms) {
                return Went::Not;
            }
            pull.let_go(&digest, &needed_by).map_or(Went::Not, Went::Gone)
        };
        tokio::task::spawn_blocking(go).await.unwrap_or(Went::Not)
    }

    fn let_go(&self, digest: &Digest, needed_by: &[(Registry, Repository)]) -> Option<u64> {
        let store = &self.edges.store;
        let size = store.size_bytes(digest).ok()??;
        // Links first: what has no link is not missed.
        for (registry, repository) in needed_by {
            self.memory.held.invalidate(&(place(registry, repository), *digest));
            if let Err(error) = self.edges.links.let_go(registry, repository, digest) {
                tracing::warn!(%digest, %error, "a held link could not be removed");
                return None;
            }
        }
        if needed_by.is_empty() {
            self.memory.held.invalidate_all();
        }
        match store.unhold(digest) {
            Ok(()) => Some(size),
            Err(error) => {
                tracing::warn!(%digest, %error, "held content could not be let go");
                None
            }
        }
    }
}
