//! The part of the facts that a snapshot holds: rows in order, looked up as they lie in the file.
//!
//! A million tags are 24 MB here, their manifests 12, read in one go; in a hash table they would be twice that, and
//! would have to be put in one by one.

use super::facts::{Entry, Fresh};
use super::place::Spot;
use super::take;

/// Tags and manifests in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// By fingerprint, ascending: fingerprint (8 bytes), then [`Entry::to_bytes`].
    tags: Vec<u8>,
    /// By the first four bytes of manifests' digests, ascending: these, then [`Spot::to_bytes`].
    manifests: Vec<u8>,
}

/// The length of a tag's row and of a manifest's.
pub(crate) const TAG: usize = 24;
pub(crate) const MANIFEST: usize = 12;

impl Base {
    /// From rows; `None` if they are none, or not in order.
    pub(crate) fn new(tags: Vec<u8>, manifests: Vec<u8>) -> Option<Self> {
        let whole = tags.len().is_multiple_of(TAG) && manifests.len().is_multiple_of(MANIFEST);
        let base = Self { tags, manifests };
        let first = |row: &[u8]| head(row);
        let begins = |row: &[u8]| start(row);
        let ordered = whole
            && base.tags.chunks_exact(TAG).map(first).is_sorted_by(|a, b| a < b)
            && base.manifests.chunks_exact(MANIFEST).map(begins).is_sorted_by(|a, b| a < b);
        ordered.then_some(base)
    }

    /// The rows of tags.
    pub(crate) fn tags(&self) -> &[u8] {
        &self.tags
    }

    /// The rows of manifests.
    pub(crate) fn manifests(&self) -> &[u8] {
        &self.manifests
    }

    /// What is known of a tag.
    pub(crate) fn tag(&self, fingerprint: u64) -> Option<Entry> {
        let at = find(&self.tags, TAG, fingerprint, u64::MAX, head)?;
        Entry::from_bytes(&self.tags[at * TAG + 8..(at + 1) * TAG])
    }

    /// Where the first manifest with this prefix lies.
    pub(crate) fn manifest(&self, prefix: u32) -> Option<Spot> {
        let at = find(&self.manifests, MANIFEST, prefix.into(), u32::MAX.into(), start)?;
        Spot::from_bytes(&self.manifests[at * MANIFEST + 4..(at + 1) * MANIFEST])
    }

    /// This and what came since, in order.
    pub(crate) fn with(&self, fresh: &Fresh) -> Self {
        let mut tags: Vec<_> = fresh.tags.iter().map(|(name, entry)| (*name, *entry)).collect();
        tags.sort_unstable_by_key(|(name, _)| *name);
        let tags = tags.into_iter().map(|(name, entry)| {
            let mut row = [0; TAG];
            row[..8].copy_from_slice(&name.to_be_bytes());
            row[8..].copy_from_slice(&entry.to_bytes());
            row
        });
        let mut manifests: Vec<_> = fresh.manifests.iter().map(|(it, at)| (*it, *at)).collect();
        manifests.sort_unstable_by_key(|(prefix, _)| *prefix);
        let manifests = manifests.into_iter().map(|(prefix, spot)| {
            let mut row = [0; MANIFEST];
            row[..4].copy_from_slice(&prefix.to_be_bytes());
            row[4..].copy_from_slice(&spot.to_bytes());
            row
        });
        Self {
            tags: merge::<TAG, 8>(&self.tags, tags),
            manifests: merge::<MANIFEST, 4>(&self.manifests, manifests),
        }
    }
}

/// Rows of `N` bytes, ordered by their first `K`; a newer row takes the place of an older one.
fn merge<const N: usize, const K: usize>(
    old: &[u8],
    new: impl ExactSizeIterator<Item = [u8; N]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(old.len() + new.len() * N);
    let mut rest = old;
    for row in new {
        let before = rest.chunks_exact(N).take_while(|it| it[..K] < row[..K]).count() * N;
        let (older, behind) = rest.split_at(before);
        out.extend_from_slice(older);
        out.extend_from_slice(&row);
        rest = if behind.starts_with(&row[..K]) { &behind[N..] } else { behind };
    }
    out.extend_from_slice(rest);
    out.shrink_to_fit();
    out
}

fn head(row: &[u8]) -> u64 {
    take::u64(&mut &*row).unwrap_or(0)
}

fn start(row: &[u8]) -> u64 {
    take::u32(&mut &*row).map_or(0, u64::from)
}

/// The row with this name. Names are hashes, spread evenly up to `most`: so the first guesses are
/// near, and halving is left for what chance makes uneven.
fn find(
    rows: &[u8],
    width: usize,
    wanted: u64,
    most: u64,
    name: impl Fn(&[u8]) -> u64,
) -> Option<usize> {
    let (mut low, mut high) = (0, rows.len() / width);
    let (mut least, mut most) = (0, most);
    for guess in 0.. {
        if low >= high {
            break;
        }
        let middle = if guess < 4 && most > least {
            let share = u128::from(wanted.clamp(least, most) - least) * (high - low) as u128;
            let step = usize::try_from(share / (u128::from(most - least) + 1)).unwrap_or(0);
            low + step.min(high - low - 1)
        } else {
            low + (high - low) / 2
        };
        let there = name(&rows[middle * width..]);
        match there.cmp(&wanted) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => (low, least) = (middle + 1, there),
            std::cmp::Ordering::Greater => (high, most) = (middle, there),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: u64) -> Entry {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Entry::from_bytes(&bytes).unwrap()
    }

    fn spot(number: u64) -> Spot {
        Spot::from_bytes(&number.to_be_bytes()).unwrap()
    }

    fn low(name: u64) -> u32 {
        u32::try_from(name & u64::from(u32::MAX)).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_merged_is_found_the_latest_of_each(
            rounds in proptest::collection::vec(
                proptest::collection::vec((prop_oneof![0u64..40, any::<u64>()], any::<u64>()), 0..40),
                0..5,
            ),
            other in any::<u64>(),
        ) {
            let mut base = Base::default();
            let mut all = std::collections::BTreeMap::new();
            let mut spots = std::collections::BTreeMap::new();
            for round in rounds {
                let mut fresh = Fresh::default();
                for (name, number) in round {
                    fresh.tags.insert(name, entry(number));
                    fresh.manifests.insert(low(name), spot(number));
                    spots.insert(low(name), spot(number));
                    all.insert(name, number);
                }
                base = base.with(&fresh);
            }
            for (name, number) in &all {
                prop_assert_eq!(base.tag(*name), Some(entry(*number)));
                prop_assert_eq!(base.manifest(low(*name)), spots.get(&low(*name)).copied());
            }
            prop_assert_eq!(base.tag(other).is_some(), all.contains_key(&other));
            prop_assert_eq!(base.manifest(low(other)), spots.get(&low(other)).copied());
            let (tags, manifests) = (base.tags.clone(), base.manifests.clone());
            prop_assert_eq!(Base::new(tags, manifests), Some(base));
        }
    }

    #[test]
    fn rows_out_of_order_are_none() {
        let row = |name: u64| [&name.to_be_bytes()[..], &[0; 16]].concat();
        assert!(Base::new([row(1), row(2)].concat(), vec![0; 12]).is_some());
        assert!(Base::new([row(2), row(1)].concat(), Vec::new()).is_none());
        assert!(Base::new([row(1), row(1)].concat(), Vec::new()).is_none());
        assert!(Base::new(vec![0; 23], Vec::new()).is_none());
        let begins = |first: u32| [&first.to_be_bytes()[..], &[0; 8]].concat();
        assert!(Base::new(Vec::new(), [begins(1), begins(2)].concat()).is_some());
        assert!(Base::new(Vec::new(), [begins(1), begins(0)].concat()).is_none());
        assert!(Base::new(Vec::new(), [begins(1), begins(1)].concat()).is_none());
    }
}
