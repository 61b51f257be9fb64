//! What these tests share.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use immutag::blob::fs::{FsStore, Limits, Options};
use immutag::blob::{BlobError, BlobStore as _};
use immutag::clock::SystemClock;
use immutag::config::{CacheConfig, Durability};
use immutag::metrics::CacheMetrics;
use immutag::oci::{ComputedDigest, Digest};
use immutag::units::DiskSize;

/// A mounted file system that goes when it is dropped.
pub(crate) struct Mount(pub(crate) PathBuf);

impl Mount {
    /// A small tmpfs; `None`, and a word why, where none can be mounted.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        run(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()])?;
        Some(Self(at.to_owned()))
    }

    /// An ext4 image.
    pub(crate) fn ext4(image: &Path, at: &Path) -> Option<Self> {
        let (image, name) = (image.to_str().unwrap(), at.to_str().unwrap());
        run(&["mount", "-t", "ext4", "-o", "loop", image, name])?;
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Runs a command; `None`, and a word why, if it cannot be run or fails.
pub(crate) fn run(command: &[&str]) -> Option<()> {
    match Command::new(command[0]).args(&command[1..]).output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            println!("{}: {}", command.join(" "), words.trim());
            None
        }
        Err(error) => {
            println!("{}: {error}", command.join(" "));
            None
        }
    }
}

/// A store with a quota that no test reaches.
pub(crate) fn options(durable: Durability, boot_id: &str, min_free: u64) -> Options {
    let config = CacheConfig { durable, ..CacheConfig::default() };
    let (max_size, min_free) = (DiskSize::Bytes(1 << 40), DiskSize::Bytes(min_free));
    Options {
        limits: Limits { max_size, min_free },
        boot_id: Some(boot_id.to_owned()),
        ..Options::new(&config, SystemClock::shared(), CacheMetrics::default())
    }
}

/// Content that nothing else has, `size` bytes long.
pub(crate) fn content(number: u64, size: usize) -> Vec<u8> {
    (number + 1).to_le_bytes().iter().copied().cycle().take(size).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    ComputedDigest::of(bytes, None).digest()
}

/// Stores content in pieces, as a fill does.
pub(crate) fn put(store: &FsStore, bytes: &[u8]) -> Result<Digest, BlobError> {
    let digest = digest(bytes);
    let mut staged = store.stage(&digest, Some(bytes.len() as u64))?;
    for piece in bytes.chunks(64 << 10) {
        staged.write(piece)?;
    }
    staged.commit()?;
    Ok(digest)
}

/// What a client would get.
pub(crate) fn read(store: &FsStore, digest: &Digest) -> Option<Vec<u8>> {
    let stored = store.open(digest).unwrap()?;
    let mut bytes = Vec::new();
    (&*stored.file).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, stored.size_bytes);
    Some(bytes)
}
