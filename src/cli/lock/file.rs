//! The lock file on disk: read within bounds, written whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::lockfile::{LOCK_BYTES, LockFile};

/// A lock file, and what it had when it was read.
pub(super) struct LockPath {
    pub(super) path: PathBuf,
    /// Its content; empty if there is none yet.
    pub(super) file: LockFile,
    /// Its bytes; `None` if there is none yet.
    before: Option<Vec<u8>>,
}

impl LockPath {
    /// Reads the file, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be understood: then nothing may be written over it.
    pub(super) fn read(path: PathBuf) -> anyhow::Result<Self> {
        let before = bytes(&path).with_context(|| path.display().to_string())?;
        let file = match &before {
            Some(bytes) => LockFile::parse(bytes).with_context(|| path.display().to_string())?,
            None => LockFile::default(),
        };
        Ok(Self { path, file, before })
    }

    /// Whether it is there.
    pub(super) const fn exists(&self) -> bool {
        self.before.is_some()
    }

    /// Its folder, from which its sources are named.
    pub(super) fn folder(&self) -> &Path {
        folder(&self.path)
    }

    /// Writes the new content, unless it is there already; whether it did.
    ///
    /// At every moment the file is the old one or the new one, whole: the new one is durable under
    /// another name before it takes its place. Where the path is a link, its target is replaced.
    ///
    /// # Errors
    /// The file cannot be written, changed meanwhile, or could not be read again. It is as it was.
    pub(super) fn write(&self, new: &LockFile) -> anyhow::Result<bool> {
        let text = new.to_string();
        if self.before.as_deref() == Some(text.as_bytes()) {
            return Ok(false);
        }
        let again =
            LockFile::parse(text.as_bytes()).context("the new lock file would be unusable")?;
        ensure!(again == *new, "the new lock file would not read as it was meant");
        let name = self.path.display();
        let now = bytes(&self.path)?;
        ensure!(now == self.before, "{name} has changed meanwhile; it was not written");
        let target = if self.exists() { fs::canonicalize(&self.path)? } else { self.path.clone() };
        replace(&target, &text).with_context(|| format!("{name} cannot be written"))?;
        Ok(true)
    }
}

fn bytes(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) => ensure!(metadata.is_file(), "it is no regular file"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_nothing = fs::symlink_metadata(path).is_err();
            ensure!(is_nothing, "it is a link to something that is not there");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    // One byte more tells that it is too large.
    file.take(LOCK_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn replace(target: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = OsString::from(target);
    name.push(format!(".immutag-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = stage(&temporary, target, text).and_then(|()| {
        fs::rename(&temporary, target)?;
        File::open(folder(target))?.sync_all()
    });
    if let Err(error) = written {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
        bail!(error);
    }
    Ok(())
}

/// The new text beside the old one, with its mode and owner.
fn stage(temporary: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(target) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn one() -> LockFile {
        LockFile { sources: vec!["Dockerfile".to_owned()], ..LockFile::default() }
    }

    #[test]
    fn a_link_is_written_through_and_the_mode_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("real"), folder.path().join("images.lock"));
        fs::write(&target, LockFile::default().to_string()).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", &link).unwrap();
        let lock = LockPath::read(link.clone()).unwrap();
        assert!(lock.write(&one()).unwrap());
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), one().to_string());
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(!LockPath::read(link).unwrap().write(&one()).unwrap(), "it is there already");
    }

    #[test]
    fn what_changed_meanwhile_or_is_not_understood_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.lock");
        let lock = LockPath::read(path.clone()).unwrap();
        fs::write(&path, "another hand").unwrap();
        let error = lock.write(&one()).unwrap_err().to_string();
        assert!(error.contains("has changed meanwhile"), "{error}");
        assert!(LockPath::read(path.clone()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "another hand");
        fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert!(LockPath::read(path).is_err());
        assert!(LockPath::read("/dev/zero".into()).is_err());
    }
}
