//! `docker compose config --format json`, best with `--resolve-image-digests`.

use std::io::Read;

use super::bounded::text;
use super::gather::Gather;
use crate::sources::compose;

/// Reads a project; a tag's place is its line.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let text = text(input)?;
    let mut gather = Gather::default();
    gather.found(&text, compose::read(&text)?)?;
    Ok(gather)
}
