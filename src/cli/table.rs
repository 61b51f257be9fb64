//! Text for terminals: aligned, short, and unable to do anything to the terminal.

use std::io;

use super::output::Printer;
use crate::oci::Digest;
pub(crate) use crate::printable::escape;
pub(crate) use crate::units::utc as time;

/// How wide lines of words are, at most.
pub(crate) const WIDTH: usize = 98;

/// How many rows are aligned together: memory stays bounded, whatever is listed.
const BATCH: usize = 2_000;

/// How many hex digits of a digest a table shows.
const SHORT: usize = 12;

/// A table that is written while it is made.
pub(crate) struct Table<'p> {
    printer: &'p mut Printer,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl<'p> Table<'p> {
    /// A table with these headings.
    pub(crate) fn new(printer: &'p mut Printer, headings: &[&str]) -> Self {
        let rows = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
        Self { printer, widths: vec![0; headings.len()], rows }
    }

    /// Adds a row; cells are escaped here.
    pub(crate) fn row(&mut self, cells: &[String]) -> io::Result<()> {
        self.rows.push(cells.iter().map(|cell| escape(cell).into_owned()).collect());
        if self.rows.len() >= BATCH { self.write() } else { Ok(()) }
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.printer.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in self.rows.drain(..) {
            self.printer.line(&aligned(&row, &self.widths))?;
        }
        Ok(())
    }
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    let line = cells.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

/// The begin of a digest, `sha256:0123456789ab`: enough to tell two apart, not to name one.
pub(crate) fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), &digest.hex()[..SHORT])
}

/// A span of time in its two largest units, `3d4h`; `0s` for one that is negative.
pub(crate) fn age(then_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let largest = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, size) in units.iter().skip(largest).take(2) {
        if rest >= *size || parts.is_empty() {
            parts.push(format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    parts.concat()
}

/// A text in lines of at most `width` characters, unless a word is longer.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let rows = [["TAG", "PIN"], ["alpine:3", "x"], ["ä", ""]];
        let widths = [8, 3];
        let lines = rows.map(|row| aligned(&row.map(str::to_owned), &widths));
        assert_eq!(lines, ["TAG       PIN", "alpine:3  x", "ä"]);
    }

    #[test]
    fn times_and_ages_read_as_people_write_them() {
        assert_eq!(time(1_776_849_180_000), "2026-04-22 09:13:00Z");
        assert_eq!(time(u64::MAX), format!("{} ms", u64::MAX));
        for (ms, expected) in [
            (0, "0s"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (90_061_000, "1d1h"),
            (864_000_000, "10d"),
        ] {
            assert_eq!(age(1_000, 1_000 + ms), expected);
        }
        assert_eq!(age(5_000, 1_000), "0s");
    }

    #[test]
    fn a_short_digest_keeps_its_algorithm() {
        assert_eq!(short(&Digest::sha256([0xab; 32])), "sha256:abababababab");
    }

    #[test]
    fn words_are_wrapped_between_them() {
        assert_eq!(wrapped("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrapped("a-long-word b", 4), ["a-long-word", "b"]);
    }
}
