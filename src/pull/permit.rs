//! A cache hit is no permission: where an upstream takes the client's own credentials, stored
//! content goes only to a client whose credentials it accepted for the repository within 60 s.

use super::asking::Question;
use super::refusal::{Reason, Refusal};
use super::{Asker, Pull, place};
use crate::config::Credentials;
use crate::oci::{ManifestReference, Repository};
use crate::upstream::{Ask, ClientCredential, Method, Resource, Upstream};

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
        let number = credential.as_ref().map(ClientCredential::key);
        let ask = Ask {
            method: Method::Head,
            repository: repository.clone(),
            resource,
            accept: None,
            range_from: None,
            credential,
            deadline: None,
        };
        match self.ask(upstream, ask).await?.status {
            200 => {
                self.memory.permits.insert((place(&upstream.name, repository), number), ());
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
        if question.upstream.config.credentials == Credentials::Client {
            let number = question.credential.as_ref().map(ClientCredential::key);
            let at = place(&question.upstream.name, &question.repository);
            self.memory.permits.insert((at, number), ());
        }
    }

    fn is_permitted(&self, upstream: &Upstream, repository: &Repository, asker: &Asker) -> bool {
        if upstream.config.credentials != Credentials::Client {
            return true;
        }
        let credential = asker.credential_for(upstream);
        let number = credential.as_ref().map(ClientCredential::key);
        self.memory.permits.contains_key(&(place(&upstream.name, repository), number))
    }
}
