//! Which image a digest belongs to: a client that pulls a tag asks by digest for what the tag led
//! to, and a report shows images, not their parts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::tally::Tallies;
use crate::lockfile::LockFile;
use crate::oci::{Digest, MANIFEST_LIMIT, Manifest, Reference, Registry, Repository};
use crate::pull::Pull;

/// A repository, and a digest in it.
pub(super) type Spot = (Registry, Repository, Digest);

/// Hands what was asked for by digest to the references that led there: tags, entries of the lock
/// file, then indexes that were asked for by digest themselves.
///
/// What a manifest says that it refers to counts for nothing here: any image could name a locked
/// one as its subject.
pub(super) async fn gather_families(pull: &Arc<Pull>, tallies: &mut Tallies, lock: &LockFile) {
    let mut owners = HashMap::new();
    for (reference, tally) in &tallies.all {
        for digest in tally.digests.iter().filter(|_| reference.tag.is_some()) {
            owners.entry(spot(reference, *digest)).or_insert_with(|| reference.clone());
        }
    }
    for (reference, locked) in &lock.images {
        let owner = || reference.clone();
        owners.entry(spot(reference, locked.digest)).or_insert_with(owner);
    }
    hand_over(tallies, &owners);
    let children = children_of(pull, tallies, &owners).await;
    hand_over(tallies, &children);
    let own = orphans(tallies).map(|(spot, reference)| (spot, reference.clone())).collect();
    let children = children_of(pull, tallies, &own).await;
    hand_over(tallies, &children);
}

/// All that was asked for by its digest, or given by a tag.
pub(super) fn asked(tallies: &Tallies) -> HashSet<Spot> {
    let all = tallies.all.iter().flat_map(|(reference, tally)| {
        let digests = reference.digest.iter().chain(&tally.digests);
        digests.map(|digest| spot(reference, *digest))
    });
    all.collect()
}

pub(super) fn spot(reference: &Reference, digest: Digest) -> Spot {
    (reference.registry.clone(), reference.repository.clone(), digest)
}

/// What was asked for by digest, and stands for itself as yet.
fn orphans(tallies: &Tallies) -> impl Iterator<Item = (Spot, &Reference)> {
    tallies.all.keys().filter_map(|reference| Some((spot(reference, reference.digest?), reference)))
}

fn hand_over(tallies: &mut Tallies, owners: &HashMap<Spot, Reference>) {
    let known = orphans(tallies).filter_map(|(spot, orphan)| {
        let owner = owners.get(&spot).filter(|owner| *owner != orphan)?;
        Some((orphan.clone(), owner.clone()))
    });
    for (orphan, owner) in known.collect::<Vec<_>>() {
        if let Some(tally) = tallies.all.remove(&orphan) {
            tallies.all.entry(owner).or_default().absorb(&tally);
        }
    }
}

/// What the manifests of these owners list, in repositories where a digest has no owner yet.
async fn children_of(
    pull: &Arc<Pull>,
    tallies: &Tallies,
    owners: &HashMap<Spot, Reference>,
) -> HashMap<Spot, Reference> {
    let mut wanted: BTreeMap<(Registry, Repository), BTreeSet<Digest>> = BTreeMap::new();
    for ((registry, repository, digest), _) in orphans(tallies) {
        wanted.entry((registry, repository)).or_default().insert(digest);
    }
    let mut children = HashMap::new();
    for ((registry, repository, digest), owner) in owners {
        let Some(wanted) = wanted.get(&(registry.clone(), repository.clone())) else { continue };
        let Some(manifest) = manifest(pull, digest).await else { continue };
        let listed = manifest.children.iter().map(|child| child.digest);
        for child in listed.filter(|child| wanted.contains(child) && child != digest) {
            let spot = (registry.clone(), repository.clone(), child);
            // One child of two tags: the first by name, so that a report is the same twice.
            let first = children.entry(spot).or_insert_with(|| owner.clone());
            if owner < &*first {
                first.clone_from(owner);
            }
        }
    }
    children
}

/// A manifest that is here, from the ledger or the store; no upstream is asked.
pub(super) async fn manifest(pull: &Arc<Pull>, digest: &Digest) -> Option<Manifest> {
    let edges = pull.edges();
    if let Ok(Some(stored)) = edges.ledger.manifest(digest).await {
        return Manifest::parse(&stored.bytes, Some(&stored.content.media_type)).ok();
    }
    let (store, digest) = (Arc::clone(&edges.store), *digest);
    let read = move || store.read_small(&digest, MANIFEST_LIMIT as u64);
    let bytes = tokio::task::spawn_blocking(read).await.ok()?.ok()??;
    Manifest::parse(&bytes, None).ok()
}
