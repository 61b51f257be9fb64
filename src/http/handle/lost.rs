//! Requests that lead nowhere: not understood, of a registry that nobody configured, or lost in a
//! panic of ours.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};

use super::super::body::Body;
use super::super::route::Resource;
use super::Registry;
use crate::config::ListenerKind;
use crate::oci::Registry as Name;
use crate::pin::PinKey;
use crate::pull::{Lock, Reason, Refusal};

impl Registry {
    /// A connection that breaks off sends a client to the real registry.
    pub(super) async fn answer_or_fail(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let caught = AssertUnwindSafe(self.answer(request, peer)).catch_unwind().await;
        caught.unwrap_or_else(|_| {
            tracing::error!(path = request.uri().path(), "immutag's own code panicked");
            let words = "immutag failed at this request; see its log";
            let refusal = Refusal::new(Reason::Overloaded, words);
            Err(match self.locks_out() {
                Some(lock) => lock.requires_sense(refusal),
                None => refusal,
            })
        })
    }

    /// In locked mode what is not understood is not in the lock file: a registry may take names
    /// and digests that immutag does not, and a plain error sends clients of a mirror there.
    pub(super) fn as_not_understood(&self, refusal: Refusal, path: &str) -> Refusal {
        let is_content = path.contains("/manifests/") || path.contains("/blobs/");
        let is_not_understood = matches!(
            refusal.reason,
            Reason::BodyNotAllowed
                | Reason::DigestUnsupported
                | Reason::HeadTooLarge
                | Reason::NameInvalid
                | Reason::ReferenceInvalid
                | Reason::UpstreamUnknown
        );
        match self.locks_out().filter(|_| is_content && is_not_understood) {
            Some(lock) => lock.requires_sense(refusal),
            None => refusal,
        }
    }

    /// Tells, once per host, what to write into the configuration.
    pub(super) fn unknown(&self, name: &str) -> Refusal {
        // An unknown registry is one that the lock file does not have: a plain 404 would send
        // clients of a mirror to the registry itself, and be in no report.
        let lock = self.pull.settings().lock.clone();
        if let Some(lock) = lock.filter(|lock| lock.is_locked) {
            return lock.requires_registry(name);
        }
        if !self.told.contains_key(name) {
            self.told.insert(name.to_owned(), ());
            tracing::warn!(
                registry = ?name,
                "no upstream of this name is known; to add it: [upstream.\"{}\"] url = \"https://{}\"",
                name.escape_debug(),
                name.escape_debug()
            );
        }
        Refusal {
            help: format!("add [upstream.{name:?}] to the configuration of immutag"),
            ..Refusal::new(
                Reason::UpstreamUnknown,
                format!("the registry {name:?} is not configured"),
            )
        }
    }

    /// A tag of the lock file whose registry nobody configured is not held, and on a mirror a plain
    /// 404 would send the client to whatever it is there.
    pub(super) fn as_held(
        &self,
        refusal: Refusal,
        name: &Name,
        repository: &str,
        resource: &Resource,
    ) -> Refusal {
        let is_unknown = refusal.reason == Reason::UpstreamUnknown;
        let held = || {
            let lock = self.pull.settings().lock.clone()?;
            let Resource::Manifest(tag) = resource else { return None };
            let (registry, repository) = (name.clone(), name.repository(repository).ok()?);
            let key = PinKey { registry, repository, tag: tag.parse().ok()? };
            let words = format!(
                "the lock file {} has {key}, but its registry is not configured",
                lock.name
            );
            let pinned = Some(lock.tag(&key)?.digest);
            let held = Refusal::new(Reason::PinnedContentGone, words).of(&key);
            Some(Refusal { pinned, help: refusal.help.clone(), ..held })
        };
        let is_mirror = self.config.kind == ListenerKind::Mirror;
        let held = if is_mirror && is_unknown { held() } else { None };
        held.unwrap_or(refusal)
    }

    /// The lock file, in locked mode on a mirror, whose clients must not go round.
    fn locks_out(&self) -> Option<Arc<Lock>> {
        let lock = self.pull.settings().lock.clone().filter(|lock| lock.is_locked)?;
        (self.config.kind == ListenerKind::Mirror).then_some(lock)
    }
}
