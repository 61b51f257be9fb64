//! What a client gets of a manifest.

use super::Standing;
use crate::journal::Outcome;
use crate::ledger::StoredManifest;
use crate::oci::{Digest, MediaType};

/// A manifest for a client.
#[derive(Clone, Debug)]
pub struct ManifestReply {
    /// Its digest, as the reply's header gives it.
    pub digest: Option<Digest>,
    /// Its media type.
    pub media_type: Option<MediaType>,
    /// Its length in bytes, where known.
    pub size_bytes: Option<u64>,
    /// Its bytes; `None` if a HEAD was relayed.
    pub bytes: Option<bytes::Bytes>,
    /// What the client is to be told, in words.
    pub warnings: Vec<String>,
    /// What came of the request, as the journal writes it.
    pub outcome: Outcome,
    /// What it rests on, if the same may be answered again without another look.
    pub standing: Option<Standing>,
}

impl From<StoredManifest> for ManifestReply {
    fn from(manifest: StoredManifest) -> Self {
        Self {
            digest: Some(manifest.content.digest),
            media_type: Some(manifest.content.media_type),
            size_bytes: Some(manifest.content.size_bytes),
            bytes: Some(manifest.bytes),
            warnings: Vec::new(),
            outcome: Outcome::ByDigest,
            standing: None,
        }
    }
}
