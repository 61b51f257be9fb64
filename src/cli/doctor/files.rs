//! The files below a root: read whole, within bounds, and never written.
//!
//! What is looked at may be hostile: another root, a container, a user's home, and the doctor is
//! root. So no path and no link leads out of a root, nothing but a regular file is ever opened, and
//! what is read is bounded.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;

/// The most that is read of a file, in bytes: settings are smaller.
const LIMIT: u64 = 1 << 20;

/// The most that is read of all settings together, in bytes. Parsed they are some times that.
const LIMIT_OF_ALL: u64 = 32 << 20;

/// The most entries of a directory that are looked at. `/proc` has one for each process.
const MAX_ENTRIES: usize = 1 << 16;

/// How often a path is resolved anew when something was renamed meanwhile.
const ATTEMPTS: usize = 64;

/// Where files come from.
#[derive(Clone, Debug)]
pub(super) enum Files {
    /// A root directory, `/` mostly, and how many bytes of settings may still be read.
    Root(PathBuf, Arc<AtomicU64>),
    /// Texts by their absolute path.
    #[cfg(test)]
    Texts(std::collections::BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// Those below a directory.
    pub(super) fn below(root: &Path) -> Self {
        Self::Root(root.to_owned(), Arc::new(AtomicU64::new(LIMIT_OF_ALL)))
    }

    /// The bytes of a file, at most so many; `None`: it is not there.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub(super) fn bytes(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Root(root, _) => match read(root, path, most) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err("this user may not read it: run the doctor as root".to_owned())
                }
                Err(error) => Err(format!("it cannot be read: {error}")),
            },
            #[cfg(test)]
            Self::Texts(texts) => Ok(texts.get(path).cloned()),
        }
    }

    /// The text of a file; `None`: it is not there.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, String> {
        let Some(bytes) = self.bytes(path, LIMIT)? else { return Ok(None) };
        self.spend(bytes.len() as u64)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err("it is not UTF-8".to_owned()),
        }
    }

    fn spend(&self, bytes: u64) -> Result<(), String> {
        match self {
            Self::Root(_, left) => {
                let less = |left: u64| left.checked_sub(bytes);
                let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                spent.map(|_| ()).map_err(|_| {
                    format!("more than {} MiB of settings are there", LIMIT_OF_ALL >> 20)
                })
            }
            #[cfg(test)]
            Self::Texts(_) => Ok(()),
        }
    }

    /// Whatever is at a path, to be asked what it is: opening it so acts on nothing.
    pub(super) fn handle(&self, path: &str) -> Option<OwnedFd> {
        match self {
            Self::Root(root, _) => open(root, path, OFlags::PATH).ok(),
            #[cfg(test)]
            Self::Texts(_) => None,
        }
    }

    /// Where a symbolic link leads; `None`: it is none, or this user may not see it.
    pub(super) fn link(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Root(root, _) => {
                let link = open(root, path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
                let target = readlinkat(link, "", Vec::new()).ok()?;
                Some(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
            }
            #[cfg(test)]
            Self::Texts(_) => None,
        }
    }

    /// Whether there is anything at this path.
    pub(super) fn exists(&self, path: &str) -> bool {
        match self {
            Self::Root(..) => self.handle(path).is_some(),
            #[cfg(test)]
            Self::Texts(texts) => {
                let folder = format!("{}/", path.trim_end_matches('/'));
                texts.keys().any(|key| key == path || key.starts_with(&folder))
            }
        }
    }

    /// The names in a directory, in lexical order; none if it is no directory.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Root(root, _) => {
                let folder = open(root, path, OFlags::PATH | OFlags::DIRECTORY);
                let entries = folder.map(|folder| std::fs::read_dir(again(&folder)));
                let Ok(Ok(entries)) = entries else { return Vec::new() };
                let names = entries.flatten().map(|entry| entry.file_name().into_string());
                names.flatten().take(MAX_ENTRIES).collect()
            }
            #[cfg(test)]
            Self::Texts(texts) => {
                let folder = format!("{}/", path.trim_end_matches('/'));
                let below = texts.keys().filter_map(|key| key.strip_prefix(&folder));
                below.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect()
            }
        };
        names.sort();
        names.dedup();
        names
    }

    /// The paths of a directory's files whose names end so, in lexical order.
    pub(super) fn ending(&self, path: &str, end: &str) -> Vec<String> {
        let names = self.names(path);
        let fitting = names.iter().filter(|name| name.ends_with(end));
        fitting.map(|name| format!("{}/{name}", path.trim_end_matches('/'))).collect()
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens what a path stands for below a root. Links count from that root, and those of a
/// container's files from its own, as the container sees them: none leads out.
fn open(root: &Path, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let is_host = root == Path::new("/");
    let (container, inner) = contained(path);
    if is_host && container.is_none() {
        return rustix::fs::open(root.join(path), flags, Mode::empty());
    }
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut top = match container {
        // The kernel's own link, not one of a file system.
        Some(container) if is_host => rustix::fs::open(container, folder, Mode::empty())?,
        _ => rustix::fs::open(root, folder, Mode::empty())?,
    };
    if let Some(container) = container.filter(|_| !is_host) {
        top = open_in(&top, container, folder)?;
    }
    open_in(&top, inner, flags)
}

fn open_in(top: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let mut left = ATTEMPTS;
    loop {
        match openat2(top, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            result => return result,
        }
    }
}

/// Takes `/proc/12/root`, where a path begins with such, apart from the rest.
fn contained(path: &str) -> (Option<&str>, &str) {
    let split = || {
        let rest = path.strip_prefix("/proc/")?;
        let (id, rest) = rest.split_once('/')?;
        let inner = rest.strip_prefix("root")?;
        let is_root = id.parse::<u32>().is_ok() && (inner.is_empty() || inner.starts_with('/'));
        is_root.then_some((Some(&path[..path.len() - inner.len()]), inner))
    };
    split().unwrap_or((None, path))
}

/// The same file by another way: to be opened in earnest, now that it is known what it is.
fn again(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn read(root: &Path, path: &str, most: u64) -> io::Result<Vec<u8>> {
    let handle = open(root, path, OFlags::PATH)?;
    // A pipe would never end, a device may act on being opened; `/proc` has regular files of size 0.
    if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(again(&handle))?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
