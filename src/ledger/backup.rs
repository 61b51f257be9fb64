//! A copy of the ledger at one moment, made while it goes on.
//!
//! A backup is a directory: `log/` with the log's segments up to the head at that moment, and
//! `backup.json`, which says what it is and what each file must be.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::batch::LedgerId;
use super::cursor::{Cursor, ReadError};
use super::files;
use super::point::Point;
use super::scan::{Link, Sealed};
use super::segment::{self, Position};
use super::shared::Head;

/// The version of [`BackupManifest`] that this program writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// The longest `backup.json` that is read, in bytes: hundreds of thousands of segments.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// What stands in `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupManifest {
    /// The version of this file, 1.
    pub format: u32,
    /// The ledger's id, 32 hex digits.
    pub id: String,
    /// Where the ledger was: `SIZE:HASH`.
    pub head: Point,
    /// The files below `log/`, in the order of the log.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupFile {
    /// Its name below `log/`.
    pub name: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Of its bytes, hex.
    pub sha256: String,
}

/// Why there is no backup, or it cannot be used. What was there before is as it was.
#[derive(Debug, Error)]
pub enum BackupError {
    /// What is in the files is not what was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file, or the directory.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Something has the name already.
    #[error("{0} is there already; name a place for the backup where nothing is")]
    Exists(PathBuf),
    /// The file system refused.
    #[error("{path} cannot be read or written")]
    Io {
        /// At what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A later version wrote it.
    #[error("the backup is of format {0}, this immutag reads format 1; use a newer one")]
    UnknownFormat(u32),
}

impl BackupError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// Makes a backup at `to`: durable, checked and whole, or not there.
///
/// A crash leaves `.<name>.<random>.partial` beside it, which nothing takes for a backup.
pub(crate) fn write(
    log: &Path,
    id: LedgerId,
    (head, sealed): (Head, Vec<Sealed>),
    to: &Path,
) -> Result<BackupManifest, BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let staged = staged(to).map_err(BackupError::io(to))?;
    let made = stage(log, id, (head, sealed), &staged).and_then(|manifest| {
        publish(&staged, to)?;
        Ok(manifest)
    });
    if made.is_err() {
        // What cannot be removed is found by its name.
        let _ = fs::remove_dir_all(&staged);
    }
    made
}

fn staged(to: &Path) -> io::Result<PathBuf> {
    let name = to.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let random = files::hex(&files::random::<4>()?);
    let staged = to.with_file_name(format!(".{name}.{random}.partial"));
    // What is pulled here is nobody else's business.
    fs::DirBuilder::new().mode(0o700).create(&staged)?;
    Ok(staged)
}

fn stage(
    log: &Path,
    id: LedgerId,
    (head, sealed): (Head, Vec<Sealed>),
    staged: &Path,
) -> Result<BackupManifest, BackupError> {
    let copies = staged.join("log");
    fs::create_dir(&copies).map_err(BackupError::io(&copies))?;
    let open = (head.end.segment, head.end.offset);
    let closed = sealed.iter().filter(|it| it.first < head.end.segment);
    let mut files = Vec::new();
    for (first, size) in closed.map(|it| (it.first, it.size)).chain([open]) {
        files.push(copy(&segment::path(log, first), &segment::path(&copies, first), size)?);
    }
    let head = Point::from(head.last);
    let manifest = BackupManifest { format: FORMAT, id: files::hex(&id), head, files };
    // The chain of the copy itself is read: a backup that could not be restored is none.
    check_chain(staged, &manifest)?;
    let path = staged.join("backup.json");
    let text = serde_json::to_vec_pretty(&manifest).expect("strings and numbers");
    files::replace(&path, &text).map_err(BackupError::io(&path))?;
    for path in [&copies, staged] {
        files::sync_directory(path).map_err(BackupError::io(path))?;
    }
    Ok(manifest)
}

/// Copies the first `size` bytes of a file, durably, and says what they are.
pub(crate) fn copy(from: &Path, to: &Path, size: u64) -> Result<BackupFile, BackupError> {
    let mut source = File::open(from).map_err(BackupError::io(from))?.take(size);
    let mut target = File::create_new(to).map_err(BackupError::io(to))?;
    let (mut hash, mut size_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let read = source.read(&mut buffer).map_err(BackupError::io(from))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        target.write_all(&buffer[..read]).map_err(BackupError::io(to))?;
        size_bytes += read as u64;
    }
    target.sync_all().map_err(BackupError::io(to))?;
    if size_bytes != size {
        return Err(BackupError::damaged(from, format!("it ends after {size_bytes} bytes")));
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(BackupFile { name, size_bytes, sha256: files::hex(&hash.finalize()) })
}

/// Gives the backup its name, unless something has it by now.
fn publish(staged: &Path, to: &Path) -> Result<(), BackupError> {
    match renameat_with(CWD, staged, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => return Err(BackupError::Exists(to.to_owned())),
        // Not every file system can; then only an empty directory can get lost.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(staged, to).map_err(BackupError::io(to))?;
        }
        renamed => renamed.map_err(|error| BackupError::io(to)(error.into()))?,
    }
    let parent = to.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::sync_directory(parent).map_err(BackupError::io(parent))
}

/// Reads `backup.json`.
pub(crate) fn read_manifest(backup: &Path) -> Result<BackupManifest, BackupError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = backup.join("backup.json");
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(BackupError::io(&path))?;
    file.take(MANIFEST_LIMIT).read_to_end(&mut bytes).map_err(BackupError::io(&path))?;
    let unreadable = |error: serde_json::Error| BackupError::damaged(&path, error.to_string());
    let Format { format } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if format != FORMAT {
        return Err(BackupError::UnknownFormat(format));
    }
    let manifest: BackupManifest = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let ours = |file: &BackupFile| {
        let digits = file.name.strip_suffix(".seg").unwrap_or_default();
        digits.len() == 20 && digits.bytes().all(|it| it.is_ascii_digit())
    };
    if manifest.files.is_empty() || !manifest.files.iter().all(ours) {
        return Err(BackupError::damaged(&path, "it names files that are no segments"));
    }
    Ok(manifest)
}

/// Reads every batch of a copy: all hashes, from the ledger's first up to its head.
pub(crate) fn check_chain(
    backup: &Path,
    manifest: &BackupManifest,
) -> Result<(LedgerId, Head), BackupError> {
    let log = backup.join("log");
    let damaged = |what: &str| BackupError::damaged(&log, what);
    let id = files::from_hex(&manifest.id).ok_or_else(|| damaged("the id is none"))?;
    let last = manifest.files.last().ok_or_else(|| damaged("it has no segment"))?;
    let segment = last.name.trim_end_matches(".seg").parse().unwrap_or(0);
    let end = Position { segment, offset: last.size_bytes };
    let Point { sequence, hash } = manifest.head;
    let head = Head { last: Link { sequence, hash }, end };
    let mut cursor = Cursor::start(&log, id);
    loop {
        match cursor.read(&head) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(ReadError::Damaged { at, what }) => {
                let path = segment::path(&log, at.segment);
                return Err(BackupError::damaged(&path, format!("byte {}: {what}", at.offset)));
            }
            Err(ReadError::Io(error)) => return Err(BackupError::io(&log)(error)),
        }
    }
    let is_end = cursor.last() == head.last && cursor.next_position() == end;
    if is_end { Ok((id, head)) } else { Err(damaged("its log does not end as backup.json says")) }
}
