//! Signatures and attestations that are attached to a manifest in its repository.

use serde::{Deserialize, Serialize};

/// Whether something is there. Trouble in asking is no answer: it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// The registry says that there is none.
    Absent,
    /// The registry has it.
    Present,
    /// Nobody could say, or nobody asked.
    #[default]
    Unknown,
}

/// What is attached to one manifest. That it is there says nothing of whether it is right: none of
/// it is verified here, and whoever may push an image may push these, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attached {
    /// A signature, as cosign tags it: `sha256-<hex>.sig`.
    pub signature: Presence,
    /// An attestation, as cosign tags it: `sha256-<hex>.att`.
    pub attestation: Presence,
    /// A list of contents, as cosign tags it: `sha256-<hex>.sbom`.
    pub sbom: Presence,
    /// Anything that refers to it (distribution-spec 1.1).
    pub referrers: Presence,
}

/// What is attached to both manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signatures {
    /// To what the tag stood for.
    pub before: Attached,
    /// To what it stands for now.
    pub after: Attached,
}

impl Presence {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Present => "present",
            Self::Unknown => "unknown",
        }
    }
}

impl Attached {
    /// Each kind with its name.
    pub const fn kinds(self) -> [(&'static str, Presence); 4] {
        [
            ("signature", self.signature),
            ("attestation", self.attestation),
            ("SBOM", self.sbom),
            ("referrers", self.referrers),
        ]
    }

    /// Whether nothing is attached, and nothing is unknown.
    pub(super) fn has_nothing(self) -> bool {
        self.kinds().iter().all(|(_, presence)| *presence == Presence::Absent)
    }
}

impl Signatures {
    /// What the manifest before had, and the one after has not.
    pub(super) fn lost(self) -> Vec<&'static str> {
        let both = self.before.kinds().into_iter().zip(self.after.kinds());
        both.filter(|((_, before), (_, after))| {
            (*before, *after) == (Presence::Present, Presence::Absent)
        })
        .map(|((name, _), _)| name)
        .collect()
    }
}
