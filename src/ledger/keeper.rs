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
use super::{LedgerError, snapshot};

/// The way to the keeper's thread.
#[derive(Clone)]
pub(crate) struct Keeper(Sender<Stop>);

struct Stop;

const TICK: Duration = Duration::from_millis(250);
const ANCHOR_INTERVAL: Duration = Duration::from_mins(1);
const NUDGE_INTERVAL: Duration = Duration::from_secs(1);

impl Keeper {
    /// A keeper that has no thread yet.
    pub(crate) fn new(snapshot_after_bytes: u64) -> (Self, KeeperJobs) {
        let (sender, stop) = mpsc::channel();
        (Self(sender), KeeperJobs { stop, snapshot_after_bytes })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let _ = self.0.send(Stop);
    }
}

/// The keeper's thread owns this.
pub(crate) struct KeeperJobs {
    stop: Receiver<Stop>,
    snapshot_after_bytes: u64,
}

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
            match self.stop.recv_timeout(TICK) {
                Ok(Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            indexer.watch();
            if shared.tail_bytes() >= self.snapshot_after_bytes.max(snapshot_bytes(shared)) {
                take_snapshot(shared);
            }
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

/// How large the last snapshot is: with a large one, the log may grow by more, so that snapshots
/// never take more writing than the log itself.
fn snapshot_bytes(shared: &Shared) -> u64 {
    let path = snapshot::path(&shared.data_dir.join("ledger"));
    path.metadata().map_or(0, |meta| meta.len())
}

/// Writes a snapshot of all that is durable now, and the anchor first: so the anchor is never
/// inside what the snapshot covers. Nobody waits for it but for a moment at its begin and its end.
pub(crate) fn take_snapshot(shared: &Shared) {
    if matches!(shared.failure(), Some(LedgerError::Failed(_))) {
        return;
    }
    let Some(cut) = shared.cut() else { return };
    write_anchor(shared);
    let (base, written) = snapshot::write(&shared.data_dir.join("ledger"), &cut);
    shared.settle(base);
    if let Err(error) = written {
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
