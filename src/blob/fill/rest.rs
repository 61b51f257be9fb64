//! What is left of a fill whose store failed: one reader goes on with it, from memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;

use super::{Broken, Verify};
use crate::oci::{Digest, Hasher};

/// The bytes after those that were stored, and the hash of what came before.
pub(super) struct Rest {
    pub(super) body: BoxStream<'static, Result<Bytes, Broken>>,
    pub(super) hasher: Hasher,
    pub(super) claimed: Digest,
    /// Where they begin.
    pub(super) from: u64,
}

/// The rest as one reader gets it.
pub(super) type Remainder = Box<Verify<BoxStream<'static, Result<Bytes, Broken>>>>;

impl Rest {
    /// From byte `at` on, at most to `end`. What the reader had to wait for in `file` still waits
    /// for the digest.
    pub(super) fn read(self, file: &File, at: u64, end: Option<u64>) -> io::Result<Remainder> {
        let Self { body, hasher, claimed, from } = self;
        let waiting = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut held = BytesMut::zeroed(waiting);
        file.read_exact_at(&mut held, at)?;
        let verify = Verify::resume(body, hasher, claimed, held);
        let length = end.map_or(u64::MAX, |end| end - at);
        Ok(Box::new(verify.part(at.saturating_sub(from), length)))
    }
}
