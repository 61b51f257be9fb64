//! Whether files are still those that were read.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::ListenerTls;

/// What tells a certificate's files from others of the same name, without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([Option<One>; 2]);

/// Device, inode, size, and the times at which content and inode changed, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct One {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Fingerprint {
    /// That of the files that are there now; links are followed.
    pub(super) fn of(files: &ListenerTls) -> Self {
        Self([&files.cert_file, &files.key_file].map(|file| One::of(file)))
    }
}

impl One {
    fn of(file: &Path) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
