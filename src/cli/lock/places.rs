//! Which files are read, and how a lock file names them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::file::LockPath;

/// A file that names images, or standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Where it is; `None` for standard input.
    pub(super) path: Option<PathBuf>,
    /// As the lock file names it: from its own folder.
    pub(super) name: String,
    /// Somebody typed it, or a folder that has it; else the lock file alone names it.
    pub(super) is_typed: bool,
}

/// How standard input is called.
pub(super) const STDIN: &str = "standard input";

/// The sources of the lock file and those that were typed, by their names; without any of both,
/// the Dockerfile and the Containerfile here.
///
/// # Errors
/// Something typed is not there, or has a name that no lock file can hold.
pub(super) fn sources(paths: &[PathBuf], lock: &LockPath) -> anyhow::Result<Vec<Source>> {
    let mut sources: BTreeMap<String, Source> = BTreeMap::new();
    for name in &lock.file.sources {
        let path = Some(lock.folder().join(name));
        sources.insert(name.clone(), Source { path, name: name.clone(), is_typed: false });
    }
    let mut typed: Vec<PathBuf> = Vec::new();
    for path in paths {
        typed.extend(files(path).with_context(|| path.display().to_string())?);
    }
    if typed.is_empty() && sources.is_empty() {
        let here = ["Dockerfile", "Containerfile"].map(PathBuf::from);
        typed.extend(here.into_iter().filter(|path| path.is_file()));
    }
    for path in typed {
        let source = if path == Path::new("-") {
            Source { path: None, name: STDIN.to_owned(), is_typed: true }
        } else {
            let name = name(&path, lock.folder()).with_context(|| path.display().to_string())?;
            Source { path: Some(path), name, is_typed: true }
        };
        sources.insert(source.name.clone(), source);
    }
    Ok(sources.into_values().collect())
}

impl Source {
    /// Whether reading it reads what its name says: a file below the working directory or the lock
    /// file's folder, or one that somebody typed and that is no link.
    ///
    /// A pull request can bring a lock file that names anything, and a Dockerfile that is a link to
    /// anything: what a runner has elsewhere must be neither looked up nor told.
    pub(super) fn is_inside(&self, folder: &Path) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(true) };
        let real = fs::canonicalize(path)?;
        let is_below =
            real.starts_with(fs::canonicalize(".")?) || real.starts_with(fs::canonicalize(folder)?);
        Ok(is_below || self.is_typed && !fs::symlink_metadata(path)?.is_symlink())
    }
}

/// The path itself, or the Dockerfiles of a folder, not of those in it.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_one = entry.file_name().to_str().is_some_and(is_dockerfile);
        if is_one && entry.path().is_file() {
            // `.` adds nothing to a name.
            let here = path == Path::new(".");
            found.push(if here { entry.file_name().into() } else { entry.path() });
        }
    }
    if found.is_empty() {
        bail!(
            "it is a folder without a Dockerfile or Containerfile; folders in it are not searched"
        );
    }
    found.sort();
    Ok(found)
}

/// `Dockerfile`, `Dockerfile.build`, `build.Dockerfile`, and the same with `Containerfile`.
fn is_dockerfile(name: &str) -> bool {
    let is_one = |stem: &str| {
        let before =
            name.strip_suffix(stem).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let behind = name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
        before || behind
    };
    !name.ends_with(".dockerignore") && ["Dockerfile", "Containerfile"].into_iter().any(is_one)
}

/// The path from the lock file's folder: as it was typed where that is the working directory.
fn name(path: &Path, folder: &Path) -> anyhow::Result<String> {
    let is_here = fs::canonicalize(folder)? == fs::canonicalize(".")?;
    let from = if path.is_relative() && is_here {
        path.strip_prefix(".").unwrap_or(path).to_owned()
    } else {
        between(&fs::canonicalize(folder)?, &whole(path)?)
    };
    let name = from.to_str().context("its name is not UTF-8, and a lock file is")?;
    Ok(name.to_owned())
}

/// The path without links, but for the file itself, whose name is the one that people know.
fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    let file = path.file_name().context("it is no file")?;
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(parent)?.join(file))
}

/// The way from a folder to a file, both without links.
fn between(folder: &Path, file: &Path) -> PathBuf {
    let common = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| std::path::Component::ParentDir);
    up.chain(file.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfiles_are_known_by_their_names() {
        for name in
            ["Dockerfile", "Dockerfile.build", "web.Dockerfile", "Containerfile", "a.Containerfile"]
        {
            assert!(is_dockerfile(name), "{name}");
        }
        for name in ["Dockerfiles", "MyDockerfile", "Dockerfile.dockerignore", "dockerfile.md", "x"]
        {
            assert!(!is_dockerfile(name), "{name}");
        }
    }

    #[test]
    fn a_source_is_named_from_the_lock_files_folder() {
        for (folder, file, expected) in [
            ("/p", "/p/Dockerfile", "Dockerfile"),
            ("/p/ci", "/p/Dockerfile", "../Dockerfile"),
            ("/p", "/p/a/b/Dockerfile", "a/b/Dockerfile"),
            ("/p/ci", "/q/x", "../../q/x"),
        ] {
            assert_eq!(between(Path::new(folder), Path::new(file)), Path::new(expected));
        }
    }
}
