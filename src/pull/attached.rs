//! What is attached to a manifest in its repository: signatures, attestations, whatever refers to it.
//! Only whether it is there; trouble in asking says nothing.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Pull;
use super::asking::{Origin, Question};
use super::explain::Search;
use crate::oci::{CANONICAL_ACCEPT, Digest, ManifestKind, ManifestReference};
use crate::triage::{Attached, Presence, Signatures};
use crate::upstream::{Ask, Method, Resource};

/// The most that a list of referrers may weigh, in bytes.
const REFERRERS_LIMIT: usize = 1 << 20;

impl Pull {
    /// What is attached to both; `None` if nobody may be asked.
    pub(super) async fn signatures(
        &self,
        search: &Search,
        before: Digest,
        after: Digest,
    ) -> Option<Signatures> {
        let origin = search.askable()?;
        let (before, after) = tokio::join!(
            self.attached(origin, search.until, before),
            self.attached(origin, search.until, after)
        );
        Some(Signatures { before, after })
    }

    async fn attached(&self, origin: &Origin, until: Instant, digest: Digest) -> Attached {
        let fallback = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let tags = [".sig", ".att", ".sbom"].map(|suffix| format!("{fallback}{suffix}"));
        let mut found = [Presence::Unknown; 3];
        for (found, tag) in found.iter_mut().zip(&tags) {
            *found = self.has_tag(origin, until, tag).await;
        }
        let [signature, attestation, sbom] = found;
        let referrers = match self.has_referrers(origin, until, digest).await {
            Some(presence) => presence,
            // A registry without that list: clients keep one under a tag.
            None => self.has_tag(origin, until, &fallback).await,
        };
        Attached { signature, attestation, sbom, referrers }
    }

    async fn has_tag(&self, origin: &Origin, until: Instant, tag: &str) -> Presence {
        let Ok(tag) = tag.parse() else { return Presence::Unknown };
        let question = Question {
            upstream: Arc::clone(&origin.upstream),
            repository: origin.repository.clone(),
            reference: ManifestReference::Tag(tag),
            accept: Some(CANONICAL_ACCEPT.to_owned()),
            credential: None,
        };
        match timeout_at(until, self.head_manifest(&question)).await {
            Ok(Ok(Some(_))) => Presence::Present,
            Ok(Ok(None)) => Presence::Absent,
            Ok(Err(_)) | Err(_) => Presence::Unknown,
        }
    }

    /// Whether anything refers to a digest; `None` if the registry has no such list.
    async fn has_referrers(
        &self,
        origin: &Origin,
        until: Instant,
        digest: Digest,
    ) -> Option<Presence> {
        let ask = Ask {
            method: Method::Get,
            repository: origin.repository.clone(),
            resource: Resource::Referrers { digest, query: String::new() },
            accept: Some(ManifestKind::OciIndex.as_str().to_owned()),
            range_from: None,
            credential: None,
            deadline: None,
        };
        let asking = async {
            let answer = self.ask(&origin.upstream, ask).await.ok()?;
            match answer.status {
                404 => Some(None),
                200 => Some(Some(answer.body.collect(REFERRERS_LIMIT).await.ok()?)),
                _ => None,
            }
        };
        match timeout_at(until, asking).await {
            Ok(Some(None)) => None,
            Ok(Some(Some(bytes))) => Some(listed(&bytes)),
            Ok(None) | Err(_) => Some(Presence::Unknown),
        }
    }
}

/// Whether a list of referrers names any.
fn listed(bytes: &[u8]) -> Presence {
    #[derive(serde::Deserialize)]
    struct List {
        manifests: Option<Vec<serde::de::IgnoredAny>>,
    }
    match serde_json::from_slice::<List>(bytes) {
        Ok(List { manifests: Some(all) }) if !all.is_empty() => Presence::Present,
        Ok(_) => Presence::Absent,
        Err(_) => Presence::Unknown,
    }
}
