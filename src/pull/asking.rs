//! Asking an upstream, and what may come of it.

use std::sync::Arc;

use super::refusal::{Reason, Refusal};
use super::{Asker, Holder, Pull, place};
use crate::config::Credentials;
use crate::ledger::StoredManifest;
use crate::oci::manifest::{CANONICAL_ACCEPT, MANIFEST_LIMIT};
use crate::oci::{ComputedDigest, Digest, ManifestReference, MediaType, Repository};
use crate::upstream::{Answer, Ask, ClientCredential, Method, Resource, Upstream};

/// A manifest as an upstream gave it: its bytes hash to what is said of them, nothing more.
pub(super) struct Fetched {
    pub(super) manifest: StoredManifest,
    pub(super) computed: ComputedDigest,
    /// The Content-Type, if there was one.
    pub(super) content_type: Option<MediaType>,
}

/// A repository of an upstream, and whose credentials it is asked with.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) upstream: Arc<Upstream>,
    pub(super) repository: Repository,
    /// The client's own, where the upstream takes those.
    pub(super) credential: Option<ClientCredential>,
}

impl Origin {
    /// Those who may see the same: of one repository, with one credential.
    pub(super) fn circle(&self) -> (Arc<str>, Holder) {
        let holder = self.credential.as_ref().map(ClientCredential::key);
        (place(&self.upstream.name, &self.repository), holder)
    }

    /// The question for a manifest by digest, whatever kind it is.
    pub(super) fn by_digest(&self, digest: Digest) -> Question {
        let Self { upstream, repository, credential } = self.clone();
        let reference = ManifestReference::Digest(digest);
        Question {
            upstream,
            repository,
            reference,
            accept: Some(format!("{CANONICAL_ACCEPT}, */*")),
            credential,
        }
    }

    /// The question for a blob.
    pub(super) fn blob(&self, digest: Digest, method: Method) -> Ask {
        Ask {
            method,
            repository: self.repository.clone(),
            resource: Resource::Blob(digest),
            accept: None,
            range_from: None,
            credential: self.credential.clone(),
            deadline: None,
        }
    }
}

/// What to ask for: everything but the method.
pub(super) struct Question {
    pub(super) upstream: Arc<Upstream>,
    pub(super) repository: Repository,
    pub(super) reference: ManifestReference,
    pub(super) accept: Option<String>,
    pub(super) credential: Option<ClientCredential>,
}

impl Question {
    /// Where it is asked.
    pub(super) fn origin(&self) -> Origin {
        let Self { upstream, repository, credential, .. } = self;
        Origin {
            upstream: Arc::clone(upstream),
            repository: repository.clone(),
            credential: credential.clone(),
        }
    }

    fn ask(&self, method: Method) -> Ask {
        Ask {
            method,
            repository: self.repository.clone(),
            resource: Resource::Manifest(self.reference.clone()),
            accept: self.accept.clone(),
            range_from: None,
            credential: self.credential.clone(),
            deadline: None,
        }
    }
}

impl Asker {
    /// A repository as this client may see it.
    pub(super) fn origin(&self, upstream: &Arc<Upstream>, repository: &Repository) -> Origin {
        let credential = self.credential_for(upstream);
        Origin { upstream: Arc::clone(upstream), repository: repository.clone(), credential }
    }

    /// The credential to ask `upstream` with: the client's own, where it takes those.
    pub(super) fn credential_for(&self, upstream: &Upstream) -> Option<ClientCredential> {
        let takes = upstream.config.credentials == Credentials::Client;
        self.credential.clone().filter(|_| takes)
    }
}

impl Pull {
    /// Asks an upstream, unless that is switched off.
    pub(super) async fn ask(&self, upstream: &Upstream, ask: Ask) -> Result<Answer, Refusal> {
        if self.is_offline(upstream) {
            return Err(Refusal {
                help:
                    "pull it once with offline = false; immutag reads its configuration again at \
                       SIGHUP"
                        .into(),
                ..Refusal::new(
                    Reason::Offline,
                    "immutag is offline (offline = true in its configuration), and what was asked \
                     for is not stored here for this repository",
                )
            });
        }
        Ok(upstream.ask(ask).await?)
    }

    /// Whether this upstream is not to be asked.
    pub(super) fn is_offline(&self, upstream: &Upstream) -> bool {
        let is_canary = upstream.name.as_str() == super::canary::REGISTRY;
        self.settings.load().offline && !is_canary
    }

    /// HEAD of a manifest: `None` if the upstream says that there is none.
    pub(super) async fn head_manifest(
        &self,
        question: &Question,
    ) -> Result<Option<Answer>, Refusal> {
        let answer = self.ask(&question.upstream, question.ask(Method::Head)).await?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            status => Err(unexpected(status)),
        }
    }

    /// GET of a manifest, bounded and hashed: `None` if the upstream says that there is none.
    pub(super) async fn get_manifest(
        &self,
        question: &Question,
    ) -> Result<Option<Fetched>, Refusal> {
        let answer = self.ask(&question.upstream, question.ask(Method::Get)).await?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(unexpected(status)),
        }
        if answer.content_encoded {
            return Err(Refusal::invalid(
                "CONTENT_ENCODING",
                "the upstream sent the manifest in a Content-Encoding other than identity",
            ));
        }
        let claim = answer.digest;
        let asked = match &question.reference {
            ManifestReference::Digest(digest) => Some(*digest),
            ManifestReference::Tag(_) => None,
        };
        let bytes = answer.body.collect(MANIFEST_LIMIT).await?;
        if bytes.is_empty() {
            return Err(Refusal::invalid("EMPTY", "the upstream sent an empty manifest"));
        }
        let computed = ComputedDigest::of(&bytes, asked.or(claim).as_ref());
        check_claims(&computed, asked, claim)?;
        let content_type = answer.content_type;
        let media_type = content_type.clone().unwrap_or_else(|| sniff(&bytes));
        let manifest = StoredManifest::new(&computed, media_type, bytes);
        Ok(Some(Fetched { manifest, computed, content_type }))
    }
}

/// The bytes must hash to what was asked for, and to what the answer's header says.
///
/// A header in the other algorithm than the one asked for cannot be checked with this hash; the
/// digest asked for decides then.
fn check_claims(
    computed: &ComputedDigest,
    asked: Option<Digest>,
    header: Option<Digest>,
) -> Result<(), Refusal> {
    let checkable = |claim: &Digest| {
        asked.is_none_or(|asked| {
            claim.algorithm() == asked.algorithm()
                || claim.algorithm() == crate::oci::Algorithm::Sha256
        })
    };
    let wrong = |claim: &Digest| !computed.supports(claim);
    match asked.into_iter().chain(header.filter(checkable)).find(wrong) {
        None => Ok(()),
        Some(claim) => Err(Refusal {
            observed: Some(computed.digest()),
            ..Refusal::new(
                Reason::UpstreamDigestMismatch,
                format!("the upstream sent {} where it claims {claim}", computed.digest()),
            )
        }),
    }
}

fn unexpected(status: u16) -> Refusal {
    Refusal::invalid("STATUS", format!("the upstream answered {status} where 200 or 404 is due"))
}

/// The media type that the manifest gives itself; only for content that is served by digest,
/// unparsed, when the upstream gave no Content-Type.
fn sniff(bytes: &[u8]) -> MediaType {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<MediaType>,
    }
    let typed = serde_json::from_slice::<Typed>(bytes).ok().and_then(|typed| typed.media_type);
    typed.unwrap_or_else(MediaType::octet_stream)
}
