//! Layers by their digests: what a client unpacks, whatever anybody says of it.

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Manifest};

/// How two lists of layers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// All layers from before are there, and more on top of them.
    Added,
    /// Not one layer at the bottom is the same: another base, or another image.
    Replaced,
    /// The upper layers are gone.
    Removed,
    /// The same layers.
    Same,
    /// The same layers, called by other media types.
    Retyped,
    /// The lower layers are the same, the upper ones are others.
    Top,
}

/// How the layers of an image changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerChange {
    /// In which way.
    pub kind: LayerKind,
    /// How many of the lower layers are the same.
    pub same_below: usize,
    /// How many there were.
    pub before: usize,
    /// How many there are.
    pub after: usize,
    /// How long they were, packed, in bytes; as their manifest claims.
    pub before_bytes: u64,
    /// How long they are, packed, in bytes; as their manifest claims.
    pub after_bytes: u64,
    /// Both configs claim the same unpacked content for other packed layers: packed anew, if that
    /// is true. Nobody checked it.
    pub claims_same_content: bool,
}

impl LayerChange {
    /// Compares the layers of two images.
    pub(super) fn between(before: &Manifest, after: &Manifest) -> Self {
        let (old, new) = (&before.layers, &after.layers);
        let pairs = || old.iter().zip(new);
        let same_below = pairs().take_while(|(old, new)| old.digest == new.digest).count();
        let kind = if same_below == old.len() && same_below == new.len() {
            let is_retyped = pairs().any(|(old, new)| old.media_type != new.media_type);
            if is_retyped { LayerKind::Retyped } else { LayerKind::Same }
        } else if same_below == old.len() {
            LayerKind::Added
        } else if same_below == new.len() {
            LayerKind::Removed
        } else if same_below == 0 {
            LayerKind::Replaced
        } else {
            LayerKind::Top
        };
        Self {
            kind,
            same_below,
            before: old.len(),
            after: new.len(),
            before_bytes: total(old),
            after_bytes: total(new),
            claims_same_content: false,
        }
    }

    /// Whether the layers are the same by their digests.
    pub const fn is_same(&self) -> bool {
        matches!(self.kind, LayerKind::Same | LayerKind::Retyped)
    }
}

fn total(layers: &[Descriptor]) -> u64 {
    layers.iter().map(|layer| layer.size_bytes).fold(0, u64::saturating_add)
}
