//! What lies below two manifests, as far as it is at hand, and what more would tell more.

use std::collections::HashMap;

use bytes::Bytes;

use super::Side;
use super::config::{CONFIG_LIMIT, Config, is_config};
use super::platforms::{Half, looked_into};
use super::read::Read;
use crate::oci::{ComputedDigest, Descriptor, Digest, MANIFEST_LIMIT, MediaType};
use crate::pin::Content;

/// Manifests and configs by digest. What does not hash to its digest, or is too long, is not taken.
#[derive(Clone, Debug, Default)]
pub struct Material {
    manifests: HashMap<Digest, Bytes>,
    configs: HashMap<Digest, Bytes>,
}

/// Something that would tell more of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as its parent claims.
    pub media_type: MediaType,
    /// Whether it is a config, which is a blob; else it is a manifest.
    pub is_config: bool,
}

impl Material {
    /// Takes what was wanted, if these bytes are it; whether they are.
    pub fn add(&mut self, wanted: &Wanted, bytes: Bytes) -> bool {
        let most = if wanted.is_config { CONFIG_LIMIT } else { MANIFEST_LIMIT as u64 };
        let digest = wanted.digest;
        if bytes.len() as u64 > most || !ComputedDigest::of(&bytes, Some(&digest)).supports(&digest)
        {
            return false;
        }
        let all = if wanted.is_config { &mut self.configs } else { &mut self.manifests };
        all.insert(digest, bytes);
        true
    }

    /// A child of an index, if it is here and can be read.
    pub(super) fn manifest(&self, child: &Descriptor) -> Option<Read> {
        let bytes = self.manifests.get(&child.digest)?;
        let (media_type, size_bytes) = (child.media_type.clone(), bytes.len() as u64);
        Read::of(&Content { digest: child.digest, media_type, size_bytes }, bytes).ok()
    }

    /// An image's config, if it is here, and one.
    pub(super) fn config(&self, config: &Descriptor) -> Option<Config> {
        self.configs.get(&config.digest).and_then(|bytes| Config::read(bytes))
    }
}

/// What a comparison would make use of and has not: the images of a few platforms first, then their
/// configs. So this is asked twice; what was wanted before and could not be had is wanted again.
pub fn wanted(before: Side<'_>, after: Side<'_>, material: &Material) -> Vec<Wanted> {
    let sides = [before, after].map(|side| Read::of(side.content, side.bytes));
    let [Ok(before), Ok(after)] = &sides else { return Vec::new() };
    let mut all = Vec::new();
    for pair in looked_into(before, after) {
        let children = [&pair.before, &pair.after].map(|half| match half {
            Half::Root(_) => None,
            Half::Child(child) => Some(*child),
        });
        let missing = children.into_iter().flatten();
        let missing = missing.filter(|child| !material.manifests.contains_key(&child.digest));
        all.extend(missing.map(|child| Wanted::of(child, false)));
        let [Some(old), Some(new)] = [pair.before, pair.after].map(|half| half.read(material))
        else {
            continue;
        };
        let configs = [&old, &new].map(|read| read.get().manifest.config.as_ref());
        let [Some(old), Some(new)] = configs else { continue };
        let differ = old.digest != new.digest;
        let missing = [old, new].into_iter().filter(|config| {
            differ
                && is_config(&config.media_type)
                && config.size_bytes <= CONFIG_LIMIT
                && !material.configs.contains_key(&config.digest)
        });
        all.extend(missing.map(|config| Wanted::of(config, true)));
    }
    all
}

impl Wanted {
    fn of(descriptor: &Descriptor, is_config: bool) -> Self {
        let Descriptor { digest, media_type, .. } = descriptor;
        Self { digest: *digest, media_type: media_type.clone(), is_config }
    }
}
