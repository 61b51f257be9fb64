//! Reading all that is stored again, slowly, and hashing it.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::sound::is_bad_disk;
use crate::oci::{Digest, Hasher};

/// The most that is read in a second, in bytes, however much is due.
const MAX_RATE: u64 = 8 << 20;

/// The same while content is suspect.
const SUSPECT_RATE: u64 = 32 << 20;

/// What is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// What a file costs beside its bytes, in bytes.
const FILE_COST: u64 = 4096;

/// What is not read within this time is not caught up.
const CATCH_UP: Duration = Duration::from_mins(1);

/// How far it came, in `cache/scrub`: a crash loses the last minutes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Progress {
    /// What was hashed last; the next digests follow.
    pub(super) cursor: Option<Digest>,
    /// When all was hashed the last time, Unix time.
    pub(super) ended_ms: Option<u64>,
}

/// The reader: call [`Scrub::step`] now and then.
pub(super) struct Scrub {
    within: Duration,
    path: PathBuf,
    pub(super) progress: Progress,
    saved: Progress,
    current: Option<Current>,
    /// What may be read by now, in bytes.
    credit: u64,
    last: Duration,
    piece: Vec<u8>,
}

/// The file is opened anew for each piece: it may go between two of them.
struct Current {
    digest: Digest,
    inode: u64,
    size_bytes: u64,
    at: u64,
    hasher: Hasher,
    /// It is out of turn: the cursor stays.
    is_suspect: bool,
}

impl Scrub {
    /// One that reads all within this time, or never if it is zero, from where the last one was.
    pub(super) fn open(path: PathBuf, within: Duration) -> Self {
        let text = fs::read(&path).unwrap_or_default();
        let progress: Progress = serde_json::from_slice(&text).unwrap_or_default();
        let (credit, last) = (0, Duration::ZERO);
        let piece = Vec::new();
        Self { within, path, progress, saved: progress, current: None, credit, last, piece }
    }

    /// Writes down how far it came.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.progress == self.saved {
            return Ok(());
        }
        let staged = self.path.with_extension("new");
        fs::write(&staged, serde_json::to_vec(&self.progress)?)?;
        fs::rename(&staged, &self.path)?;
        self.saved = self.progress;
        Ok(())
    }

    /// Reads as much as is due since the last call. It waits for the disk.
    pub(super) fn step(&mut self, shared: &Shared, now: Duration, now_ms: u64) -> io::Result<()> {
        let elapsed = now.saturating_sub(self.last).min(CATCH_UP);
        let totals = shared.usage.totals();
        let per_second = match (totals.suspects, u64::try_from(self.within.as_millis())) {
            (1.., _) => SUSPECT_RATE,
            (0, Ok(0)) => return Ok(()),
            (0, within) => {
                let within = u128::from(within.unwrap_or(u64::MAX));
                let all = u128::from(totals.bytes + totals.blobs * FILE_COST);
                let rate = all * 1000 / within + 1;
                u64::try_from(rate).unwrap_or(MAX_RATE).min(MAX_RATE)
            }
        };
        let earned = u128::from(per_second) * elapsed.as_millis() / 1000;
        if earned > 0 {
            self.last = now;
        }
        let most = per_second.max(PIECE as u64);
        self.credit = (self.credit + u64::try_from(earned).unwrap_or(most)).min(most);
        while self.credit >= self.next_bytes(shared, now_ms)? {
            let Some(read) = self.read_piece(shared)? else { return Ok(()) };
            self.credit -= read.min(self.credit);
        }
        Ok(())
    }

    /// How much the next piece is, in bytes; the most there is if there is none.
    fn next_bytes(&mut self, shared: &Shared, now_ms: u64) -> io::Result<u64> {
        if self.current.is_none() {
            self.current = self.choose(shared, now_ms)?;
        }
        let Some(current) = &self.current else { return Ok(u64::MAX) };
        let left = current.size_bytes.saturating_sub(current.at);
        Ok(if left == 0 { FILE_COST } else { left.min(PIECE as u64) })
    }

    /// Suspect content first, then whatever follows.
    fn choose(&mut self, shared: &Shared, now_ms: u64) -> io::Result<Option<Current>> {
        let suspect = shared.usage.next(None, |known| known.is_suspect);
        let is_suspect = suspect.is_some();
        let next = match suspect {
            Some(suspect) => Some(suspect),
            None if self.within.is_zero() => None,
            None => shared.usage.next(self.progress.cursor.as_ref(), |_| true),
        };
        let Some((digest, _)) = next else {
            if self.progress.cursor.take().is_some() {
                self.progress.ended_ms = Some(now_ms);
                tracing::info!("all stored content was hashed again");
            }
            return Ok(None);
        };
        let Some((_, metadata)) = shared.places.open(&digest)? else {
            shared.note_missing(&digest)?;
            return Ok(None);
        };
        let (inode, size_bytes) = (metadata.ino(), metadata.len());
        let hasher = Hasher::for_claim(Some(&digest));
        Ok(Some(Current { digest, inode, size_bytes, at: 0, hasher, is_suspect }))
    }

    /// Reads a piece of the current file, and judges at its end; how many bytes it was.
    fn read_piece(&mut self, shared: &Shared) -> io::Result<Option<u64>> {
        let Some(mut current) = self.current.take() else { return Ok(None) };
        let opened = shared.places.open(&current.digest)?;
        let Some((file, _)) = opened.filter(|(_, now)| now.ino() == current.inode) else {
            // It was evicted or replaced meanwhile.
            self.pass(&current);
            return Ok(Some(FILE_COST));
        };
        self.piece.resize(PIECE, 0);
        let read = match read_gently(&file, &mut self.piece, current.at) {
            Err(error) if is_bad_disk(&error) => {
                self.pass(&current);
                shared.drop_damaged(&current.digest, current.inode, "the disk cannot read it")?;
                return Ok(Some(PIECE as u64));
            }
            read => read?,
        };
        let bytes = read as u64;
        shared.metrics.scrubbed_bytes.inc_by(bytes);
        if read > 0 {
            current.hasher.update(&self.piece[..read]);
            current.at += bytes;
            self.current = Some(current);
            return Ok(Some(bytes));
        }
        self.pass(&current);
        let Current { digest, inode, hasher, .. } = current;
        if hasher.finish().supports(&digest) {
            shared.vouch(&digest);
        } else {
            shared.drop_damaged(&digest, inode, "its bytes hash to something else")?;
        }
        Ok(Some(FILE_COST))
    }

    const fn pass(&mut self, current: &Current) {
        if !current.is_suspect {
            self.progress.cursor = Some(current.digest);
        }
    }
}

/// Reads, and leaves the page cache as it was: what clients want stays in it.
fn read_gently(file: &File, piece: &mut [u8], at: u64) -> io::Result<usize> {
    let mut whole = [IoSliceMut::new(piece)];
    if let Ok(read) = preadv2(file, &mut whole, at, ReadWriteFlags::NOWAIT)
        && read > 0
    {
        return Ok(read);
    }
    let read = file.read_at(piece, at)?;
    if let Some(length) = NonZeroU64::new(read as u64) {
        // Advice only: a file system that takes none reads all the same.
        let _ = fadvise(file, at, Some(length), Advice::DontNeed);
    }
    Ok(read)
}
