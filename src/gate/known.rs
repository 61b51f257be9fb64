//! Whether a digest is known in a repository, whatever its tag.

use std::sync::Arc;

use super::{Candidate, Gate, Verdict};
use crate::ledger::LedgerError;
use crate::oci::{Digest, ManifestKind};
use crate::pin::{PinKey, TagState};
use crate::units::utc;

/// How many tags are read at once.
const PAGE: usize = 500;

/// The most indexes of a repository that are looked into.
const INDEXES: usize = 1000;

/// What a tag says of a digest.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It stands for it, or did.
    For(String),
    /// It was seen there, and never let through.
    Against(String),
    /// Nothing.
    Nothing,
}

impl Gate<'_> {
    /// Known is what a tag of the repository stands for, or stood for when it was served; what the
    /// upstream gave for the repository; and an image of an index that a tag stands for. What was
    /// seen at tags and never let through there is not.
    pub(super) async fn by_repository(&self) -> Result<Verdict, LedgerError> {
        let Candidate { reference, digest } = self.candidate;
        let (mut against, mut indexes) = (None, Vec::new());
        let mut after = None;
        loop {
            let page = self.page(after.as_ref()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, state) in page {
                match word(&key, &state, digest) {
                    Word::For(words) => return Ok(Ok(words)),
                    Word::Against(words) => against = against.or(Some(words)),
                    Word::Nothing => {}
                }
                let index = index_of(&state).filter(|_| indexes.len() < INDEXES);
                indexes.extend(index.map(|index| (key, index)));
            }
        }
        if let Some(words) = against {
            return Ok(Err(words));
        }
        if self.is_given() {
            return Ok(Ok(format!("the upstream gave it for {}", reference.repository)));
        }
        for (key, index) in indexes {
            if let Some(what) = self.relation(index).await {
                return Ok(Ok(format!("{what} {key}")));
            }
        }
        let repository = format!("{}/{}", reference.registry, reference.repository);
        Ok(Err(format!("{digest} is not known in {repository}: pull it through immutag")))
    }

    /// Whether the upstream ever answered with this manifest for this repository.
    fn is_given(&self) -> bool {
        let Candidate { reference, digest } = self.candidate;
        let upstream = self.settings.upstreams.locate(&reference.registry);
        let registry = upstream.as_ref().map_or(&reference.registry, |it| &it.name);
        let link = self.pull.edges().links.find(registry, &reference.repository, digest);
        link.is_some_and(|link| link.media_type.is_some())
    }

    /// Tags of the repository behind `after`, in the ledger's order.
    async fn page(
        &self,
        after: Option<&PinKey>,
    ) -> Result<Vec<(PinKey, Arc<TagState>)>, LedgerError> {
        let crate::oci::Reference { registry, repository, .. } = self.candidate.reference.clone();
        let Some(after) = after else {
            // No tag comes before `0`, and a list begins behind its first key.
            let tag = "0".parse().expect("`0` is a tag");
            let first = PinKey { registry, repository, tag };
            let state = self.ledger().state(&first).await?.unwrap_or_default();
            return Ok(vec![(first, state)]);
        };
        let mut page = self.ledger().list(Some(after), PAGE).await?;
        page.retain(|(key, _)| key.registry == registry && key.repository == repository);
        Ok(page)
    }
}

fn word(key: &PinKey, state: &TagState, digest: &Digest) -> Word {
    if state.rejected.contains(digest) {
        return Word::Against(format!("{digest} is rejected for {key}"));
    }
    if let Some(pin) = state.standing().filter(|pin| pin.content.digest == *digest) {
        let what = if state.pin.is_some() { "pinned" } else { "recorded" };
        return Word::For(format!("{key} stands for it, {what} {}", utc(pin.since_ms)));
    }
    match state.seen(digest) {
        Some(seen) if seen.was_served => {
            Word::For(format!("{key} stood for it, first on {}", utc(seen.first_ms)))
        }
        Some(seen) => Word::Against(format!(
            "{digest} was seen at {key} on {}, and never served or approved",
            utc(seen.first_ms)
        )),
        None => Word::Nothing,
    }
}

fn index_of(state: &TagState) -> Option<Digest> {
    let content = &state.standing()?.content;
    let kind = content.media_type.manifest_kind();
    kind.is_some_and(ManifestKind::is_index).then_some(content.digest)
}

#[cfg(test)]
#[path = "known/tests.rs"]
mod tests;
