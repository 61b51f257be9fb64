//! A backup in the place of the ledger: everything is read and judged before anything is changed,
//! and the ledger that was there is moved aside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use thiserror::Error;

use super::anchor::{self, Anchor, Anchored};
use super::backup::{self, BackupError, BackupManifest};
use super::batch::{Builder, LedgerId};
use super::disk::RealDisk;
use super::lock::Lock;
use super::log::{Log, LogSetup};
use super::open::{OpenError, OpenOptions};
use super::point::{self, Point, Reached};
use super::scan::{self, Known};
use super::shared::Head;
use super::{files, record, recover};
use crate::clock::Clock;
use crate::event::{Draft, EventKind};

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The head that came from the backup.
    pub from: Point,
    /// The head now, with the event that tells of it; `None` if the ledger was the backup already.
    pub now: Option<Point>,
    /// Where the ledger is that was there before.
    pub aside: Option<PathBuf>,
}

/// Why nothing was restored. Unless it says otherwise, nothing was changed.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The backup cannot be used, or not be copied.
    #[error("the backup cannot be restored")]
    Backup(#[from] BackupError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was recorded here would be lost.
    #[error(
        "restoring would roll the ledger back: {0}; to do it all the same, and have that written \
         down, add --accept-rollback"
    )]
    RollsBack(String),
}

/// Restores `from` into the data directory of `options`, in the name of `who`, because of `why`.
///
/// A crash before the exchange leaves the old ledger, and `restoring/`, which the next restore
/// removes. One between the exchange and the anchor leaves the new ledger; if that is a roll-back,
/// the next start says so and wants `--accept-rollback`.
pub fn restore(
    options: &OpenOptions,
    from: &Path,
    (who, why): (&str, &str),
    clock: &dyn Clock,
) -> Result<Restored, RestoreError> {
    let manifest = backup::read_manifest(from)?;
    let (id, head) = check(from, &manifest)?;
    let data_dir = &options.data_dir;
    files::create_directories(data_dir).map_err(|error| OpenError::io(data_dir, error))?;
    let _lock = Lock::take(data_dir)?;
    if let Some(expected) = options.expected_id.clone().filter(|it| *it != manifest.id) {
        return Err(OpenError::Unexpected { expected, found: manifest.id }.into());
    }
    let there = standing(data_dir, from, (id, &head))?;
    let note = match &there {
        Standing::Same => {
            return Ok(Restored { from: manifest.head, now: None, aside: None });
        }
        Standing::Absent => "there was no ledger".to_owned(),
        Standing::Behind(point) => format!("the ledger before was at {point}, on the way there"),
        Standing::Ahead(what) if options.accept_rollback => format!("rolled back: {what}"),
        Standing::Ahead(what) => return Err(RestoreError::RollsBack(what.clone())),
    };
    let why = format!("{why}; from a backup at {}; {note}", manifest.head);
    let draft = Draft { who: who.to_owned(), why, ..Draft::new(EventKind::Restored, None) };
    let staged = data_dir.join("restoring");
    let anchor = stage(&staged, from, &manifest, head, draft, clock)?;
    let aside = put_in_place(data_dir, &staged)?;
    anchor::write(data_dir, &anchor)
        .map_err(|error| OpenError::io(&anchor::path(data_dir), error))?;
    let _ = fs::remove_dir_all(&staged);
    Ok(Restored { from: manifest.head, now: Some(anchor.last.into()), aside })
}

/// Reads all of the backup: each file's hash, and the chain.
fn check(from: &Path, manifest: &BackupManifest) -> Result<(LedgerId, Head), BackupError> {
    for file in &manifest.files {
        let path = from.join("log").join(&file.name);
        let found = hash(&path, file.size_bytes)?;
        if found != (file.size_bytes, file.sha256.clone()) {
            return Err(BackupError::damaged(&path, "it is not what backup.json says"));
        }
    }
    backup::check_chain(from, manifest)
}

/// Size and hash of a file, of which no more is read than one byte too many.
fn hash(path: &Path, most: u64) -> Result<(u64, String), BackupError> {
    use sha2::{Digest as _, Sha256};
    use std::io::Read as _;
    let io = BackupError::io(path);
    if !path.symlink_metadata().map_err(&io)?.is_file() {
        return Err(BackupError::damaged(path, "it is no file"));
    }
    let mut file = fs::File::open(path).map_err(&io)?.take(most.saturating_add(1));
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let read = file.read(&mut buffer).map_err(&io)?;
        if read == 0 {
            return Ok((size, files::hex(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

/// How the ledger that is there stands to the backup.
enum Standing {
    /// There is none, and no anchor that the backup does not reach.
    Absent,
    /// It has what the backup has not, or may have.
    Ahead(String),
    /// The backup goes on where it ends.
    Behind(Point),
    /// It is the backup.
    Same,
}

fn standing(
    data_dir: &Path,
    from: &Path,
    (id, head): (LedgerId, &Head),
) -> Result<Standing, RestoreError> {
    let reach = |point: Point| {
        let reached = point::reach(&from.join("log"), id, head, point);
        reached.is_ok_and(|reached| reached == Reached::Contained)
    };
    let anchored =
        anchor::read(data_dir).map_err(|error| OpenError::io(&anchor::path(data_dir), error))?;
    let unreached = match anchored {
        Anchored::No => None,
        Anchored::Spoilt => Some("the anchor's file cannot be read".to_owned()),
        Anchored::To(anchor) => {
            let point = Point::from(anchor.last);
            let what = format!("the anchor knows {point} of ledger {}", files::hex(&anchor.id));
            (anchor.id != id || !reach(point)).then_some(what)
        }
    };
    let log = recover::directory(data_dir);
    if !log.is_dir() {
        return Ok(unreached.map_or(Standing::Absent, Standing::Ahead));
    }
    let scanned = match scan::scan(&log, Known::default(), &mut |_, _| {}) {
        Ok(scanned) => scanned,
        Err(error) => return Ok(Standing::Ahead(format!("here is another: {error}"))),
    };
    let (Some(there), Some(end)) = (scanned.id, scanned.end) else {
        return Ok(unreached.map_or(Standing::Absent, Standing::Ahead));
    };
    let here = Point::from(scanned.last);
    if there != id {
        return Ok(Standing::Ahead(format!("here is another ledger, {}", files::hex(&there))));
    }
    if scanned.last == head.last {
        return Ok(unreached.map_or(Standing::Same, Standing::Ahead));
    }
    if reach(here) {
        return Ok(unreached.map_or(Standing::Behind(here), Standing::Ahead));
    }
    let own = Head { last: scanned.last, end };
    let longer = point::reach(&log, id, &own, head.last.into());
    Ok(Standing::Ahead(match longer {
        Ok(Reached::Contained) => {
            let more = here.sequence - head.last.sequence;
            let events = if more == 1 { "event" } else { "events" };
            format!("the ledger is at {here}, and has {more} {events} after the backup's last")
        }
        _ => format!("the ledger is at {here} and has another history than the backup"),
    }))
}

/// Makes `restoring/ledger` from the backup, with the event that tells of it; the new head.
fn stage(
    staged: &Path,
    from: &Path,
    manifest: &BackupManifest,
    head: Head,
    draft: Draft,
    clock: &dyn Clock,
) -> Result<Anchor, RestoreError> {
    let io = BackupError::io(staged);
    if staged.exists() {
        fs::remove_dir_all(staged).map_err(&io)?;
    }
    let log = recover::directory(staged);
    files::create_directories(&log).map_err(&io)?;
    for file in &manifest.files {
        let copied = backup::copy(
            &from.join("log").join(&file.name),
            &log.join(&file.name),
            file.size_bytes,
        )?;
        if copied != *file {
            return Err(BackupError::damaged(&log, "it changed while it was copied").into());
        }
    }
    let (id, _) = backup::check_chain(&staged.join("ledger"), manifest)?;
    let disk = Arc::new(RealDisk);
    let segment_size = OpenOptions::new(staged).segment_size_bytes;
    let setup = LogSetup { log: log.clone(), id, disk, segment_size, on_sync: None };
    let mut end = Log::open(setup, head.last, Some(head.end)).map_err(&io)?;
    let event = draft.at(head.last.sequence + 1, clock.wall_ms());
    let mut builder = Builder::new();
    builder.record(&record::encode(&event));
    end.reserve(builder.size() as u64).map_err(&io)?;
    let last = end.append(builder).map_err(&io)?.last;
    end.finish().map_err(&io)?;
    for path in [&log, &staged.join("ledger"), staged] {
        files::sync_directory(path).map_err(&io)?;
    }
    Ok(Anchor { id, last })
}

/// Exchanges `ledger/` and the staged one; where the old one is then.
fn put_in_place(data_dir: &Path, staged: &Path) -> Result<Option<PathBuf>, RestoreError> {
    let ledger = data_dir.join("ledger");
    let io = |error| RestoreError::Open(OpenError::io(&ledger, error));
    let new = staged.join("ledger");
    let aside = if ledger.exists() {
        let aside = free_name(data_dir, &ledger);
        // In one step, so that at no moment there is no ledger: that would be a new one.
        fs::rename(&new, &aside).map_err(io)?;
        match renameat_with(CWD, &aside, CWD, &ledger, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                // The anchor still says that there must be one.
                fs::rename(&aside, &new)
                    .and_then(|()| fs::rename(&ledger, &aside))
                    .and_then(|()| fs::rename(&new, &ledger))
                    .map_err(io)?;
            }
            exchanged => exchanged.map_err(|error| io(error.into()))?,
        }
        Some(aside)
    } else {
        fs::rename(&new, &ledger).map_err(io)?;
        None
    };
    files::sync_directory(data_dir).map_err(io)?;
    Ok(aside)
}

/// `ledger.before-restore-<sequence>`, by the old ledger's last segment, if its end is unknown.
fn free_name(data_dir: &Path, ledger: &Path) -> PathBuf {
    let log = ledger.join("log");
    let scanned = scan::scan(&log, Known::default(), &mut |_, _| {});
    let sequence = scanned.map_or_else(
        |_| super::segment::list(&log).ok().and_then(|it| it.last().copied()).unwrap_or(0),
        |scanned| scanned.last.sequence,
    );
    let name = |suffix: String| data_dir.join(format!("ledger.before-restore-{sequence}{suffix}"));
    let mut path = name(String::new());
    for number in 2u32.. {
        if path.symlink_metadata().is_err() {
            break;
        }
        path = name(format!("-{number}"));
    }
    path
}
