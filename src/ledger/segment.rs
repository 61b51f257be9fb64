//! The log's files: their names, and reading batches from one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::batch::{self, Batch, BatchError, HEADER_SIZE};

/// The file of the segment whose first record has this sequence number.
pub(crate) fn path(log: &Path, first: u64) -> PathBuf {
    log.join(format!("{first:020}.seg"))
}

/// The first sequence numbers of all segments, ascending. Other files are none of ours.
pub(crate) fn list(log: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(log)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        firsts.extend(digits.filter(|d| d.len() == 20).and_then(|d| d.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// A place in the log: the segment's first sequence number and a byte offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What lies at a place in a segment.
pub(crate) enum Found {
    /// A batch whose own hash is right; whether it belongs there, its header tells.
    Batch(Box<Batch>),
    /// No batch.
    Invalid(BatchError),
}

/// Reads a segment front to back through a window, so that memory stays flat.
pub(crate) struct SegmentReader {
    file: File,
    window: Vec<u8>,
    start: u64,
    end: u64,
}

const WINDOW: usize = 256 << 10;

impl SegmentReader {
    /// Opens the segment; reads never go beyond its length as it is now.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, window: Vec::new(), start: 0, end })
    }

    /// Up to where it may be read: behind the last durable batch there may be one half written.
    pub(crate) fn limit(&mut self, end: u64) {
        self.end = end;
    }

    /// Up to where it is read.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// How long the file is now.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The batch at `offset`.
    pub(crate) fn batch(&mut self, offset: u64) -> io::Result<Found> {
        let header = match self.bytes(offset, HEADER_SIZE)?.map(batch::header) {
            None => return Ok(Found::Invalid(BatchError::Invalid)),
            Some(Err(error)) => return Ok(Found::Invalid(error)),
            Some(Ok(header)) => header,
        };
        Ok(match self.bytes(offset, header.size)?.map(batch::decode) {
            None => Found::Invalid(BatchError::Invalid),
            Some(Err(error)) => Found::Invalid(error),
            Some(Ok(batch)) => Found::Batch(Box::new(batch)),
        })
    }

    /// Whether everything from `offset` to the end is zeros: preallocated space.
    pub(crate) fn is_blank_from(&mut self, offset: u64) -> io::Result<bool> {
        let mut at = offset;
        while at < self.end {
            let length = usize::try_from(self.end - at).unwrap_or(WINDOW).min(WINDOW);
            match self.bytes(at, length)? {
                Some(bytes) if bytes.iter().all(|byte| *byte == 0) => at += length as u64,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The bytes from `offset` to the end, at once.
    pub(crate) fn rest(&self, offset: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// `length` bytes at `offset`; `None` if the segment ends before.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let held = self.start..self.start + self.window.len() as u64;
        if !(held.start <= offset && offset + length as u64 <= held.end) {
            let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
            self.window.resize(length.max(WINDOW).min(left), 0);
            self.start = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
                self.window.clear();
                return Err(error);
            }
            if self.window.capacity() > 8 * WINDOW && self.window.len() <= WINDOW {
                self.window.shrink_to_fit();
            }
        }
        let from = usize::try_from(offset - self.start).expect("within the window");
        Ok(Some(&self.window[from..from + length]))
    }
}
