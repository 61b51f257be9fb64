//! The files below a root: read whole, within bounds, and never written.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

/// The most that is read of a file, in bytes: settings are smaller.
const LIMIT: u64 = 1 << 20;

/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4_096;

/// Where files come from.
#[derive(Clone, Debug)]
pub(super) enum Files {
    /// A root directory, `/` mostly.
    Root(PathBuf),
    /// Texts by their absolute path.
    #[cfg(test)]
    Texts(std::collections::BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// The bytes of a file, at most so many; `None`: it is not there.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    pub(super) fn bytes(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Root(root) => match read(&below(root, path), most) {
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
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err("it is not UTF-8".to_owned()),
        }
    }

    /// Where a symbolic link leads; `None`: it is none, or this user may not see it.
    pub(super) fn link(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Root(root) => std::fs::read_link(below(root, path)).ok(),
            #[cfg(test)]
            Self::Texts(_) => None,
        }
    }

    /// Whether there is anything at this path.
    pub(super) fn exists(&self, path: &str) -> bool {
        match self {
            Self::Root(root) => below(root, path).exists(),
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
            Self::Root(root) => {
                let Ok(entries) = std::fs::read_dir(below(root, path)) else { return Vec::new() };
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

/// A path below a root: what a file names does not lead out of it by `..`.
fn below(root: &Path, path: &str) -> PathBuf {
    let mut inner = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir => {
                inner.pop();
            }
            _ => {}
        }
    }
    root.join(inner)
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // A pipe or a device would never end; `/proc` has regular files of size 0.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_root() {
        let root = Path::new("/mnt");
        assert_eq!(below(root, "/etc/x"), Path::new("/mnt/etc/x"));
        assert_eq!(below(root, "/etc/../../../shadow"), Path::new("/mnt/shadow"));
        assert_eq!(below(root, "a/./b"), Path::new("/mnt/a/b"));
    }

    #[test]
    fn what_is_no_small_text_is_told_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::Root(folder.path().to_owned());
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
        write("large", &vec![b'a'; (1 << 20) + 1]).unwrap();
        write("binary", b"\xff\xfe").unwrap();
        write("small", b"text").unwrap();
        assert!(files.text("/large").unwrap_err().contains("1 MiB"));
        assert!(files.text("/binary").unwrap_err().contains("UTF-8"));
        assert!(files.text("/").unwrap_err().contains("regular"));
        assert_eq!(files.text("/small").unwrap().as_deref(), Some("text"));
        assert_eq!(files.text("/none").unwrap(), None);
        assert_eq!(files.text("/small/none").unwrap(), None);
        assert_eq!(files.names("/"), ["binary", "large", "small"]);
    }
}
