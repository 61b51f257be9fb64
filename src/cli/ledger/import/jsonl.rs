//! Our own export, read back piece by piece.

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::export::{FORMAT, Header, VERSION};
use super::gather::Gather;
use super::lines::Lines;
use crate::decide::{Claimed, ExportedManifest};
use crate::event::{Event, EventKind};
use crate::ledger::{BULK_LIMIT, StoredManifest};
use crate::oci::manifest::MANIFEST_LIMIT;
use crate::oci::{ComputedDigest, Digest};
use crate::pin::{PinKey, TagState};

/// The longest line, in bytes: a manifest of 4 MiB takes 5.6 MB in base64.
const LINE_LIMIT: usize = 8 << 20;

/// How many bytes of manifests one event may bring.
const MANIFESTS_LIMIT: usize = 16 << 20;

/// An export that is being read.
pub(super) struct Export<R> {
    lines: Lines<R>,
    /// Its first line.
    pub(super) header: Header,
    last: u64,
}

/// An event, and the manifests that came before it.
pub(super) struct Taken {
    pub(super) event: Event,
    pub(super) manifests: Vec<StoredManifest>,
    pub(super) line: u64,
}

/// Enough to tell whose file it is, whatever else its version has.
#[derive(Deserialize)]
struct Probe {
    format: String,
    version: u32,
}

impl<R: BufRead> Export<R> {
    /// Reads the header.
    pub(super) fn open(input: R) -> anyhow::Result<Self> {
        let mut lines = Lines::new(input, LINE_LIMIT);
        let Some(line) = lines.next()? else { bail!("the file is empty") };
        let what = "line 1 is not the header of an export (`immutag ledger export`)";
        let probe: Probe = serde_json::from_str(line).context(what)?;
        if probe.format != FORMAT {
            bail!(what);
        }
        if probe.version != VERSION {
            bail!(
                "the file is of version {} of the format, this immutag reads version {VERSION}; \
                 use a newer one",
                probe.version
            );
        }
        let header = strictly(line).context(what)?;
        Ok(Self { lines, header, last: 0 })
    }

    /// The next event; `None` behind the last one that the header announced.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Taken>> {
        let mut manifests: Vec<StoredManifest> = Vec::new();
        let mut bytes = 0;
        loop {
            let line = self.lines.number + 1;
            let Some(text) = self.lines.next()? else {
                let (last, announced) = (self.last, self.header.sequence);
                if last < announced || !manifests.is_empty() {
                    bail!("the file ends behind event {last}, of {announced}: it is cut off");
                }
                return Ok(None);
            };
            if text.starts_with("{\"manifest\":") {
                let manifest = manifest(text).with_context(|| format!("line {line}"))?;
                bytes += manifest.bytes.len();
                if bytes > MANIFESTS_LIMIT {
                    bail!("line {line}: there are too many manifests before one event");
                }
                manifests.push(manifest);
                continue;
            }
            let event: Event = strictly(text).with_context(|| format!("line {line}"))?;
            if event.sequence != self.last + 1 || event.sequence > self.header.sequence {
                bail!("line {line}: event {} is not the next one", event.sequence);
            }
            if (event.sequence == 1) != (event.kind == EventKind::Created) {
                bail!("line {line}: a ledger begins with its creation, and is created once");
            }
            self.last = event.sequence;
            return Ok(Some(Taken { event, manifests, line }));
        }
    }
}

/// A value, if the line is what this version writes of it: so nothing is lost on the way.
fn strictly<T: DeserializeOwned + Serialize>(line: &str) -> anyhow::Result<T> {
    let value: T = serde_json::from_str(line)?;
    if serde_json::to_string(&value)? != line {
        bail!("the line is not written as this version of immutag would write it");
    }
    Ok(value)
}

fn manifest(line: &str) -> anyhow::Result<StoredManifest> {
    let ExportedManifest { manifest, media_type, base64 } = strictly(line)?;
    let bytes = STANDARD.decode(base64).context("the manifest's base64 is not readable")?;
    if bytes.len() > MANIFEST_LIMIT {
        bail!("the manifest is larger than {MANIFEST_LIMIT} bytes");
    }
    let computed = ComputedDigest::of(&bytes, None);
    if computed.digest() != manifest {
        bail!("the manifest does not hash to {manifest}");
    }
    Ok(StoredManifest::new(&computed, media_type, bytes.into()))
}

/// What another ledger holds, as claims: its pins, and what it had itself imported.
pub(super) fn read(input: impl BufRead) -> anyhow::Result<Gather> {
    let mut export = Export::open(input)?;
    let mut states: BTreeMap<PinKey, (TagState, u64)> = BTreeMap::new();
    let mut revoked: HashSet<Digest> = HashSet::new();
    while let Some(Taken { event, line, .. }) = export.next()? {
        match (event.kind, event.pinned) {
            (EventKind::Revoked, Some(digest)) => drop(revoked.insert(digest)),
            (EventKind::Unrevoked, Some(digest)) => drop(revoked.remove(&digest)),
            _ => {}
        }
        let Some(key) = &event.key else { continue };
        if !states.contains_key(key) && states.len() >= BULK_LIMIT {
            bail!(
                "the export has more than {BULK_LIMIT} tags, more than is added to a ledger at \
                 once; into an empty ledger, with the server down, it goes as a whole"
            );
        }
        let (state, place) = states.entry(key.clone()).or_default();
        state.apply(&event);
        // Only what it came to is wanted: memory does not grow with a tag's history.
        state.seen.clear();
        state.rejected.clear();
        *place = line;
    }
    let mut gather = Gather::default();
    for (key, (state, place)) in states {
        let pinned = state.pin.map(|pin| pin.content.digest);
        let Some(digest) = pinned.or(state.claim.map(|claim| claim.digest)) else { continue };
        if revoked.contains(&digest) {
            gather.skip(place, &key.to_string(), "its digest is revoked there");
        } else {
            gather.claim(Claimed { key, digest, is_config: false, place })?;
        }
    }
    Ok(gather)
}
