//! Whether content may run under a name: what the gate at a container runtime's side is told.
//!
//! No upstream is asked. The lock file decides for what it names; then a tag stands for its pin,
//! and a digest must be known in its repository. What is not known, or not sure, is refused.

mod known;
mod tag;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::{LedgerError, LedgerStore};
use crate::oci::{Digest, Manifest, Reference};
use crate::pin::PinKey;
use crate::policy::{Decision, Reaction};
use crate::pull::{Lock, Pull, Settings};

/// The most children of an index that are looked into for what is revoked.
const CHILDREN: usize = 64;

/// What is to run: a name as somebody typed it, and what it was resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name.
    pub reference: Reference,
    /// What the runtime resolved it to: the digest of a manifest.
    pub digest: Digest,
}

/// What is said of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    /// Whether it may run.
    pub is_accepted: bool,
    /// Why, or why not, for people.
    pub reason: String,
    /// What the server's lock file has for the name.
    pub locked: Option<Digest>,
}

/// Why something may run, or why it may not.
type Verdict = Result<String, String>;

/// Judges a candidate by what this instance knows.
///
/// # Errors
/// The ledger did not answer: it must not run.
pub async fn judge(pull: &Pull, candidate: &Candidate) -> Result<Judgement, LedgerError> {
    let gate = Gate { pull, settings: pull.settings(), candidate };
    let verdict = gate.verdict().await?;
    let locked = gate.settings.lock.as_deref().and_then(|lock| named(lock, &candidate.reference));
    let is_accepted = verdict.is_ok();
    let (Ok(reason) | Err(reason)) = verdict;
    Ok(Judgement { is_accepted, reason, locked })
}

/// What a lock file has for a name. Where a name has a tag and a digest, clients ask for the digest
/// alone, and so does the lock file.
fn named(lock: &Lock, reference: &Reference) -> Option<Digest> {
    let by_digest = Reference { tag: None, ..reference.clone() };
    let images = &lock.file.images;
    let exact = reference.digest.and_then(|_| images.get(&by_digest));
    exact.copied().or_else(|| lock.tag(&key_of(reference)?)).map(|locked| locked.digest)
}

fn key_of(reference: &Reference) -> Option<PinKey> {
    let Reference { registry, repository, tag, .. } = reference.clone();
    Some(PinKey { registry, repository, tag: tag? })
}

struct Gate<'a> {
    pull: &'a Pull,
    settings: Arc<Settings>,
    candidate: &'a Candidate,
}

impl Gate<'_> {
    async fn verdict(&self) -> Result<Verdict, LedgerError> {
        let Candidate { reference, digest } = self.candidate;
        if let Some(words) = self.revoked().await {
            return Ok(Err(words));
        }
        if let Some(other) = reference.digest.filter(|named| named != digest) {
            return Ok(Err(format!("the name asks for {other}, and this is {digest}")));
        }
        if let Some(lock) = self.settings.lock.clone()
            && let Some(verdict) = self.by_lock(&lock).await
        {
            return Ok(verdict);
        }
        match key_of(reference) {
            Some(key) => self.by_tag(&key).await,
            None => self.by_repository().await,
        }
    }

    /// Whether a person denied it, or anything that it leads to and that is here.
    async fn revoked(&self) -> Option<String> {
        let digest = self.candidate.digest;
        let is_revoked = |digest: &Digest| self.ledger().is_revoked(digest);
        if is_revoked(&digest) {
            return Some(format!("{digest} is revoked"));
        }
        if !self.ledger().has_revoked() {
            return None;
        }
        let root = self.manifest(&digest).await?;
        let mut below: Vec<Digest> = root.digests().map(|it| it.digest).collect();
        for child in root.children.iter().take(CHILDREN) {
            let child = self.manifest(&child.digest).await;
            below.extend(child.iter().flat_map(Manifest::digests).map(|it| it.digest));
        }
        below.iter().find(|it| is_revoked(it)).map(|it| format!("it needs {it}, which is revoked"))
    }

    /// By the lock file; `None` if that leaves it to the ledger.
    async fn by_lock(&self, lock: &Lock) -> Option<Verdict> {
        let Candidate { reference, digest } = self.candidate;
        if let Some(locked) = named(lock, reference) {
            return Some(match self.relation(locked).await {
                Some(what) => Ok(format!("{what} {reference} in the lock file")),
                None => Err(format!("the lock file has {locked} for {reference}, not {digest}")),
            });
        }
        if reference.tag.is_none() {
            let is_here = |it: &&Reference| {
                it.registry == reference.registry && it.repository == reference.repository
            };
            for (name, locked) in lock.file.images.iter().filter(|(name, _)| is_here(name)) {
                if let Some(what) = self.relation(locked.digest).await {
                    return Some(Ok(format!("{what} {name} in the lock file")));
                }
            }
        }
        lock.is_locked.then(|| Err(format!("{reference} is not in the lock file")))
    }

    async fn by_tag(&self, key: &PinKey) -> Result<Verdict, LedgerError> {
        let Candidate { reference, digest } = self.candidate;
        let is_recorded = match self.settings.policy.decide(key) {
            Decision::Exempt | Decision::Unmatched => true,
            Decision::Ruled(rule) => rule.reaction == Reaction::Record,
        };
        let state = self.ledger().state(key).await?.unwrap_or_default();
        if state.rejected.contains(digest) {
            return Ok(Err(format!("{digest} is rejected for {key}")));
        }
        let standing = tag::standing(key, &state, is_recorded);
        if let Ok((stands, words)) = &standing
            && let Some(what) = self.relation(*stands).await
        {
            return Ok(Ok(format!("{what} {key}, {words}")));
        }
        if is_recorded && self.pull.is_claimed(key, digest) {
            return Ok(Ok(format!(
                "the upstream just named it for {key}, which is only recorded: nothing is promised"
            )));
        }
        if is_recorded && reference.digest.is_some() {
            // The digest is what was asked for, and nothing is promised of the tag.
            return self.by_repository().await;
        }
        Ok(Err(standing.map_or_else(|words| words, |_| tag::differs(key, &state, digest))))
    }

    /// What the candidate is to something that is vouched for: the same, or an image in it.
    async fn relation(&self, vouched: Digest) -> Option<String> {
        let digest = self.candidate.digest;
        if vouched == digest {
            return Some("it is".to_owned());
        }
        let index = self.manifest(&vouched).await?;
        let is_it = |child: &&crate::oci::Descriptor| {
            let kind = child.media_type.manifest_kind();
            child.digest == digest && !child.is_attestation && kind.is_some_and(|it| !it.is_index())
        };
        let child = index.children.iter().find(is_it)?;
        let platform = child.platform.as_ref().filter(|it| !it.is_unknown());
        Some(match platform {
            Some(it) => {
                let shown = crate::printable::escape_within(&it.to_string(), 60);
                format!("it is the {shown} image of")
            }
            None => "it is an image of".to_owned(),
        })
    }

    async fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let stored = self.pull.manifest_at_hand(digest).await?;
        Manifest::parse(&stored.bytes, None).ok()
    }

    fn ledger(&self) -> &dyn LedgerStore {
        &*self.pull.edges().ledger
    }
}
