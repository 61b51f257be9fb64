//! One line of a file: JSON, versioned. `docs/journal.md` is the manual of it.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::merge::{Key, Requests};
use super::subject::Outcome;
use crate::oci::{Digest, Reference};
use crate::printable::is_unprintable;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The longest line that is read, in bytes: a reference is at most some 650.
pub(super) const LINE_LIMIT: usize = 4096;

/// The longest words of ours: a listener's name, a reason.
const WORD_LIMIT: usize = 100;

/// How it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// For the manifest.
    Get,
    /// For its digest and length alone.
    Head,
}

impl Method {
    /// The name, as in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

/// An entry: a request for a manifest, or several of the same kind within a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pulled {
    #[serde(rename = "v")]
    pub(super) version: u32,
    /// When the first of them was answered, in milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When the last of them was answered.
    pub last_ms: u64,
    /// How many they are.
    pub count: u64,
    /// The client's address.
    pub client: IpAddr,
    /// The listener: its kind, with its address where there are several of the kind.
    pub listener: String,
    /// How it was asked.
    pub method: Method,
    /// What was asked for, canonical.
    #[serde(with = "as_text")]
    pub reference: Reference,
    /// The digest that was given; under `record`, of a HEAD, the upstream's claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The digest that the client would have got, or asked for, and was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<Digest>,
}

impl Pulled {
    pub(super) fn new(key: &Key, requests: Requests) -> Self {
        let subject = &*key.subject;
        Self {
            version: VERSION,
            first_ms: requests.first_ms,
            last_ms: requests.last_ms,
            count: requests.count,
            client: key.client,
            listener: subject.listener.to_string(),
            method: if key.is_head { Method::Head } else { Method::Get },
            reference: subject.reference.clone(),
            digest: subject.digest,
            outcome: subject.outcome,
            reason: subject.reason.clone(),
            kept_from: subject.kept_from,
        }
    }

    /// Adds the line to `lines`.
    pub(super) fn write_to(&self, lines: &mut Vec<u8>) {
        serde_json::to_writer(&mut *lines, self).expect("memory takes it, and its keys are texts");
        lines.push(b'\n');
    }

    /// Reads a line; `None` for one that is torn, of another version, or none that we write.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let pulled: Self = serde_json::from_slice(line).ok()?;
        let is_word = |text: &str| text.len() <= WORD_LIMIT && !text.chars().any(is_unprintable);
        let reason_is_word = pulled.reason.as_deref().is_none_or(is_word);
        (pulled.version == VERSION && is_word(&pulled.listener) && reason_is_word).then_some(pulled)
    }
}

/// A reference as its text.
pub(crate) mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::oci::Reference;

    pub(crate) fn serialize<S: Serializer>(
        reference: &Reference,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(reference)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Reference, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "line/tests.rs"]
mod tests;
