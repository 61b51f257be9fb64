//! `docker image inspect` and `podman image inspect`: what an engine has.
//!
//! `RepoTags` and `RepoDigests` are two lists that nothing connects but the repository. `Id` is the
//! digest of the config (with Docker's containerd store that of the manifest).

use std::io::Read;

use serde::Deserialize;

use super::bounded::{Bounded, document};
use super::gather::Gather;
use crate::decide::Claimed;
use crate::oci::{Digest, Reference};
use crate::pin::PinKey;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    id: String,
    /// Podman's: the digest of the manifest for this machine's platform.
    #[serde(default)]
    digest: String,
    #[serde(default)]
    repo_tags: Bounded<String>,
    #[serde(default)]
    repo_digests: Bounded<String>,
}

/// Reads the output of either; a tag's place is the number of its image.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let images: Bounded<Image> = document(input)?;
    let mut gather = Gather::default();
    for (place, image) in (1..).zip(&images.0) {
        if image.repo_tags.0.is_empty() {
            gather.skip(place, &image.id, "the image has no tag");
        }
        for tag in &image.repo_tags.0 {
            claim(&mut gather, image, tag, place)?;
        }
    }
    Ok(gather)
}

fn claim(gather: &mut Gather, image: &Image, text: &str, place: u64) -> anyhow::Result<()> {
    let Ok(Reference { registry, repository, tag: Some(tag), digest: None }) = text.parse() else {
        gather.skip(place, text, "it is no tag");
        return Ok(());
    };
    let key = PinKey { registry, repository, tag };
    match digest_of(image, &key) {
        Ok((digest, is_config)) => gather.claim(Claimed { key, digest, is_config, place }),
        Err(why) => {
            gather.skip(place, text, why);
            Ok(())
        }
    }
}

/// The digest that the engine knows for a tag's repository, and whether it is a config's.
fn digest_of(image: &Image, key: &PinKey) -> Result<(Digest, bool), &'static str> {
    let parsed = image.repo_digests.0.iter().filter_map(|text| text.parse::<Reference>().ok());
    let same = |reference: &Reference| {
        reference.registry == key.registry && reference.repository == key.repository
    };
    let mut digests: Vec<Digest> = parsed.filter(same).filter_map(|found| found.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    let id = hex_or_digest(&image.id);
    // Podman lists index and manifest: the other one is the index, which the tag names.
    let own = image.digest.parse::<Digest>().ok();
    let mut others = digests.iter().filter(|digest| Some(**digest) != own);
    match (digests.as_slice(), others.next(), others.next()) {
        ([], ..) => Err("the engine knows no digest of its repository: was it built here?"),
        ([one], ..) | (_, Some(one), None) => Ok((*one, false)),
        _ => match id {
            Some(id) if digests.contains(&id) => Ok((id, false)),
            Some(id) => Ok((id, true)),
            None => Err("it has several digests, and no id"),
        },
    }
}

/// Docker writes `sha256:` in front of an id, Podman does not.
pub(super) fn hex_or_digest(text: &str) -> Option<Digest> {
    text.parse().ok().or_else(|| format!("sha256:{text}").parse().ok())
}
