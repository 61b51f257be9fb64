//! Lines from a file that may be anything: none is longer than it may be.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail};

use super::gather::{Gather, parse};
use crate::decide::Claimed;

/// The longest line of references, in bytes.
const REFERENCE_LIMIT: usize = 4 << 10;

/// Reads a file line by line, each of at most `limit` bytes.
pub(super) struct Lines<R> {
    input: R,
    limit: usize,
    line: Vec<u8>,
    /// The number of the last line, from 1.
    pub(super) number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(input: R, limit: usize) -> Self {
        Self { input, limit, line: Vec::new(), number: 0 }
    }

    /// The next line without its end; `None` at the end of the file.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<&str>> {
        self.line.clear();
        self.number += 1;
        let number = self.number;
        let most = self.limit as u64 + 1;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line);
        read.with_context(|| format!("line {number} cannot be read"))?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > self.limit {
            bail!("line {number} is longer than {} bytes", self.limit);
        }
        let line = std::str::from_utf8(&self.line);
        let line = line.with_context(|| format!("line {number} is not UTF-8"))?;
        Ok(Some(line.strip_suffix('\r').unwrap_or(line)))
    }
}

/// Reads `image:tag@sha256:…` lines. Blank ones and comments (`# …`) count as nothing; anything
/// else is an error, for a list that is half understood is not what was meant.
pub(super) fn read(input: impl BufRead) -> anyhow::Result<Gather> {
    let mut lines = Lines::new(input, REFERENCE_LIMIT);
    let mut gather = Gather::default();
    loop {
        let place = lines.number + 1;
        let Some(line) = lines.next()? else { return Ok(gather) };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let text = line.split_once(" #").map_or(line, |(text, _)| text.trim_end());
        match parse(text) {
            Ok((key, digest)) => {
                gather.claim(Claimed { key, digest, is_config: false, place })?;
            }
            Err(why) => bail!("line {place} is not `image:tag@sha256:…`: {why}"),
        }
    }
}
