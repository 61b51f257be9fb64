//! The journal of pulls: which client got which digest, when, by what name.
//!
//! It is a witness, never a judge: no answer depends on it, and none waits for it. What is noted
//! goes into a table in memory, where repeats within a minute are one entry with a count; a thread
//! of its own writes it, each second, to files of JSON lines below `<data-dir>/journal/`. A full
//! disk or a full table loses entries, counted and told in the log once. Manifests only: whoever
//! pulls an image asks for its manifest first. `docs/journal.md` says what it cannot tell.

mod files;
mod folder;
mod line;
mod merge;
mod read;
mod steady;
mod subject;
mod writer;

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

pub use folder::folder_of;
pub(crate) use line::as_text;
pub use line::{Method, Pulled};
pub use read::{Filter, Walked, newest, walk};
pub use subject::{Outcome, Subject};

use crate::clock::Clock;
use crate::config::{Config, LedgerKind};
use crate::metrics::JournalMetrics;
use crate::units::DiskSize;
use merge::{Key, Merging, Sweep};
use writer::Writer;

/// How often what was noted is written.
const EVERY: Duration = Duration::from_secs(1);

/// The least that files may take, whatever is configured, in bytes.
const LEAST_SIZE: u64 = 1 << 20;

/// Where the journal is, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of its files; it is made when it is needed.
    pub folder: PathBuf,
    /// How long entries are kept.
    pub keep: Duration,
    /// The most that all files take, in bytes.
    pub max_bytes: u64,
    /// When a new file is begun, in bytes.
    pub file_bytes: u64,
    /// Nothing is written while the disk has less free space than this.
    pub min_free: DiskSize,
}

impl Options {
    /// As configured; `None`: no journal is kept.
    pub fn of(config: &Config) -> Option<Self> {
        const FILES: u64 = 16;
        const LARGEST: u64 = 64 << 20;
        let max_bytes = config.journal.max_size_bytes.max(LEAST_SIZE);
        (config.journal.keep > Duration::ZERO).then(|| Self {
            folder: folder_of(&config.data_dir),
            keep: config.journal.keep,
            max_bytes,
            file_bytes: (max_bytes / FILES).min(LARGEST),
            // With a ledger in memory it is all the record that there is, however little the disk
            // of a job has.
            min_free: match config.ledger {
                LedgerKind::File => config.cache.min_free,
                LedgerKind::Memory => DiskSize::Bytes(0),
            },
        })
    }
}

/// The journal of a running server.
pub struct Journal {
    open: Option<Arc<Open>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Open {
    clock: Arc<dyn Clock>,
    metrics: JournalMetrics,
    noted: Merging,
    writer: Mutex<Writer>,
}

impl Journal {
    /// A journal that writes nothing.
    pub const fn off() -> Self {
        Self { open: None, thread: Mutex::new(None) }
    }

    /// The journal in a folder, with its thread. Whatever is wrong with the folder is told in the
    /// log and tried again.
    pub fn start(options: Options, clock: Arc<dyn Clock>, metrics: JournalMetrics) -> Self {
        let open = Arc::new(Open::new(options, clock, metrics));
        let weak = Arc::downgrade(&open);
        let thread = std::thread::Builder::new().name("journal".into());
        match thread.spawn(move || write_on(&weak)) {
            Ok(thread) => {
                open.noted.wakes(thread.thread().clone());
                Self { open: Some(open), thread: Mutex::new(Some(thread)) }
            }
            Err(error) => {
                tracing::error!(%error, "no thread for the journal: pulls are not written down");
                Self::off()
            }
        }
    }

    /// Whether anything is written.
    pub const fn is_on(&self) -> bool {
        self.open.is_some()
    }

    /// Notes that a client asked for something and what came of it. It is one look
    /// into a table in memory, and waits for no disk.
    pub fn note(&self, subject: &Arc<Subject>, client: IpAddr, is_head: bool) {
        let Some(open) = &self.open else { return };
        let key = Key::new(Arc::clone(subject), client.to_canonical(), is_head);
        if !open.noted.note(key, &*open.clock) {
            open.metrics.dropped.inc();
        }
    }

    /// Writes what was noted. It waits for the disk.
    pub fn flush(&self) {
        if let Some(open) = &self.open {
            open.write(Sweep::Due);
        }
    }

    /// Writes all that was noted, counts of repeats too. It waits for the disk.
    pub fn flush_all(&self) {
        if let Some(open) = &self.open {
            open.write(Sweep::All);
        }
    }

    /// Gives each entry that a filter lets through and that was written to `see`, the oldest first,
    /// until it breaks. It waits for the disk: not for the threads that answer clients.
    pub fn walk(
        &self,
        filter: &Filter,
        see: impl FnMut(Pulled) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<Walked> {
        let Some(open) = &self.open else { return Ok(Walked::default()) };
        let folder = open.lock().folder().to_owned();
        walk(&folder, filter, see)
    }

    /// The newest entries that a filter lets through, at most `limit`, the newest first. What was
    /// noted before this is among them, but for repeats within the last minute. It waits for the
    /// disk: not for the threads that answer clients.
    pub fn who(&self, filter: &Filter, limit: usize) -> io::Result<Vec<Pulled>> {
        let Some(open) = &self.open else { return Ok(Vec::new()) };
        self.flush();
        let folder = open.lock().folder().to_owned();
        newest(&folder, filter, limit)
    }

    /// Writes all that was noted, counts of repeats too, and ends the thread.
    pub fn close(&self) {
        let Some(open) = &self.open else { return };
        open.noted.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // It panicked, which its own hook told: what it left is written here.
            let _ = thread.join();
        }
        open.write(Sweep::All);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    fn new(options: Options, clock: Arc<dyn Clock>, metrics: JournalMetrics) -> Self {
        let writer = Mutex::new(Writer::new(options, &*clock));
        Self { clock, metrics, noted: Merging::default(), writer }
    }

    fn write(&self, sweep: Sweep) {
        let mut writer = self.lock();
        let lines = self.noted.sweep(&*self.clock, sweep);
        writer.write(lines, &*self.clock, &self.metrics);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's work: it ends with the journal, or when that is closed.
fn write_on(open: &Weak<Open>) {
    while let Some(open) = open.upgrade().filter(|open| !open.noted.is_closed()) {
        open.write(Sweep::Due);
        drop(open);
        std::thread::park_timeout(EVERY);
    }
}

#[cfg(test)]
mod tests;
