//! A cache hit is no permission: where an upstream takes the client's own credentials, stored
//! content goes only to a client whose credentials it accepted for the repository within 60 s.

use std::time::Duration;

use super::asking::Question;
use super::refusal::{Reason, Refusal};
use super::{Asker, Pull, place};
use crate::config::Credentials;
use crate::oci::{ManifestReference, Repository};
use crate::upstream::{Ask, ClientCredential, Method, Resource, Upstream};

/// How long an upstream's yes to a client's credentials counts.
const PERMIT: Duration = Duration::from_mins(1);

impl Pull {
    /// Asks the upstream whether this client may read a manifest, unless it said so just now.
    pub(super) async fn permit(
        &self,
        upstream: &std::sync::Arc<Upstream>,
        repository: &Repository,
        reference: &ManifestReference,
        asker: &Asker,
    ) -> Result<(), Refusal> {
        if self.is_permitted(upstream, repository, asker) {
            return Ok(());
        }
        let question = Question {
            upstream: std::sync::Arc::clone(upstream),
            repository: repository.clone(),
            reference: reference.clone(),
            accept: Some(format!("{}, */*", crate::oci::manifest::CANONICAL_ACCEPT)),
            credential: asker.credential_for(upstream),
        };
        match self.head_manifest(&question).await? {
            Some(_) => {
                self.admit(&question);
                Ok(())
            }
            None => Err(Refusal::new(Reason::ManifestUnknown, "the upstream has no such manifest")),
        }
    }

    /// The same for a blob, or anything else of the repository.
    pub(super) async fn permit_resource(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        resource: Resource,
        asker: &Asker,
    ) -> Result<(), Refusal> {
        if self.is_permitted(upstream, repository, asker) {
            return Ok(());
        }
        let credential = asker.credential_for(upstream);
        let ask = Ask {
            method: Method::Head,
            repository: repository.clone(),
            resource,
            accept: None,
            range_from: None,
            credential: credential.clone(),
            deadline: None,
        };
        match self.ask(upstream, ask).await?.status {
            200 => {
                self.note_permit(upstream, repository, credential.as_ref());
                Ok(())
            }
            404 => Err(Refusal::new(Reason::BlobUnknown, "the upstream has no such blob")),
            status => {
                Err(Refusal::invalid("STATUS", format!("the upstream answered {status} to a HEAD")))
            }
        }
    }

    /// Notes that the upstream answered these credentials for this repository.
    pub(super) fn admit(&self, question: &Question) {
        let Question { upstream, repository, credential, .. } = question;
        if upstream.config.credentials == Credentials::Client {
            self.note_permit(upstream, repository, credential.as_ref());
        }
    }

    fn note_permit(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        credential: Option<&ClientCredential>,
    ) {
        let holder = credential.map(ClientCredential::key);
        let now = self.edges.clock.monotonic();
        self.memory.permits.insert((place(&upstream.name, repository), holder), now);
    }

    fn is_permitted(&self, upstream: &Upstream, repository: &Repository, asker: &Asker) -> bool {
        if upstream.config.credentials != Credentials::Client {
            return true;
        }
        let holder = asker.credential_for(upstream).as_ref().map(ClientCredential::key);
        let permitted = self.memory.permits.get(&(place(&upstream.name, repository), holder));
        let now = self.edges.clock.monotonic();
        permitted.is_some_and(|at| now.saturating_sub(at) < PERMIT)
    }
}
