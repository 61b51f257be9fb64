//! The disk under the log, as an edge where tests can put faults.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Where segments are made and opened for writing.
pub trait Disk: Send + Sync {
    /// Opens a segment for writing; with `create`, makes it, or empties the one that is there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn LogFile>>;
}

/// A segment that is written to.
pub trait LogFile: Send {
    /// Writes all of `bytes` at `offset`.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, as fdatasync does.
    fn sync(&self) -> io::Result<()>;
    /// Makes sure that `length` bytes from `offset` on can be written, and are zeros, durably.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives back what lies behind `length`, durably.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Whether the file still has a name.
    fn is_linked(&self) -> io::Result<bool>;
}

/// The machine's disk.
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn LogFile>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(create).truncate(create).open(path)?;
        Ok(Box::new(RealFile(file)))
    }
}

struct RealFile(File);

impl LogFile for RealFile {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// The zeros are really written: a block that is only allocated must be marked as written,
    /// in the file system's journal, with the first fdatasync behind a batch. That costs each
    /// batch a journal commit, and ext4 does not report if the marking fails once its journal is
    /// aborted: a whole batch that was acknowledged came back as zeros that way.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), offset, length) {
            Err(Errno::INTR) => return self.reserve(offset, length),
            // Not every file system can; the zeros then find out whether there is space.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            outcome => outcome?,
        }
        self.fill(offset, length)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.sync_all()
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(&self.0)?.st_nlink > 0)
    }
}

impl RealFile {
    fn fill(&self, offset: u64, length: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut at = offset;
        while at < offset + length {
            let part = usize::try_from(offset + length - at).unwrap_or(ZEROS.len());
            let part = part.min(ZEROS.len());
            self.0.write_all_at(&ZEROS[..part], at)?;
            at += part as u64;
        }
        self.0.sync_all()
    }
}
