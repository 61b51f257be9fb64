//! Whose a digest is that a tag does not point to: containerd #6450, where any tag can be written in
//! front of any digest of the repository.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::ask::{Heard, ask, head, tags};
use crate::cli::client::Client;
use crate::decide::{Filter, Reply, Request};
use crate::oci::{Digest, Manifest, Reference, Tag};
use crate::pin::PinKey;
use crate::printable::escape_within;
use crate::upstream::Upstreams;

/// How many tags an upstream is asked for.
const TAGS: usize = 64;

/// How many of those at once.
const AT_ONCE: usize = 8;

/// How many tags that have the digest are told.
const OTHERS: usize = 20;

/// What a digest is to a tag and its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DigestIs {
    /// The repository has no such manifest.
    Absent,
    /// The config of what the tag points to: what `docker images` calls the image's id.
    ConfigOfThisTag,
    /// In the repository, and no tag was found that has it.
    NoTag,
    /// What other tags point to.
    OtherTag,
    /// The image of one platform in what the tag points to.
    PlatformOfThisTag,
    /// What the tag points to.
    ThisTag,
    /// Nobody could be asked.
    Unknown,
}

/// Who says that another tag has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    /// The ledger: it is that tag's pin.
    LedgerPin,
    /// The ledger: it was last recorded there.
    LedgerRecorded,
    /// The ledger: it was seen there.
    LedgerSeen,
    /// The upstream, now.
    Upstream,
}

/// Another tag that has the digest, or had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OtherTag {
    pub(super) tag: Tag,
    pub(super) says: Source,
}

/// Whose a digest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Whose {
    pub(super) digest_is: DigestIs,
    /// Of the platform's image, as the index says it.
    pub(super) platform: Option<String>,
    pub(super) other_tags: Vec<OtherTag>,
    /// How many tags the upstream was asked for, out of how many that it listed.
    pub(super) tags_asked: usize,
    pub(super) tags_listed: usize,
    /// Whether there may be more tags than were asked for.
    pub(super) is_cut: bool,
}

impl Whose {
    pub(super) const fn plain(digest_is: DigestIs) -> Self {
        let other_tags = Vec::new();
        Self { digest_is, platform: None, other_tags, tags_asked: 0, tags_listed: 0, is_cut: false }
    }
}

/// What a digest is within what a tag points to, if anything.
pub(super) fn within(manifest: &Manifest, digest: Digest) -> Option<Whose> {
    if manifest.config.as_ref().is_some_and(|config| config.digest == digest) {
        return Some(Whose::plain(DigestIs::ConfigOfThisTag));
    }
    let mut children = manifest.children.iter().filter(|child| !child.is_attestation);
    let child = children.find(|child| child.digest == digest)?;
    let platform = child.platform.as_ref().map(|it| escape_within(&it.to_string(), 60));
    Some(Whose { platform, ..Whose::plain(DigestIs::PlatformOfThisTag) })
}

/// Looks for the digest elsewhere in the repository: in the ledger, then at the upstream, where it
/// is asked for itself, and then for tags, not more than [`TAGS`].
pub(super) async fn elsewhere(
    reference: &Reference,
    digest: Digest,
    upstreams: &Upstreams,
    client: Option<&Client>,
) -> anyhow::Result<Whose> {
    let mut whose = Whose::plain(DigestIs::Unknown);
    if let Some(client) = client {
        whose.other_tags = of_ledger(reference, digest, client).await?;
    }
    let itself = Reference { tag: None, digest: Some(digest), ..reference.clone() };
    let (heard, _) = ask(&itself, upstreams).await;
    let is_there = matches!(&heard, Heard::Answer(it) if it.supports(&digest));
    if is_there {
        of_upstream(reference, digest, upstreams, &mut whose).await;
    }
    whose.other_tags.truncate(OTHERS);
    whose.digest_is = match (whose.other_tags.is_empty(), heard) {
        (false, _) => DigestIs::OtherTag,
        (true, Heard::Answer(_)) if is_there => DigestIs::NoTag,
        (true, Heard::Nothing) => DigestIs::Absent,
        (true, _) => DigestIs::Unknown,
    };
    Ok(whose)
}

async fn of_ledger(
    reference: &Reference,
    digest: Digest,
    client: &Client,
) -> anyhow::Result<Vec<OtherTag>> {
    // The brackets of an address are no glob.
    let glob = format!("{}/{}", reference.registry, reference.repository).replace(['[', ']'], "?");
    let filter = Filter { glob: Some(glob), ..Filter::default() };
    let mut answer = client.ask(Request::List(filter)).await?;
    let mut found = Vec::new();
    while let Some(reply) = answer.next().await? {
        let Reply::Tag(entry) = reply else { continue };
        let PinKey { registry, repository, tag } = &entry.key;
        let is_here = *registry == reference.registry && *repository == reference.repository;
        if !is_here || reference.tag.as_ref() == Some(tag) {
            continue;
        }
        let state = &entry.state;
        let is_it = |pin: &crate::pin::Pin| pin.content.digest == digest;
        let says = if state.pin.as_ref().is_some_and(is_it) {
            Source::LedgerPin
        } else if state.recorded.as_ref().is_some_and(is_it) {
            Source::LedgerRecorded
        } else if state.seen(&digest).is_some() {
            Source::LedgerSeen
        } else {
            continue;
        };
        found.push(OtherTag { tag: tag.clone(), says });
    }
    Ok(found)
}

async fn of_upstream(
    reference: &Reference,
    digest: Digest,
    upstreams: &Upstreams,
    whose: &mut Whose,
) {
    let Some((listed, has_more)) = tags(reference, upstreams).await else {
        whose.is_cut = true;
        return;
    };
    whose.tags_listed = listed.len();
    let others = listed.into_iter().filter(|tag| reference.tag.as_ref() != Some(tag));
    let others: Vec<_> = others.collect();
    whose.is_cut = has_more || others.len() > TAGS;
    let asked: Vec<_> = others.into_iter().take(TAGS).collect();
    whose.tags_asked = asked.len();
    let asking = stream::iter(asked).map(|tag| async move {
        let named = Reference { tag: Some(tag.clone()), digest: None, ..reference.clone() };
        let is_claimed = head(&named, upstreams).await == Some(digest);
        // What a HEAD says is a claim: what is told was hashed.
        let is_it = is_claimed
            && matches!(ask(&named, upstreams).await.0, Heard::Answer(it) if it.supports(&digest));
        is_it.then_some(tag)
    });
    let found: Vec<_> = asking.buffered(AT_ONCE).collect().await;
    for tag in found.into_iter().flatten() {
        whose.other_tags.push(OtherTag { tag, says: Source::Upstream });
    }
}
