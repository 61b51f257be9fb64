//! `images:` of a kustomization.
//!
//! Source: kustomize, "images". A name is compared with what stands in the manifests as text, and
//! without its tag: so one on docker.io is given in each way that it may be written, and of a
//! repository with several digests nothing can be said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::pins::Pins;
use crate::oci::{Digest, Reference};

/// The text, and what was left out of it, in words.
pub(super) fn images(pins: &Pins) -> (String, Vec<String>) {
    let mut repositories: BTreeMap<Reference, Vec<(&Reference, &Digest)>> = BTreeMap::new();
    for (reference, digest) in &pins.images {
        let repository = Reference { tag: None, digest: None, ..reference.clone() };
        repositories.entry(repository).or_default().push((reference, digest));
    }
    let (mut text, mut unclear) = ("images:\n".to_owned(), Vec::new());
    for (repository, mut entries) in repositories {
        // A tag says more than the same digest without one.
        entries.sort_by_key(|(reference, _)| reference.tag.is_none());
        let Some((reference, digest)) = entries.first() else { continue };
        let is_one = entries
            .iter()
            .all(|(other, it)| it == digest && (other.tag.is_none() || other.tag == reference.tag));
        if !is_one {
            unclear.push(format!(
                "left out: {repository}: it has several tags or digests here, and kustomize tells \
                 images apart by their names alone"
            ));
            continue;
        }
        for name in names(&repository) {
            write_image(&mut text, &name, reference, digest);
        }
    }
    if text == "images:\n" {
        "images: []\n".clone_into(&mut text);
    }
    (text, unclear)
}

fn write_image(text: &mut String, name: &str, reference: &Reference, digest: &Digest) {
    // What is written has no quotes and no escapes in it: names, tags and digests cannot.
    let _ = writeln!(text, "  - name: \"{name}\"");
    if let Some(tag) = &reference.tag {
        let _ = writeln!(text, "    newTag: \"{tag}\"");
    }
    let _ = writeln!(text, "    digest: \"{digest}\"");
}

/// How a repository may be written in a manifest.
fn names(repository: &Reference) -> Vec<String> {
    let full = repository.to_string();
    let mut names = Vec::new();
    if let Some(short) = full.strip_prefix("docker.io/") {
        if let Some(shortest) = short.strip_prefix("library/") {
            names.extend([shortest.to_owned(), format!("docker.io/{shortest}")]);
        }
        names.push(short.to_owned());
    }
    names.push(full);
    names
}
