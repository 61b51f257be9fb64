//! Another ledger's events, taken over as the beginning of a new one.
//!
//! The new ledger is built beside the old, empty one and renamed into its place when it is whole
//! and durable: so it is there with everything, or not at all, whatever crashes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::anchor::{self, Anchor, Anchored};
use super::batch::{self, Builder};
use super::lock::Lock;
use super::log::{Log, LogSetup, RotateError};
use super::open::{OpenError, OpenOptions};
use super::scan::Link;
use super::segment::{self, Found, SegmentReader};
use super::{StoredManifest, files, record, recover, writer};
use crate::clock::Clock;
use crate::event::{Draft, Event, EventKind};
use crate::oci::Digest;

/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// The directory in which the new ledger is built, beside `ledger/`.
const FRESH: &str = "ledger.importing";
/// Where an empty ledger is put that was there.
const ASIDE: &str = "ledger.before-import";

/// Why another ledger's events were not taken over. The ledger that was there stays as it was.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// There is a ledger already, with more than its creation in it.
    #[error("the ledger in {} is not empty", .0.display())]
    IsNotEmpty(PathBuf),
    /// What is there cannot be opened or written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event or manifest is none that a ledger could have at this place.
    #[error("{0}")]
    Refused(String),
}

/// A ledger that is being built from another one's events.
///
/// Dropped before [`Adoption::finish`], nothing of it is left; a kill leaves a directory that the
/// next one clears away.
pub struct Adoption {
    data_dir: PathBuf,
    log: Log,
    clock: Arc<dyn Clock>,
    builder: Builder,
    /// What the events of the open batch observed.
    observed: HashSet<Digest>,
    next: u64,
    is_finished: bool,
    _lock: Lock,
}

/// Whether there is no ledger in a data directory, or one in which nothing happened yet.
///
/// # Errors
/// [`OpenError::RolledBack`] if there is none, but the anchor knows of one.
pub fn is_blank(data_dir: &Path) -> Result<bool, OpenError> {
    let log = recover::directory(data_dir);
    let io = |error| OpenError::io(&log, error);
    let segments = if log.is_dir() { segment::list(&log).map_err(io)? } else { Vec::new() };
    let [first] = segments.as_slice() else {
        let anchored = anchor::read(data_dir).map_err(io)?;
        if segments.is_empty() && anchored != Anchored::No {
            let what = "the anchor knows a ledger, but there is no log".to_owned();
            return Err(OpenError::RolledBack { what });
        }
        return Ok(segments.is_empty());
    };
    let mut reader = SegmentReader::open(&segment::path(&log, *first)).map_err(io)?;
    match reader.batch(0).map_err(io)? {
        Found::Batch(batch) if *first == 1 && batch.last() == 1 => {
            reader.is_blank_from(batch.header.size as u64).map_err(io)
        }
        _ => Ok(false),
    }
}

impl Adoption {
    /// Begins a new ledger beside an empty one. Its `created` event is its own.
    ///
    /// # Errors
    /// [`AdoptError::IsNotEmpty`], or that another process has the directory.
    pub fn begin(options: &OpenOptions, clock: Arc<dyn Clock>) -> Result<Self, AdoptError> {
        let data_dir = options.data_dir.clone();
        let io = |error| OpenError::io(&data_dir, error);
        files::create_directories(&data_dir).map_err(io)?;
        let lock = Lock::take(&data_dir)?;
        if !is_blank(&data_dir)? {
            return Err(AdoptError::IsNotEmpty(data_dir));
        }
        if let Some(expected) = options.expected_id.clone() {
            let found = "a new ledger that is made by this import".to_owned();
            return Err(OpenError::Unexpected { expected, found }.into());
        }
        remove(&data_dir.join(FRESH)).map_err(io)?;
        let setup = LogSetup {
            log: data_dir.join(FRESH).join("log"),
            id: files::random().map_err(io)?,
            disk: options.disk.clone(),
            segment_size: options.segment_size_bytes,
            on_sync: options.on_sync.clone(),
        };
        files::create_directories(&setup.log).map_err(io)?;
        let start = Link { sequence: 0, hash: batch::genesis(&setup.id) };
        let id = files::hex(&setup.id);
        let log = Log::open(setup, start, None).map_err(io)?;
        let (builder, observed) = (Builder::new(), HashSet::new());
        let (next, is_finished) = (1, false);
        let mut adoption =
            Self { data_dir, log, clock, builder, observed, next, is_finished, _lock: lock };
        adoption.write(Draft { why: id, ..Draft::new(EventKind::Created, None) });
        Ok(adoption)
    }

    /// Takes the next event over, with the manifests that came before it in the export.
    ///
    /// # Errors
    /// [`AdoptError::Refused`] for what this version would not have written.
    pub fn take(&mut self, event: &Event, manifests: &[StoredManifest]) -> Result<(), AdoptError> {
        self.check(event)?;
        let observed = event.observed_digest();
        // The export gives a manifest to the first event of its batch that observed it, or to the
        // last one: so is it put here that the next export gives it to the same event.
        if manifests.iter().any(|manifest| self.observed.contains(&manifest.content.digest)) {
            self.flush()?;
        }
        self.builder.record(&record::encode(event));
        self.next += 1;
        self.observed.extend(observed);
        for manifest in manifests {
            let sha256 = writer::sha256(manifest);
            self.builder.attach(sha256, &manifest.content.media_type, &manifest.bytes);
        }
        let is_owned = |manifest: &StoredManifest| observed == Some(manifest.content.digest);
        if self.builder.size() >= BATCH_BYTES || !manifests.iter().all(is_owned) {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes `last` behind all that was taken, and puts the new ledger in its place.
    ///
    /// A crash before the rename leaves the old state; one behind it the new ledger, whose anchor
    /// the next start writes.
    ///
    /// # Errors
    /// As before: the ledger that was there stays.
    pub fn finish(mut self, last: Draft) -> Result<u64, AdoptError> {
        let sequence = self.next;
        self.write(last);
        self.flush()?;
        let data_dir = self.data_dir.clone();
        let io = |error| OpenError::io(&data_dir, error);
        self.log.finish().map_err(io)?;
        self.replace().map_err(io)?;
        self.is_finished = true;
        let anchor = Anchor { id: *self.log.id(), last: self.log.last() };
        anchor::write(&data_dir, &anchor).map_err(io)?;
        remove(&data_dir.join(ASIDE)).map_err(io)?;
        Ok(sequence)
    }

    fn replace(&self) -> io::Result<()> {
        let (ledger, aside) = (self.data_dir.join("ledger"), self.data_dir.join(ASIDE));
        files::sync_directory(&self.data_dir.join(FRESH))?;
        files::sync_directory(&self.data_dir)?;
        // The anchor knows the empty ledger. Without it either is opened; with it neither the new
        // one nor none would be.
        match fs::remove_file(anchor::path(&self.data_dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => files::sync_directory(&self.data_dir)?,
        }
        remove(&aside)?;
        if ledger.exists() {
            fs::rename(&ledger, &aside)?;
        }
        fs::rename(self.data_dir.join(FRESH), &ledger)?;
        files::sync_directory(&self.data_dir)
    }

    fn check(&self, event: &Event) -> Result<(), AdoptError> {
        let refuse = |what: String| Err(AdoptError::Refused(what));
        let Self { next, .. } = self;
        if event.sequence != *next {
            return refuse(format!("event {} is where event {next} is due", event.sequence));
        }
        if event.kind == EventKind::Created {
            return refuse("a ledger is created once, by its first event".to_owned());
        }
        let texts = [&event.who, &event.why, &event.rule];
        let fits = texts.iter().all(|text| text.len() <= writer::TEXT_BYTES);
        if !fits || record::decode(&record::encode(event)).as_ref() != Ok(event) {
            return refuse(format!("event {next} is not what this version would have written"));
        }
        Ok(())
    }

    fn write(&mut self, draft: Draft) {
        let event = draft.at(self.next, self.clock.wall_ms());
        self.builder.record(&record::encode(&event));
        self.next += 1;
    }

    fn flush(&mut self) -> Result<(), AdoptError> {
        self.observed.clear();
        if self.builder.is_empty() {
            return Ok(());
        }
        let path = self.data_dir.join(FRESH);
        let io = |error| OpenError::io(&path, error);
        if self.log.is_full() {
            match self.log.rotate() {
                Ok(_) => {}
                Err(RotateError::Begin(error) | RotateError::Close(error)) => {
                    return Err(io(error).into());
                }
            }
        }
        let builder = std::mem::replace(&mut self.builder, Builder::new());
        self.log.reserve(builder.size() as u64).map_err(io)?;
        self.log.append(builder).map_err(io)?;
        Ok(())
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nobody reads what stays.
            let _ = remove(&self.data_dir.join(FRESH));
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
