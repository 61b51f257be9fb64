//! `kubectl get pods -A -o json`: what a cluster runs.
//!
//! The tag is the one in the pod's specification; the digest is what the node says of it in
//! `imageID`: `docker-pullable://repo@sha256:…` (Docker), `repo@sha256:…` (containerd, CRI-O), or
//! a config's digest, `docker://sha256:…`, `sha256:…` or 64 digits, where the node knows no other.

use std::io::Read;

use serde::Deserialize;

use super::bounded::{Bounded, document};
use super::gather::Gather;
use super::inspect::hex_or_digest;
use crate::decide::Claimed;
use crate::oci::{Digest, Reference};
use crate::pin::PinKey;

/// A list of pods, or a single one.
#[derive(Deserialize)]
struct Document {
    items: Option<Bounded<Pod>>,
    spec: Option<Spec>,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    containers: Bounded<Container>,
    init_containers: Bounded<Container>,
    ephemeral_containers: Bounded<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "containerStatuses")]
    containers: Bounded<ContainerStatus>,
    #[serde(rename = "initContainerStatuses")]
    init_containers: Bounded<ContainerStatus>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral_containers: Bounded<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
}

/// Reads pods; a tag's place is the number of its pod.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let Document { items, spec, status } = document(input)?;
    let single = spec.map(|spec| Pod { spec, status });
    let pods = items.unwrap_or_default().0.into_iter().chain(single);
    let mut gather = Gather::default();
    for (place, Pod { spec, status }) in (1..).zip(pods) {
        for (containers, statuses) in [
            (&spec.containers, &status.containers),
            (&spec.init_containers, &status.init_containers),
            (&spec.ephemeral_containers, &status.ephemeral_containers),
        ] {
            for container in &containers.0 {
                let found = statuses.0.iter().find(|status| status.name == container.name);
                let image_id = found.map_or("", |status| status.image_id.as_str());
                claim(&mut gather, &container.image, image_id, place)?;
            }
        }
    }
    Ok(gather)
}

fn claim(gather: &mut Gather, image: &str, id: &str, place: u64) -> anyhow::Result<()> {
    match read_pair(image, id) {
        Ok((key, digest, is_config)) => gather.claim(Claimed { key, digest, is_config, place }),
        Err(why) => {
            gather.skip(place, image, why);
            Ok(())
        }
    }
}

fn read_pair(image: &str, id: &str) -> Result<(PinKey, Digest, bool), &'static str> {
    let reference: Reference = image.parse().map_err(|_| "the image is no reference")?;
    if let (None, Some(_)) = (&reference.tag, &reference.digest) {
        return Err("it names no tag");
    }
    let tag = reference.tag_or_latest();
    let Reference { registry, repository, digest, .. } = reference;
    let key = PinKey { registry, repository, tag };
    if let Some(digest) = digest {
        return Ok((key, digest, false));
    }
    let id = id.split_once("://").map_or(id, |(_, id)| id);
    if id.is_empty() {
        return Err("no node has run it yet");
    }
    if let Some(config) = hex_or_digest(id) {
        return Ok((key, config, true));
    }
    let found: Reference = id.parse().map_err(|_| "the image's id is not understood")?;
    if (&found.registry, &found.repository) != (&key.registry, &key.repository) {
        return Err("the node names it by another repository");
    }
    found.digest.map(|digest| (key, digest, false)).ok_or("the image's id has no digest")
}
