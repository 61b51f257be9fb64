//! The anchor: what the ledger was at last, kept outside of its directory.
//!
//! A restored backup or an emptied directory looks like a sound, younger ledger. The anchor tells:
//! `<data-dir>/anchor` is text, three lines: id, sequence, hash.

use std::io;
use std::path::{Path, PathBuf};

use super::batch::LedgerId;
use super::files;
use super::scan::Link;

/// A ledger and a point that its log must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) id: LedgerId,
    pub(crate) last: Link,
}

/// What stands in the anchor's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchored {
    /// There is no anchor.
    No,
    /// There is one, but it cannot be read as such.
    Spoilt,
    /// This.
    To(Anchor),
}

/// The anchor's file.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("anchor")
}

/// Reads the anchor.
pub(crate) fn read(data_dir: &Path) -> io::Result<Anchored> {
    let Some(bytes) = files::read_if_there(&path(data_dir))? else { return Ok(Anchored::No) };
    let text = String::from_utf8_lossy(&bytes);
    Ok(parse(&text).map_or(Anchored::Spoilt, Anchored::To))
}

/// Writes the anchor, as a whole.
///
/// The log was synced up to `anchor.last` before, so a crash leaves the old anchor or the new
/// one, and the log reaches both.
pub(crate) fn write(data_dir: &Path, anchor: &Anchor) -> io::Result<()> {
    files::replace(&path(data_dir), print(anchor).as_bytes())
}

fn print(anchor: &Anchor) -> String {
    let Anchor { id, last } = anchor;
    format!("id {}\nsequence {}\nhash {}\n", files::hex(id), last.sequence, files::hex(&last.hash))
}

fn parse(text: &str) -> Option<Anchor> {
    let mut lines = text.lines();
    let id = files::from_hex(lines.next()?.strip_prefix("id ")?)?;
    let sequence = lines.next()?.strip_prefix("sequence ")?.parse().ok()?;
    let hash = files::from_hex(lines.next()?.strip_prefix("hash ")?)?;
    let anchor = Anchor { id, last: Link { sequence, hash } };
    (print(&anchor) == text).then_some(anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_reads_back_and_a_spoilt_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Anchored::No);
        let anchor = Anchor { id: [7; 16], last: Link { sequence: 9, hash: [8; 32] } };
        write(dir.path(), &anchor).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Anchored::To(anchor));
        let text = print(&anchor);
        for spoilt in ["", &text[1..], &text[..text.len() - 1], &format!("{text}x")] {
            std::fs::write(path(dir.path()), spoilt).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Anchored::Spoilt);
        }
    }
}
