//! Housekeeping beside the writer: watchdog, anchor, snapshots, another look for space.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;

use super::anchor::{self, Anchor};
use super::indexer::Indexer;
use super::shared::Shared;
use super::writer::Request;
use super::{LedgerError, files, snapshot};

/// The way to the keeper's thread.
#[derive(Clone)]
pub(crate) struct Keeper(Sender<Job>);

enum Job {
    Keep(Vec<u8>),
    Stop,
}

const TICK: Duration = Duration::from_millis(250);
const ANCHOR_INTERVAL: Duration = Duration::from_mins(1);
const NUDGE_INTERVAL: Duration = Duration::from_secs(1);

impl Keeper {
    /// A keeper that has no thread yet.
    pub(crate) fn new() -> (Self, KeeperJobs) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), KeeperJobs(receiver))
    }

    /// Has a snapshot written.
    pub(crate) fn keep(&self, snapshot: Vec<u8>) {
        let _ = self.0.send(Job::Keep(snapshot));
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let _ = self.0.send(Job::Stop);
    }
}

/// The keeper's thread owns this.
pub(crate) struct KeeperJobs(Receiver<Job>);

impl KeeperJobs {
    /// Starts the thread.
    pub(crate) fn start(
        self,
        shared: Arc<Shared>,
        indexer: Arc<Indexer>,
        writer: WeakSender<Request>,
    ) -> std::io::Result<JoinHandle<()>> {
        let named = thread::Builder::new().name("ledger-keeper".into());
        named.spawn(move || self.run(&shared, &indexer, &writer))
    }

    fn run(&self, shared: &Shared, indexer: &Arc<Indexer>, writer: &WeakSender<Request>) {
        let mut anchored = Instant::now();
        let mut nudged = Instant::now();
        loop {
            match self.0.recv_timeout(TICK) {
                Ok(Job::Keep(bytes)) => keep(shared, &bytes),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            indexer.watch();
            if anchored.elapsed() >= ANCHOR_INTERVAL {
                anchored = Instant::now();
                write_anchor(shared);
            }
            if nudged.elapsed() >= NUDGE_INTERVAL {
                nudged = Instant::now();
                let is_full = matches!(shared.failure(), Some(LedgerError::Full(_)));
                if let Some(writer) = writer.upgrade().filter(|_| is_full) {
                    let _ = writer.try_send(Request::Nudge);
                }
            }
        }
    }
}

/// Writes the anchor, then the snapshot: so the anchor is never inside what the snapshot covers.
fn keep(shared: &Shared, bytes: &[u8]) {
    write_anchor(shared);
    let path = snapshot::path(&shared.data_dir.join("ledger"));
    if let Err(error) = files::replace(&path, bytes) {
        tracing::warn!("the ledger's snapshot cannot be written, starts take longer: {error}");
    }
}

/// Writes down how far the ledger is, unless it has failed: then only what the last anchor says
/// is beyond doubt.
pub(crate) fn write_anchor(shared: &Shared) {
    if matches!(shared.failure(), Some(LedgerError::Failed(_))) {
        return;
    }
    let anchor = Anchor { id: shared.id, last: shared.head().last };
    if let Err(error) = anchor::write(&shared.data_dir, &anchor) {
        tracing::warn!("the ledger's anchor cannot be written: {error}");
    }
}
