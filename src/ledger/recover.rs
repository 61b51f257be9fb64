//! The way from a data directory to a log that can be written to.
//!
//! Everything is read and judged before anything is changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::anchor::{self, Anchor, Anchored};
use super::batch::{self, Batch, Builder, LedgerId};
use super::facts::Facts;
use super::lock::Lock;
use super::log::{Log, LogSetup, cut_torn};
use super::open::{OpenError, OpenOptions};
use super::scan::{self, Known, Link, Scanned, Sealed};
use super::segment::{self, Position, SegmentReader};
use super::shared::Head;
use super::{files, record, snapshot};
use crate::clock::Clock;
use crate::event::{Draft, EventKind};
use crate::pin::{PinKey, TagState};

/// A ledger that was opened.
pub(crate) struct Recovered {
    pub(crate) lock: Lock,
    pub(crate) log: Log,
    pub(crate) facts: Facts,
    pub(crate) sealed: Vec<Sealed>,
    /// Up to where the snapshot was believed, and the log not read.
    pub(crate) unread: Option<Head>,
    /// How many bytes of batches lie behind that.
    pub(crate) tail_bytes: u64,
    /// States that are wholly in the part that was read.
    pub(crate) states: HashMap<PinKey, TagState>,
}

/// How many tags' states are kept from what is read at start.
const STATES: usize = 4 << 10;

/// Opens the ledger in a data directory; makes one where none ever was.
pub(crate) fn recover(options: &OpenOptions, clock: &dyn Clock) -> Result<Recovered, OpenError> {
    let data_dir = &options.data_dir;
    files::create_directories(data_dir).map_err(|error| OpenError::io(data_dir, error))?;
    let lock = Lock::take(data_dir)?;
    let log_dir = directory(data_dir);
    let anchored =
        anchor::read(data_dir).map_err(|error| OpenError::io(&anchor::path(data_dir), error))?;
    let (scanned, reading) = read(options, &log_dir, &anchored)?;
    expect(options, scanned.id)?;
    let rollback = match rolled_back(&anchored, &scanned, reading.reaches_anchor) {
        Some(what) if !options.accept_rollback => return Err(OpenError::RolledBack { what }),
        outcome => outcome,
    };
    let log = prepare(options, &log_dir, &scanned)?;
    let Reading { facts, states, unread, tail_bytes, .. } = reading;
    let sealed = scanned.sealed;
    let mut recovered = Recovered { lock, log, facts, sealed, unread, tail_bytes, states };
    if scanned.last.sequence == 0 {
        let id = files::hex(recovered.log.id());
        write(&mut recovered, Draft { why: id, ..Draft::new(EventKind::Created, None) }, clock)?;
    }
    if let Some(why) = rollback {
        tracing::warn!("accepted as told: {why}");
        let draft = Draft { why, ..Draft::new(EventKind::RollbackAccepted, None) };
        write(&mut recovered, draft, clock)?;
    }
    let anchor = Anchor { id: *recovered.log.id(), last: recovered.log.last() };
    anchor::write(data_dir, &anchor)
        .map_err(|error| OpenError::io(&anchor::path(data_dir), error))?;
    Ok(recovered)
}

/// Where the log's segments are.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger").join("log")
}

/// What is learned while the log is read.
struct Reading {
    facts: Facts,
    states: HashMap<PinKey, TagState>,
    unread: Option<Head>,
    tail_bytes: u64,
    reaches_anchor: bool,
}

impl Reading {
    fn take(&mut self, batch: &Batch, at: Position, anchored: &Anchored) {
        for (event, place) in batch.events.iter().zip(&batch.places) {
            self.fold(event);
            self.facts.apply(event, place.behind(at.offset));
        }
        self.tail_bytes += batch.header.size as u64;
        for attachment in &batch.attachments {
            let offset = at.offset + attachment.at as u64;
            self.facts.attach(&attachment.sha256, Position { offset, ..at });
        }
        let last = Link { sequence: batch.last(), hash: batch.hash };
        self.reaches_anchor |= matches!(anchored, Anchored::To(anchor) if anchor.last == last);
    }

    /// Keeps the states of tags of which every event is read here.
    fn fold(&mut self, event: &crate::event::Event) {
        let Some(key) = &event.key else { return };
        if let Some(state) = self.states.get_mut(key) {
            state.apply(event);
        } else if self.states.len() < STATES
            && self.facts.sequence(self.facts.fingerprint(key)) == 0
        {
            let mut state = TagState::default();
            state.apply(event);
            self.states.insert(key.clone(), state);
        }
    }
}

fn read(
    options: &OpenOptions,
    log: &Path,
    anchored: &Anchored,
) -> Result<(Scanned, Reading), OpenError> {
    let fresh = files::random().map_err(|error| OpenError::io(Path::new("/dev/urandom"), error))?;
    let mut reading = Reading {
        facts: Facts::new(fresh),
        states: HashMap::new(),
        unread: None,
        tail_bytes: 0,
        reaches_anchor: false,
    };
    let mut known = Known::default();
    // What may not be looked at is not taken for absent.
    if !log.try_exists().map_err(|error| OpenError::io(log, error))? {
        let last = Link { sequence: 0, hash: [0; 32] };
        let (sealed, blank) = (Vec::new(), Vec::new());
        return Ok((Scanned { id: None, last, end: None, torn: false, sealed, blank }, reading));
    }
    let ledger = options.data_dir.join("ledger");
    let usable = |snapshot: &snapshot::Snapshot| {
        let covered = snapshot.head.last.sequence;
        // An anchor inside what the snapshot covers can only be checked by reading that.
        !matches!(anchored, Anchored::To(anchor) if anchor.last.sequence < covered)
    };
    if let Some(snapshot) = snapshot::read(&ledger, log).filter(|_| !options.verify).filter(usable)
    {
        reading.facts = snapshot.facts;
        reading.unread = Some(snapshot.head);
        let covered = snapshot.head.last;
        reading.reaches_anchor = matches!(anchored, Anchored::To(anchor) if anchor.last == covered);
        let head = Some(snapshot.head);
        known = Known { id: Some(snapshot.id), sealed: snapshot.sealed, head };
    }
    let scanned = scan::scan(log, known, &mut |batch, at| reading.take(batch, at, anchored))?;
    Ok((scanned, reading))
}

fn expect(options: &OpenOptions, id: Option<LedgerId>) -> Result<(), OpenError> {
    let Some(expected) = options.expected_id.clone() else { return Ok(()) };
    let found = id.map_or_else(|| "no ledger".to_owned(), |id| files::hex(&id));
    if expected == found { Ok(()) } else { Err(OpenError::Unexpected { expected, found }) }
}

/// What the anchor knows that the log does not.
fn rolled_back(anchored: &Anchored, scanned: &Scanned, reached: bool) -> Option<String> {
    let anchor = match anchored {
        Anchored::No => return None,
        Anchored::Spoilt => return Some("the anchor's file cannot be read".into()),
        Anchored::To(anchor) => anchor,
    };
    let wanted = format!("record {} of ledger {}", anchor.last.sequence, files::hex(&anchor.id));
    match scanned.id {
        None => Some(format!("the anchor knows {wanted}, but there is no log")),
        Some(id) if id != anchor.id => {
            Some(format!("the anchor knows {wanted}, but here is ledger {}", files::hex(&id)))
        }
        Some(_) if scanned.last.sequence < anchor.last.sequence => {
            let last = scanned.last.sequence;
            Some(format!("the anchor knows {wanted}, but the log ends with record {last}"))
        }
        Some(_) if !reached => Some(format!("the anchor knows another {wanted} than the log has")),
        Some(_) => None,
    }
}

/// Puts the files in order and opens the log's end for writing.
fn prepare(options: &OpenOptions, log: &Path, scanned: &Scanned) -> Result<Log, OpenError> {
    let io = |error| OpenError::io(log, error);
    files::create_directories(log).map_err(io)?;
    let id = match scanned.id {
        Some(id) => id,
        None => files::random().map_err(io)?,
    };
    let setup = LogSetup {
        log: log.to_owned(),
        id,
        disk: options.disk.clone(),
        segment_size: options.segment_size_bytes,
        on_sync: options.on_sync.clone(),
    };
    for first in &scanned.blank {
        fs::remove_file(segment::path(log, *first)).map_err(io)?;
    }
    for sealed in &scanned.sealed {
        // A crash between a new segment's creation and the cut of the last one leaves zeros.
        let path = segment::path(log, sealed.first);
        if SegmentReader::open(&path).map_err(io)?.end() > sealed.size {
            options.disk.open(&path, false).and_then(|file| file.cut(sealed.size)).map_err(io)?;
        }
    }
    if let Some(end) = scanned.end.filter(|_| scanned.torn) {
        let aside = cut_torn(&setup, end, scanned.last.sequence + 1).map_err(io)?;
        tracing::warn!(
            kept = %aside.display(),
            sequence = scanned.last.sequence,
            "the ledger's last batch was torn and never acknowledged; it was cut off"
        );
    }
    let start = Link { sequence: 0, hash: batch::genesis(&id) };
    let last = if scanned.last.sequence == 0 { start } else { scanned.last };
    Log::open(setup, last, scanned.end).map_err(io)
}

/// Writes an event of the opening itself.
fn write(recovered: &mut Recovered, draft: Draft, clock: &dyn Clock) -> Result<(), OpenError> {
    let log = &mut recovered.log;
    let event = draft.at(log.last().sequence + 1, clock.wall_ms());
    let mut builder = Builder::new();
    builder.record(&record::encode(&event));
    let wrote = log.reserve(builder.size() as u64).and_then(|()| log.append(builder));
    let wrote = wrote.map_err(|error| OpenError::io(Path::new("the log"), error))?;
    let place = wrote.built.places.first().copied().unwrap_or_default();
    recovered.facts.apply(&event, place.behind(wrote.at.offset));
    Ok(())
}
