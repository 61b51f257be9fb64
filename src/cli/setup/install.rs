//! Writes one file of a plan.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::plan::{Step, read};

/// Writes the file, and gives the backup of what was there.
///
/// At every moment the file is the old one or the new one, whole: the new one is durable under
/// another name before it takes its place, and mode and owner are those of the old one.
///
/// # Errors
/// The file cannot be written, or is no longer what the plan was made from. It is as it was;
/// a backup may be left.
pub(super) fn install(step: &Step) -> anyhow::Result<Option<PathBuf>> {
    let path = &step.path;
    let name = path.display().to_string();
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let now = read(path).with_context(|| format!("{name} has changed meanwhile"))?;
    let is_as_planned = now.map(|(text, _)| text) == step.before;
    ensure!(is_as_planned, "{name} has changed meanwhile; it was not written");
    let temporary = beside(path, &format!(".immutag-{}", std::process::id()));
    let written = write(&temporary, step).and_then(|()| {
        let backup = step.before.as_ref().map(|_| back_up(path)).transpose()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()?;
        Ok(backup)
    });
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{name} cannot be written"))
}

fn write(temporary: &Path, step: &Step) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(step.after.as_bytes())?;
    if step.before.is_some() {
        let (old, new) = (fs::metadata(&step.path)?, file.metadata()?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.set_permissions(Permissions::from_mode(step.mode))?;
    file.sync_all()
}

/// Keeps the file under a name that tells when, and gives that name.
fn back_up(path: &Path) -> io::Result<PathBuf> {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let backup = beside(path, &format!(".immutag-backup-{now}{suffix}"));
        match fs::hard_link(path, &backup) {
            Ok(()) => return Ok(backup),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(_) => return copy(path, backup),
        }
    }
}

/// For file systems without hard links.
fn copy(path: &Path, backup: PathBuf) -> io::Result<PathBuf> {
    fs::copy(path, &backup)?;
    File::open(&backup)?.sync_all()?;
    Ok(backup)
}

/// The path with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_after_the_plan_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "another hand\n").unwrap();
        let before = Some("as planned\n".to_owned());
        let step = Step { path, before, after: "ours\n".to_owned(), mode: 0o600 };
        let error = install(&step).unwrap_err();
        assert!(error.to_string().contains("has changed meanwhile"), "{error}");
        assert_eq!(fs::read_to_string(&step.path).unwrap(), "another hand\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_came_into_the_place_of_nothing_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let planned = |after: &str| Step {
            path: path.clone(),
            before: None,
            after: after.to_owned(),
            mode: 0o644,
        };
        fs::write(&path, b"\xff another hand's").unwrap();
        assert!(install(&planned("ours\n")).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"\xff another hand's");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(install(&planned("ours\n")).is_err());
        assert!(path.is_symlink() && !folder.path().join("elsewhere").exists());
    }

    #[test]
    fn two_backups_in_one_second_are_two() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut backups = std::collections::BTreeSet::new();
        for text in ["a", "b", "c"] {
            fs::write(&path, text).unwrap();
            let mode = 0o640;
            let after = format!("{text}{text}");
            let step = Step { path: path.clone(), before: Some(text.to_owned()), after, mode };
            let backup = install(&step).unwrap().unwrap();
            assert_eq!(fs::read_to_string(&backup).unwrap(), text);
            assert!(backups.insert(backup));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}
