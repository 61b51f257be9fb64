//! What a list comes to: one claim for each tag, what was left out, and what contradicts itself.

use std::collections::BTreeMap;

use anyhow::bail;

use crate::decide::Claimed;
use crate::ledger::BULK_LIMIT;
use crate::oci::{Algorithm, Digest, Reference};
use crate::pin::PinKey;
use crate::sources::{Found, Mention};

/// How much of what was left out is named one by one.
const TOLD: usize = 200;

/// How much of a hostile name is repeated.
const NAME_LENGTH: usize = 120;

/// Something in a list from which no claim comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) place: u64,
    pub(super) what: String,
    pub(super) why: &'static str,
}

/// Two digests for one tag in one list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction {
    pub(super) key: PinKey,
    pub(super) digests: [Digest; 2],
    pub(super) places: [u64; 2],
}

/// A list that is being read.
#[derive(Debug, Default)]
pub(super) struct Gather {
    claims: BTreeMap<PinKey, Claimed>,
    /// The first of what was left out.
    pub(super) skipped: Vec<Skipped>,
    /// How much was left out.
    pub(super) skipped_count: u64,
    /// The tags for which the list has several digests; none of them is claimed.
    pub(super) contradictions: BTreeMap<PinKey, Contradiction>,
}

impl Gather {
    /// Takes a claim in. The digest of a config gives way to that of a manifest.
    pub(super) fn claim(&mut self, claimed: Claimed) -> anyhow::Result<()> {
        if claimed.digest.algorithm() != Algorithm::Sha256 {
            self.skip(claimed.place, &claimed.key.to_string(), "pins are SHA-256");
            return Ok(());
        }
        let Some(first) = self.claims.get_mut(&claimed.key) else {
            if self.claims.len() >= BULK_LIMIT {
                bail!(
                    "the list names more than {BULK_LIMIT} tags, more than is written at once: \
                     split it; each part is all or nothing"
                );
            }
            self.claims.insert(claimed.key.clone(), claimed);
            return Ok(());
        };
        if first.is_config != claimed.is_config {
            if first.is_config {
                *first = claimed;
            }
        } else if first.digest != claimed.digest {
            let digests = [first.digest, claimed.digest];
            let places = [first.place, claimed.place];
            let contradiction = Contradiction { key: claimed.key.clone(), digests, places };
            self.contradictions.entry(claimed.key).or_insert(contradiction);
        }
        Ok(())
    }

    /// Takes in what a file names, or says why not.
    pub(super) fn found(&mut self, text: &str, found: Found) -> anyhow::Result<()> {
        let mut skipped = found.skipped.into_iter().peekable();
        let mut mentions = found.mentions;
        mentions.sort_by_key(|mention| mention.line);
        for mention in mentions {
            while let Some(skipped) = skipped.next_if(|skipped| skipped.line <= mention.line) {
                self.skip(skipped.line, &skipped.what, skipped.why);
            }
            let Mention { reference, line: place, span, is_frontend, .. } = mention;
            match pair(&reference) {
                Ok((key, digest)) => {
                    self.claim(Claimed { key, digest, is_config: false, place })?;
                }
                // Nobody thinks of it as an image of the file.
                Err(_) if is_frontend => {}
                Err(why) => {
                    let written = span.and_then(|span| text.get(span));
                    let full = reference.to_string();
                    self.skip(place, written.unwrap_or(&full), why);
                }
            }
        }
        for skipped in skipped {
            self.skip(skipped.line, &skipped.what, skipped.why);
        }
        Ok(())
    }

    /// Says that something was left out.
    pub(super) fn skip(&mut self, place: u64, what: &str, why: &'static str) {
        self.skipped_count += 1;
        if self.skipped.len() < TOLD {
            let what = what.chars().take(NAME_LENGTH).collect();
            self.skipped.push(Skipped { place, what, why });
        }
    }

    /// The claims, but for the tags that contradict themselves.
    pub(super) fn claims(&self) -> Vec<Claimed> {
        let sound = |claimed: &&Claimed| !self.contradictions.contains_key(&claimed.key);
        self.claims.values().filter(sound).cloned().collect()
    }
}

/// The tag and the digest of a reference that names both.
pub(super) fn parse(text: &str) -> Result<(PinKey, Digest), &'static str> {
    pair(&text.parse().map_err(|_| "it is no reference")?)
}

fn pair(reference: &Reference) -> Result<(PinKey, Digest), &'static str> {
    let Reference { registry, repository, tag, digest } = reference.clone();
    let digest = digest.ok_or("it names no digest")?;
    let tag = tag.ok_or("it names no tag")?;
    Ok((PinKey { registry, repository, tag }, digest))
}
