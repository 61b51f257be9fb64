//! Dockerfiles: the images that they name, with their default arguments.

use std::collections::BTreeMap;
use std::io::Read;

use super::bounded::text;
use super::gather::Gather;
use crate::sources::dockerfile;

/// Reads a Dockerfile; a tag's place is its line.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let text = text(input)?;
    let mut gather = Gather::default();
    gather.found(&text, dockerfile::read(&text, &BTreeMap::new()))?;
    Ok(gather)
}
