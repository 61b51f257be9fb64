//! `images.lock`.

use std::collections::HashMap;
use std::io::Read;

use super::gather::Gather;
use crate::decide::Claimed;
use crate::lockfile::{LOCK_BYTES, LockFile};
use crate::pin::PinKey;

/// Reads a lock file; a tag's place is its line.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let mut bytes = Vec::new();
    // One byte more tells that it is too large.
    input.take(LOCK_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let lock = LockFile::parse(&bytes)?;
    let lines = lines(&bytes);
    let mut gather = Gather::default();
    for (reference, locked) in lock.images {
        let text = reference.to_string();
        let place = lines.get(text.as_str()).copied().unwrap_or(1);
        let Some(tag) = reference.tag else {
            gather.skip(place, &text, "it names no tag, and the ledger is about tags");
            continue;
        };
        let key = PinKey { registry: reference.registry, repository: reference.repository, tag };
        gather.claim(Claimed { key, digest: locked.digest, is_config: false, place })?;
    }
    Ok(gather)
}

/// The line on which each key first stands, where it begins one.
fn lines(bytes: &[u8]) -> HashMap<&str, u64> {
    let mut lines = HashMap::new();
    for (line, number) in std::str::from_utf8(bytes).unwrap_or_default().lines().zip(1..) {
        let key = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
        if let Some((key, _)) = key {
            lines.entry(key).or_insert(number);
        }
    }
    lines
}
