//! The thread that keeps the index: it follows the log by itself, and answers questions between.
//!
//! sled may hang, panic or err on damaged files, so nobody waits for it without an end, and
//! whatever is in doubt is moved aside and rebuilt from the log. Nothing here can fail a pin.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::LedgerError;
use super::ask::{Ask, Query, Reply};
use super::batch::Hash;
use super::cursor::{Cursor, is_on_chain};
use super::index::{Index, IndexError, Marker};
use super::shared::{Head, Shared, lock};
use super::watch::{Abandoned, Watch, move_aside};
use crate::pin::PinKey;

enum Message {
    Ask(Ask),
    Rebuild(String),
    Stop(Sender<()>),
    Wake,
}

/// The way to the thread.
pub(crate) struct Indexer {
    shared: Arc<Shared>,
    patience: Duration,
    sender: Sender<Message>,
    receiver: Mutex<Receiver<Message>>,
    awake: AtomicBool,
    stopping: AtomicBool,
    watch: Mutex<Arc<Watch>>,
    doubted: Mutex<Option<Instant>>,
}

/// How a session with one index ends.
enum End {
    /// The watchdog gave this thread up: leave everything alone.
    Abandoned,
    Rebuild(String),
    Stopped(Sender<()>),
}

/// How long a caller waits for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long sled's lock may stay after the process that held it was killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How often a caller's doubt may lead to a rebuild.
const DOUBT_INTERVAL: Duration = Duration::from_mins(10);
/// How long an index must serve for its rebuild to count as a cure.
const CURED: Duration = Duration::from_mins(1);
/// How long nothing must come before what is in memory is written out.
const IDLE: Duration = Duration::from_millis(500);
/// How many messages are taken between two looks at the log.
const MESSAGES: usize = 1024;
/// Below this much free space nothing more is applied.
const SPARE_BYTES: u64 = 16 << 20;
/// How much of the log is applied at once.
const SLICE_BYTES: usize = 512 << 10;

impl Indexer {
    /// Starts the thread.
    pub(crate) fn start(shared: Arc<Shared>, patience: Duration) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel();
        let indexer = Arc::new(Self {
            shared,
            patience,
            sender,
            receiver: Mutex::new(receiver),
            awake: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            watch: Mutex::new(Watch::new()),
            doubted: Mutex::new(None),
        });
        indexer.spawn(lock(&indexer.watch).clone());
        indexer
    }

    /// Asks, once the index has come to `at_least`. While it is being rebuilt or has no space, only
    /// the `patient` wait for that.
    ///
    /// # Errors
    /// [`LedgerError::Rebuilding`] when there is no answer in time.
    pub(crate) async fn ask(
        &self,
        query: Query,
        at_least: u64,
        patient: bool,
    ) -> Result<Reply, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { query, at_least, patient, reply };
        self.sender.send(Message::Ask(ask)).map_err(|_| LedgerError::Closed)?;
        if patient {
            return answer.await.map_err(|_| LedgerError::Rebuilding);
        }
        match tokio::time::timeout(ANSWER_PATIENCE, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => Err(LedgerError::Rebuilding),
        }
    }

    /// Says that the log has grown.
    pub(crate) fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel) {
            let _ = self.sender.send(Message::Wake);
        }
    }

    /// Rebuilds the index from the log.
    pub(crate) fn rebuild(&self, reason: &str) {
        self.shared.rebuilding.store(true, Ordering::SeqCst);
        let _ = self.sender.send(Message::Rebuild(reason.to_owned()));
    }

    /// Rebuilds the index because it contradicts the log; not again and again for one cause that
    /// a rebuild does not cure.
    pub(crate) fn doubt(&self, reason: &str) {
        let mut doubted = lock(&self.doubted);
        if doubted.is_none_or(|at| at.elapsed() > DOUBT_INTERVAL) {
            *doubted = Some(Instant::now());
            self.rebuild(reason);
        }
    }

    /// Gives the thread up if sled has not answered for too long, and starts another.
    pub(crate) fn watch(self: &Arc<Self>) {
        let mut watch = lock(&self.watch);
        if watch.busy_for().is_none_or(|busy| busy < self.patience) {
            return;
        }
        watch.abandon();
        self.shared.rebuilding.store(true, Ordering::SeqCst);
        tracing::error!(
            seconds = self.patience.as_secs(),
            "the ledger's index does not answer; its thread is given up and another one rebuilds \
             it from the log; restart when convenient, the lost thread may use a processor"
        );
        self.move_aside();
        *watch = Watch::new();
        self.spawn(watch.clone());
    }

    /// Writes the index out and ends the thread, unless it hangs.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let (done, wait) = mpsc::channel();
        if self.sender.send(Message::Stop(done)).is_ok() {
            let _ = wait.recv_timeout(ANSWER_PATIENCE);
        }
    }

    fn spawn(self: &Arc<Self>, watch: Arc<Watch>) {
        let this = Arc::clone(self);
        let named = thread::Builder::new().name("ledger-index".into());
        if let Err(error) = named.spawn(move || this.run(&watch)) {
            tracing::error!("the ledger's index has no thread: {error}");
        }
    }

    fn run(&self, watch: &Watch) {
        let mut rebuilds = 0u32;
        loop {
            let began = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| self.session(watch)));
            if watch.is_abandoned() || end.is_err() && self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let reason = match end {
                Ok(Ok(never)) => match never {},
                Ok(Err(End::Abandoned)) => return,
                Ok(Err(End::Stopped(done))) => {
                    let _ = done.send(());
                    return;
                }
                Ok(Err(End::Rebuild(reason))) => reason,
                Err(_) => "sled panicked".to_owned(),
            };
            tracing::warn!("the ledger's index is rebuilt from the log: {reason}");
            self.shared.rebuilding.store(true, Ordering::SeqCst);
            self.move_aside();
            // What a rebuild does not cure is not cured by haste either.
            rebuilds = if began.elapsed() > CURED { 0 } else { rebuilds };
            let pause = Duration::from_millis(100) * 2u32.pow(rebuilds.min(8));
            thread::sleep(if rebuilds == 0 { Duration::ZERO } else { pause });
            rebuilds += 1;
        }
    }

    /// Serves with one index for as long as that goes well.
    fn session(&self, watch: &Watch) -> Result<Never, End> {
        // Dropped only in good order: sled's own clean-up may hang or panic.
        let index = ManuallyDrop::new(self.open(watch)?);
        let mut cursor = self.resume(watch, &index)?;
        let mut waiting = Vec::new();
        let mut is_dirty = false;
        loop {
            self.awake.store(false, Ordering::Release);
            let head = self.shared.head();
            let before = cursor.last().sequence;
            let has_space = self.has_space();
            let is_behind = has_space
                && before < head.last.sequence
                && self.advance(watch, &index, &mut cursor, &head)?;
            let applied = cursor.last().sequence;
            is_dirty |= applied != before;
            if applied >= head.last.sequence {
                self.shared.rebuilding.store(false, Ordering::SeqCst);
            }
            let is_moving = has_space && !self.shared.rebuilding.load(Ordering::SeqCst);
            waiting = self.answer(watch, &index, waiting, (applied, is_moving))?;
            let messages = self.receive(is_behind);
            if messages.is_empty() && is_dirty && !is_behind && has_space {
                watch.call(|| index.flush())?.map_err(End::doubt)?;
                is_dirty = false;
            }
            for message in messages {
                match message {
                    Message::Ask(ask) => waiting.push(ask),
                    Message::Rebuild(reason) => return Err(End::Rebuild(reason)),
                    Message::Stop(done) => {
                        let index = ManuallyDrop::into_inner(index);
                        // A failed flush costs the next start a longer replay, no more.
                        let _ = watch.call(|| index.flush().map(|()| drop(index)))?;
                        return Err(End::Stopped(done));
                    }
                    Message::Wake => {}
                }
            }
        }
    }

    /// What has come; if there is nothing else to do, waits for it a while.
    fn receive(&self, is_behind: bool) -> Vec<Message> {
        let receiver = lock(&self.receiver);
        let mut messages = Vec::new();
        if !is_behind {
            messages.extend(receiver.recv_timeout(IDLE).ok());
        }
        while messages.len() < MESSAGES {
            // A rebuild must find what comes behind it still in the queue.
            if matches!(messages.last(), Some(Message::Rebuild(_) | Message::Stop(_))) {
                break;
            }
            let Ok(message) = receiver.try_recv() else { break };
            messages.push(message);
        }
        messages
    }

    fn open(&self, watch: &Watch) -> Result<Index, End> {
        let path = path(&self.shared.data_dir);
        let started = Instant::now();
        loop {
            match watch.call(|| Index::open(&path))? {
                Err(IndexError::Locked) if started.elapsed() < LOCK_PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                outcome => return outcome.map_err(End::doubt),
            }
        }
    }

    /// Where the index goes on: it must stand on the chain of this very log.
    fn resume(&self, watch: &Watch, index: &Index) -> Result<Cursor, End> {
        let shared = &self.shared;
        let Some(marker) = watch.call(|| index.marker())?.map_err(End::doubt)? else {
            return Ok(Cursor::start(&shared.log, shared.id));
        };
        if marker.last.sequence > shared.head().last.sequence {
            return Err(End::Rebuild("it is ahead of the log".into()));
        }
        if !is_on_chain(&shared.log, &marker.last, marker.next) {
            return Err(End::Rebuild("it belongs to another log".into()));
        }
        Ok(Cursor::behind(&shared.log, shared.id, marker.last, marker.next))
    }

    /// sled does not survive a full disk, but goes on answering if it need not write.
    fn has_space(&self) -> bool {
        rustix::fs::statvfs(&self.shared.log)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= SPARE_BYTES)
    }

    /// Applies some of the log; returns whether there is more.
    fn advance(
        &self,
        watch: &Watch,
        index: &Index,
        cursor: &mut Cursor,
        head: &Head,
    ) -> Result<bool, End> {
        let mut batches = Vec::new();
        let mut size = 0;
        while size < SLICE_BYTES {
            match cursor.read(head) {
                Ok(Some((at, batch))) => {
                    size += batch.header.size;
                    batches.push((at, batch));
                }
                Ok(None) => break,
                Err(error) => {
                    // The log itself: nothing can be built on it any more.
                    let what = format!("its log cannot be read back: {error}");
                    self.shared.fail(LedgerError::Failed(what));
                    return Ok(false);
                }
            }
        }
        let marker = Marker { last: cursor.last(), next: cursor.next_position() };
        let finds = |sha256: &Hash, at| self.shared.finds_manifest(sha256, at);
        watch.call(|| index.apply(&batches, &marker, finds))?.map_err(End::doubt)?;
        let events = batches.iter().flat_map(|(_, batch)| &batch.events);
        let keys: Vec<PinKey> = events.filter_map(|event| event.key.clone()).collect();
        let attachments = batches.iter().flat_map(|(_, batch)| &batch.attachments);
        let manifests: Vec<Hash> = attachments.map(|attachment| attachment.sha256).collect();
        self.shared.indexed(&keys, &manifests, marker.last.sequence);
        Ok(marker.last.sequence < head.last.sequence)
    }

    /// Answers what can be answered now; gives back who waits on.
    fn answer(
        &self,
        watch: &Watch,
        index: &Index,
        waiting: Vec<Ask>,
        (applied, is_moving): (u64, bool),
    ) -> Result<Vec<Ask>, End> {
        let mut later = Vec::new();
        for ask in waiting {
            if ask.at_least <= applied {
                let answer =
                    watch.call(|| ask.query.answer(index, &self.shared))?.map_err(End::doubt)?;
                // Whoever went away in the meantime misses nothing.
                let _ = ask.reply.send(Reply { answer, applied });
            } else if ask.patient || is_moving {
                later.push(ask);
            }
            // The impatient others are told by the closed channel.
        }
        Ok(later)
    }

    fn move_aside(&self) {
        let ledger = self.shared.data_dir.join("ledger");
        if let Err(error) = move_aside(&ledger) {
            tracing::warn!("the damaged index cannot be moved aside: {error}");
        }
    }
}

enum Never {}

impl From<Abandoned> for End {
    fn from(Abandoned: Abandoned) -> Self {
        Self::Abandoned
    }
}

impl End {
    #[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
    fn doubt(error: IndexError) -> Self {
        Self::Rebuild(error.to_string())
    }
}

/// Where the index is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger").join("index")
}
