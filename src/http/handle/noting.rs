//! What the journal of pulls is told: each manifest that a client got, and each that was refused for
//! a reason of ours.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Method;

use super::Located;
use crate::journal::{Journal, Subject};
use crate::oci::{ManifestReference, Reference, Registry as Name, Repository};
use crate::pull::{ManifestReply, Reason, Refusal, is_canary};

/// The journal, as one listener tells it.
#[derive(Clone)]
pub struct Noting {
    /// The journal.
    pub journal: Arc<Journal>,
    /// The listener: its kind, with its address where there are several of the kind.
    pub listener: Arc<str>,
}

impl Noting {
    /// What a client asks for, as it is noted; `None` for what is not.
    pub(super) fn asked(
        &self,
        located: &Located,
        reference: &ManifestReference,
    ) -> Option<Reference> {
        let registry = &located.upstream.name;
        if !self.journal.is_on() || is_canary(registry) {
            return None;
        }
        Some(asked(registry.clone(), located.repository.clone(), reference))
    }

    /// Notes what came of it; what was noted, for the same answer may be given again.
    pub(super) fn note(
        &self,
        asked: Option<Reference>,
        client: IpAddr,
        is_head: bool,
        replied: &Result<ManifestReply, Refusal>,
    ) -> Option<Arc<Subject>> {
        let asked = asked?;
        let subject = match replied {
            Ok(reply) => Subject::given(&self.listener, asked, reply.digest, reply.outcome),
            Err(refusal) if is_noted(refusal) => {
                let (reason, kept_from) = (refusal.reason.name(), refusal.observed);
                Subject::refused(&self.listener, asked, reason, kept_from.or(refusal.pinned))
            }
            Err(_) => return None,
        };
        self.journal.note(&subject, client, is_head);
        Some(subject)
    }

    /// Notes that something was asked for in a registry that is not known here, and refused since
    /// the lock file does not have it, or does.
    pub(super) fn note_unlocated(
        &self,
        (registry, repository, reference): (&Name, &str, &str),
        client: IpAddr,
        is_head: bool,
        refusal: &Refusal,
    ) {
        let repository = registry.repository(repository).ok();
        let reference = reference.parse::<ManifestReference>().ok();
        let (Some(repository), Some(reference)) = (repository, reference) else { return };
        let is_noted = matches!(refusal.reason, Reason::PinRequired | Reason::PinnedContentGone);
        if !self.journal.is_on() || !is_noted {
            return;
        }
        let asked = asked(registry.clone(), repository, &reference);
        let subject = Subject::refused(&self.listener, asked, refusal.reason.name(), None);
        self.journal.note(&subject, client, is_head);
    }

    /// Notes that the same was given again.
    pub(super) fn note_again(&self, noted: Option<&Arc<Subject>>, client: IpAddr, method: &Method) {
        if let Some(subject) = noted {
            self.journal.note(subject, client, *method == Method::HEAD);
        }
    }
}

fn asked(registry: Name, repository: Repository, reference: &ManifestReference) -> Reference {
    let (tag, digest) = match reference {
        ManifestReference::Digest(digest) => (None, Some(*digest)),
        ManifestReference::Tag(tag) => (Some(tag.clone()), None),
    };
    Reference { registry, repository, tag, digest }
}

/// Whether a refusal is ours, of a covered tag or of what was denied or is not in the lock file. What the upstream
/// does not have was not pulled, and whoever guesses names could fill the journal.
fn is_noted(refusal: &Refusal) -> bool {
    let is_known = refusal.pinned.is_some() || refusal.observed.is_some();
    let is_denied = matches!(refusal.reason, Reason::DigestRevoked | Reason::PinRequired);
    (refusal.key.is_some() && is_known) || is_denied
}
