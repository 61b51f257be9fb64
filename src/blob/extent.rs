//! Pieces of files on their way to clients.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::BytesMut;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// How far ahead the kernel is asked to read when a file is not in memory, in bytes.
const AHEAD: Option<NonZeroU64> = NonZeroU64::new(4 << 20);

/// Bytes of a file that may leave.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The file; several readers may share it, each with an offset of its own.
    pub file: Arc<File>,
    /// The first byte.
    pub at: u64,
    /// The byte after the last one.
    pub end: u64,
}

impl Extent {
    /// How many bytes it has.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first `most` bytes off, or all of them.
    #[must_use]
    pub fn take(&mut self, most: u64) -> Self {
        let end = self.end.min(self.at.saturating_add(most));
        let taken = Self { file: Arc::clone(&self.file), at: self.at, end };
        self.at = end;
        taken
    }

    /// Waits until the bytes are in the page cache, so that sending them does not wait for the
    /// disk. It looks at both ends; that is a few system calls where they are there already.
    ///
    /// Bytes that cannot be read are not reported: sending them fails.
    pub async fn warm(&self) {
        let is_cached = |at| is_cached(&self.file, at);
        if is_cached(self.at) && is_cached(self.end.saturating_sub(1)) {
            return;
        }
        let extent = self.clone();
        let _ = tokio::task::spawn_blocking(move || extent.read_through()).await;
    }

    /// Reads the first bytes into `buffer`: as many as it has room for, or as are to be had at
    /// once; gives how many. A file that ends early is an error.
    ///
    /// What is not in the page cache is read in another thread.
    pub async fn read(&self, mut buffer: BytesMut) -> io::Result<(BytesMut, usize)> {
        let (file, at) = (&self.file, self.at);
        let wanted = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let mut pieces = [IoSliceMut::new(&mut buffer[..wanted])];
        match preadv2(file, &mut pieces, at, ReadWriteFlags::NOWAIT) {
            Ok(0) if wanted > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => Ok((buffer, length)),
            Err(_) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let _ = fadvise(&file, at, AHEAD, Advice::WillNeed);
                    file.read_exact_at(&mut buffer[..wanted], at)?;
                    Ok((buffer, wanted))
                });
                read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
        }
    }

    fn read_through(&self) -> io::Result<()> {
        let _ = fadvise(&self.file, self.at, AHEAD, Advice::WillNeed);
        let mut piece = vec![0; 64 << 10];
        let mut at = self.at;
        while at < self.end {
            match self.file.read_at(&mut piece, at)? {
                0 => break,
                length => at += length as u64,
            }
        }
        Ok(())
    }
}

/// Whether a byte can be had without the disk. Where the file system cannot tell, it cannot.
fn is_cached(file: &File, at: u64) -> bool {
    let mut byte = [0];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
    !matches!(read, Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn extent(content: &[u8], at: u64, end: u64) -> Extent {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Extent { file: Arc::new(file), at, end }
    }

    #[test]
    fn an_extent_is_taken_piece_by_piece() {
        let mut all = extent(b"", 3, 10);
        let pieces: Vec<_> = std::iter::repeat_with(|| all.take(3))
            .take_while(|piece| !piece.is_empty())
            .map(|piece| (piece.at, piece.end))
            .collect();
        assert_eq!(pieces, [(3, 6), (6, 9), (9, 10)]);
        assert!(all.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_read_all_the_same() {
        let content: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let all = extent(&content, 5, 1 << 20);
        for cold in [false, true] {
            if cold {
                all.file.sync_all().unwrap();
                fadvise(&all.file, 0, None, Advice::DontNeed).unwrap();
            }
            let (bytes, length) = all.read(BytesMut::zeroed(1000)).await.unwrap();
            assert!(length > 0 && bytes[..length] == content[5..5 + length]);
        }
        fadvise(&all.file, 0, None, Advice::DontNeed).unwrap();
        all.warm().await;
        assert!(is_cached(&all.file, 5) && is_cached(&all.file, (1 << 20) - 1));
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let beyond = extent(b"0123", 4, 8);
        assert!(beyond.read(BytesMut::zeroed(4)).await.is_err());
        // It is no reason to wait for ever.
        beyond.warm().await;
    }
}
