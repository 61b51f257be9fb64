//! The config of an image: what runs in it, and what it says of itself.
//!
//! Source: OCI image-spec, config.md; Docker's "Image Specification v1.2".

use std::collections::{BTreeMap, BTreeSet};

use serde_json::from_slice;

use super::json::{Node, Object};
use crate::oci::MediaType;

/// The largest config that is read, in bytes. Honest ones have some KiB.
pub const CONFIG_LIMIT: u64 = 1 << 20;

/// The fields of the whole whose second spelling would matter.
const TOP: [&str; 6] = ["architecture", "config", "created", "os", "rootfs", "variant"];

/// The fields that decide how a container runs, as they are compared and shown.
pub(super) const RUN: [&str; 10] = [
    "Entrypoint",
    "Cmd",
    "User",
    "WorkingDir",
    "Shell",
    "Healthcheck",
    "OnBuild",
    "StopSignal",
    "ExposedPorts",
    "Volumes",
];

/// What triage wants of a config.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// What of [`RUN`] it says, in a form in which equal is equal.
    pub(super) run: BTreeMap<&'static str, String>,
    /// Names and values. Values are compared, never shown: they may be secrets.
    pub(super) env: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: Option<String>,
    /// The digests of the layers' content, as it claims.
    pub(super) diff_ids: Vec<String>,
    /// `os/architecture`.
    pub(super) platform: Option<String>,
    /// Whether clients may read it in different ways.
    pub(super) is_ambiguous: bool,
}

/// Whether content of this type is an image's config.
pub(super) fn is_config(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
    )
}

impl Config {
    /// Reads a config; `None` if it is no JSON object.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let node: Node = from_slice(bytes).ok()?;
        let top = node.object()?;
        let mut config = Self {
            created: text(top, "created"),
            platform: platform(top),
            is_ambiguous: top.is_ambiguous(&TOP),
            ..Self::default()
        };
        let root = top.get("rootfs").and_then(Node::object);
        let ids = root.and_then(|root| root.get("diff_ids")).map(Node::texts);
        config.diff_ids = ids.unwrap_or_default().into_iter().map(str::to_owned).collect();
        if let Some(inner) = top.get("config").and_then(Node::object) {
            config.read_inner(inner);
        }
        Some(config)
    }

    fn read_inner(&mut self, inner: &Object) {
        self.is_ambiguous |= inner.is_ambiguous(&RUN) || inner.is_ambiguous(&["Env", "Labels"]);
        for name in RUN {
            let Some(node) = inner.get(name).filter(|node| !node.is_empty()) else { continue };
            self.run.insert(name, written(name, node));
        }
        let env = inner.get("Env").map(Node::texts).unwrap_or_default();
        for (name, value) in env.iter().map(|it| it.split_once('=').unwrap_or((it, ""))) {
            self.is_ambiguous |= self.env.insert(name.to_owned(), value.to_owned()).is_some();
        }
        let labels = inner.get("Labels").and_then(Node::object);
        for (name, value) in labels.iter().flat_map(|labels| labels.entries()) {
            let value = value.text().unwrap_or_default();
            self.labels.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Who the container runs as; `root` if nobody is named.
    pub(super) fn runs_as_root(&self) -> bool {
        let user = self.run.get("User").map_or("", String::as_str);
        let name = user.split(':').next().unwrap_or_default();
        name.is_empty() || name == "root" || name.parse::<i64>() == Ok(0)
    }
}

/// A field's value: sets by their sorted names, a command by its words, all else as it came.
fn written(name: &str, node: &Node) -> String {
    match (name, node) {
        ("ExposedPorts" | "Volumes", Node::Object(set)) => {
            let names: BTreeSet<_> = set.entries().map(|(name, _)| name).collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        }
        ("User" | "WorkingDir" | "StopSignal", Node::Text(text)) => text.clone(),
        ("Entrypoint" | "Cmd" | "Shell" | "OnBuild", Node::Text(_)) => {
            let mut list = String::from("[");
            node.write(&mut list);
            list + "]"
        }
        _ => {
            let mut written = String::new();
            node.write(&mut written);
            written
        }
    }
}

fn platform(top: &Object) -> Option<String> {
    let (os, architecture) = (text(top, "os")?, text(top, "architecture")?);
    let variant = text(top, "variant").filter(|variant| !variant.is_empty());
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{os}/{architecture}{variant}"))
}

fn text(object: &Object, name: &str) -> Option<String> {
    object.get(name).and_then(Node::text).map(str::to_owned)
}
