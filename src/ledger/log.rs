//! Writes the log: reserves space, appends batches, closes segments.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::batch::{Builder, Built, LedgerId};
use super::disk::{Disk, LogFile};
use super::files;
use super::open::OnSync;
use super::scan::{Link, Sealed};
use super::segment::{self, Position};

/// How much space is reserved ahead at a time, in bytes.
const CHUNK: u64 = 2 << 20;

/// Where and how the log is written.
#[derive(Clone)]
pub(crate) struct LogSetup {
    pub(crate) log: PathBuf,
    pub(crate) id: LedgerId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_size: u64,
    pub(crate) on_sync: Option<OnSync>,
}

/// The end of the log, where batches go.
pub(crate) struct Log {
    setup: LogSetup,
    file: Box<dyn LogFile>,
    end: Position,
    reserved: u64,
    last: Link,
}

/// A batch that is durable.
pub(crate) struct Appended {
    pub(crate) at: Position,
    pub(crate) built: Built,
    pub(crate) last: Link,
    pub(crate) end: Position,
}

/// Why there is no new segment.
pub(crate) enum RotateError {
    /// It could not be made; the old one can still be written to.
    Begin(io::Error),
    /// The old one could not be closed: what is on disk is unknown.
    Close(io::Error),
}

impl Log {
    /// Goes on behind `last`, at `end`; a segment that is not there is made.
    pub(crate) fn open(setup: LogSetup, last: Link, end: Option<Position>) -> io::Result<Self> {
        let segment = end.map_or(last.sequence + 1, |end| end.segment);
        let path = segment::path(&setup.log, segment);
        let file = setup.disk.open(&path, end.is_none())?;
        if end.is_none() {
            files::sync_directory(&setup.log)?;
        }
        let end = end.unwrap_or(Position { segment, offset: 0 });
        // What was reserved before is reserved again: that costs nothing where it still is.
        Ok(Self { setup, file, end, reserved: end.offset, last })
    }

    /// How many bytes can be written without asking the file system for space.
    pub(crate) const fn room(&self) -> u64 {
        self.reserved.saturating_sub(self.end.offset)
    }

    /// The ledger's id.
    pub(crate) const fn id(&self) -> &LedgerId {
        &self.setup.id
    }

    /// The end of the chain.
    pub(crate) const fn last(&self) -> Link {
        self.last
    }

    /// Where the next batch goes.
    pub(crate) const fn end(&self) -> Position {
        self.end
    }

    /// Makes room for `bytes` at least. An error leaves the room that there was.
    pub(crate) fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        if self.room() >= bytes {
            return Ok(());
        }
        let most = bytes.max(CHUNK.min(self.setup.segment_size));
        // Nearly full, the disk may still have what is needed now.
        for length in [most, bytes] {
            let end = self.end.offset + length;
            match self.file.reserve(self.reserved, end - self.reserved) {
                Ok(()) => {
                    self.reserved = end;
                    return Ok(());
                }
                Err(error) if length == bytes => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Writes a batch into reserved space and makes it durable.
    ///
    /// A crash before the sync leaves nothing, a torn batch (cut off at the next start) or the
    /// whole batch, which nobody was told of: a pin that was not acknowledged may be there.
    ///
    /// # Errors
    /// What write or fdatasync said. What is on disk is then unknown: this log must not be
    /// written to again, since a later fdatasync may succeed without the lost pages.
    pub(crate) fn append(&mut self, builder: Builder) -> io::Result<Appended> {
        let count = builder.count() as u64;
        let built = builder.finish(&self.setup.id, self.last.sequence + 1, &self.last.hash);
        let at = self.end;
        self.file.write(&built.bytes, at.offset)?;
        let started = Instant::now();
        self.file.sync()?;
        if let Some(on_sync) = &self.setup.on_sync {
            on_sync(started.elapsed());
        }
        if !self.file.is_linked()? {
            return Err(io::Error::other("the log's file was deleted under the process"));
        }
        self.last = Link { sequence: self.last.sequence + count, hash: built.hash };
        self.end.offset += built.bytes.len() as u64;
        Ok(Appended { at, built, last: self.last, end: self.end })
    }

    /// Whether the segment is long enough.
    pub(crate) const fn is_full(&self) -> bool {
        self.end.offset >= self.setup.segment_size
    }

    /// Begins a new segment and closes this one.
    ///
    /// A crash behind the creation leaves an empty last segment, and zeros at the end of the one
    /// before; a crash in front of it leaves this segment to be gone on with. All three are
    /// lawful at the next start.
    ///
    /// # Errors
    /// [`RotateError::Begin`] leaves this segment in use, with the space that it has.
    pub(crate) fn rotate(&mut self) -> Result<Sealed, RotateError> {
        let next = Position { segment: self.last.sequence + 1, offset: 0 };
        let path = segment::path(&self.setup.log, next.segment);
        let chunk = CHUNK.min(self.setup.segment_size);
        let file = self.begin(&path, chunk).map_err(|error| {
            // No record was ever written to it. If it stays, the next start takes it away.
            let _ = std::fs::remove_file(&path);
            RotateError::Begin(error)
        })?;
        self.file.cut(self.end.offset).map_err(RotateError::Close)?;
        let sealed = Sealed { first: self.end.segment, size: self.end.offset, last: self.last };
        self.file = file;
        self.end = next;
        self.reserved = chunk;
        Ok(sealed)
    }

    fn begin(&self, path: &Path, chunk: u64) -> io::Result<Box<dyn LogFile>> {
        let file = self.setup.disk.open(path, true)?;
        file.reserve(0, chunk)?;
        file.sync()?;
        files::sync_directory(&self.setup.log)?;
        Ok(file)
    }

    /// Gives back the space that is reserved and not used, at an orderly end.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.file.cut(self.end.offset)
    }
}

/// Sets what lies behind `end` aside as `torn-<sequence>` and cuts it off.
///
/// A crash before the cut leaves the torn tail to be found again; the copy is written anew. A
/// crash behind it leaves a clean end.
pub(crate) fn cut_torn(setup: &LogSetup, end: Position, next: u64) -> io::Result<PathBuf> {
    let path = segment::path(&setup.log, end.segment);
    let mut rest = segment::SegmentReader::open(&path)?.rest(end.offset)?;
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    rest.truncate(used);
    let aside = free_name(&setup.log, next, &rest)?;
    files::replace(&aside, &rest)?;
    setup.disk.open(&path, false)?.cut(end.offset)?;
    Ok(aside)
}

/// A name for the torn bytes: one that is free, or that has the same bytes already.
fn free_name(log: &Path, next: u64, bytes: &[u8]) -> io::Result<PathBuf> {
    for number in 1u32.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = log.join(format!("torn-{next}{suffix}"));
        match files::read_if_there(&path)? {
            Some(there) if there != bytes => {}
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("no name is left for a torn tail"))
}
