//! What installing settings would change, before anything does.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::OFlags;

use super::merge::merged;
use super::setting::{Setting, SettingFile};

/// The mode of a file that is new; one that is there keeps its own.
pub(super) const MODE: u32 = 0o644;

/// The most that is read of a file, in bytes: settings are smaller.
const LIMIT: u64 = 1 << 20;

/// What becomes of each file, in the settings' order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// What becomes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Where it is, root included.
    pub(super) path: PathBuf,
    /// What is there; `None`: nothing is.
    pub(super) before: Option<String>,
    pub(super) after: String,
    pub(super) mode: u32,
}

impl Plan {
    /// Reads what is there below `root`. Nothing is changed.
    ///
    /// # Errors
    /// A file that cannot be read or merged safely. One is enough: half of the settings would
    /// protect nobody, and look as if they did.
    pub(super) fn new(setting: &Setting, root: &Path) -> anyhow::Result<Self> {
        let steps = setting.files.iter().map(|file| Step::new(file, root));
        Ok(Self { steps: steps.collect::<anyhow::Result<_>>()? })
    }

    /// The files that change.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_change())
    }
}

impl Step {
    fn new(file: &SettingFile, root: &Path) -> anyhow::Result<Self> {
        let path = below(root, &file.path);
        refuse_way_out(&path, root)?;
        let found = read(&path)
            .with_context(|| format!("{} cannot be read; nothing was changed", path.display()))?;
        let (before, mode) = found.map_or((None, MODE), |(text, mode)| (Some(text), mode));
        let after = merged(file, before.as_deref())?;
        Ok(Self { path, before, after, mode })
    }

    /// Whether the file changes at all.
    pub(super) fn is_change(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }
}

/// The text of a file and its mode; `None`: it is not there.
///
/// # Errors
/// It is no plain file, no text, or too large. A link is not followed, and a pipe not waited for.
pub(super) fn read(path: &Path) -> io::Result<Option<(String, u32)>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(_) if path.is_symlink() => {
            return Err(io::Error::other("it is a link: write to what it stands for"));
        }
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it has more than {} MiB", LIMIT >> 20)));
    }
    Ok(Some((text, found.permissions().mode() & 0o7777)))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// `path` below `root`; a relative path of the settings stays relative to the working directory
/// where the root is `/`.
fn below(root: &Path, path: &str) -> PathBuf {
    if root == Path::new("/") {
        PathBuf::from(path)
    } else {
        root.join(path.trim_start_matches('/'))
    }
}

/// A link in another root may lead out of it, to a file of this host.
fn refuse_way_out(path: &Path, root: &Path) -> anyhow::Result<()> {
    if root == Path::new("/") {
        return Ok(());
    }
    let real_root =
        fs::canonicalize(root).with_context(|| format!("{} is no directory", root.display()))?;
    let nearest = path.ancestors().skip(1).find_map(|ancestor| fs::canonicalize(ancestor).ok());
    match nearest {
        Some(nearest) if nearest.starts_with(&real_root) => Ok(()),
        _ => bail!("{} leads out of {}; nothing was changed", path.display(), root.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::setting::Merge;
    use super::*;

    fn setting(path: &str) -> Setting {
        let mut setting = Setting::new("test");
        setting.file(path, "# Written by `immutag setup test`.\n".to_owned(), Merge::Own);
        setting
    }

    #[test]
    fn a_link_leads_neither_to_another_file_nor_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("etc/away")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), root.join("etc/link")).unwrap();
        for (path, words) in [("/etc/away/file", "leads out of"), ("/etc/link", "it is a link")] {
            let error = Plan::new(&setting(path), &root).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
        assert!(Plan::new(&setting("/etc/fine/file"), &root).unwrap().changes().count() == 1);
    }

    #[test]
    fn what_never_ends_or_is_too_large_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        let large = folder.path().join("large");
        fs::File::create(&large).unwrap().set_len(LIMIT + 1).unwrap();
        for (path, words) in [(&pipe, "no plain file"), (&large, "more than 1 MiB")] {
            let error = read(path).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_relative_path_is_below_a_root_that_is_given() {
        assert_eq!(below(Path::new("/"), "patch.yaml"), Path::new("patch.yaml"));
        assert_eq!(below(Path::new("/"), "/etc/a"), Path::new("/etc/a"));
        assert_eq!(below(Path::new("/r"), "patch.yaml"), Path::new("/r/patch.yaml"));
        assert_eq!(below(Path::new("/r"), "/etc/a"), Path::new("/r/etc/a"));
    }
}
