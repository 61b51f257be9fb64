//! What is passed through: the list of tags, and referrers.

use std::sync::Arc;

use super::leads::Sought;
use super::refusal::{Reason, Refusal};
use super::{Asker, Pull};
use crate::oci::{Digest, MediaType, Repository};
use crate::upstream::{Ask, Method, Resource, Upstream};

/// The most that a page may weigh, in bytes.
const PAGE_LIMIT: usize = 4 << 20;

/// A request for a page of a list.
pub struct ListRequest {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The repository, canonical.
    pub repository: Repository,
    /// For referrers, the subject; `None` asks for tags.
    pub referrers_of: Option<Digest>,
    /// The query to pass on: `n`, `last`, `artifactType`, checked by the caller.
    pub query: String,
    /// Who asks.
    pub asker: Asker,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListReply {
    /// Its media type.
    pub media_type: Option<MediaType>,
    /// The upstream's Link to the next page, as it came: a claim of a hostile peer.
    pub link: Option<String>,
    /// Which filters the upstream applied.
    pub filters_applied: Option<String>,
    /// The page.
    pub bytes: bytes::Bytes,
}

impl Pull {
    /// Answers a request for a page.
    pub async fn list(self: &Arc<Self>, request: ListRequest) -> Result<ListReply, Refusal> {
        let ListRequest { upstream, repository, referrers_of, query, asker } = request;
        if let Some(subject) = referrers_of {
            let origin = asker.origin(&upstream, &repository);
            self.pass(&asker, &origin, subject, Sought::Content).await?;
        }
        let (resource, accept) = match referrers_of {
            Some(digest) => (
                Resource::Referrers { digest, query },
                crate::oci::ManifestKind::OciIndex.as_str().to_owned(),
            ),
            None => (Resource::Tags { query }, "application/json".to_owned()),
        };
        let ask = Ask {
            method: Method::Get,
            repository: repository.clone(),
            resource,
            accept: Some(accept),
            range_from: None,
            credential: asker.credential_for(&upstream),
            deadline: None,
        };
        let answer = self.ask(&upstream, ask).await?;
        match answer.status {
            200 if answer.content_encoded => {
                return Err(Refusal::invalid("CONTENT_ENCODING", "the upstream encoded the list"));
            }
            200 => {}
            404 => {
                let words = format!("{} has no list for {repository}", upstream.name);
                return Err(Refusal::new(Reason::ManifestUnknown, words));
            }
            status => {
                let words = format!("the upstream answered {status} where 200 or 404 is due");
                return Err(Refusal::invalid("STATUS", words));
            }
        }
        Ok(ListReply {
            media_type: answer.content_type,
            link: answer.link,
            filters_applied: answer.filters_applied,
            bytes: answer.body.collect(PAGE_LIMIT).await?,
        })
    }
}
