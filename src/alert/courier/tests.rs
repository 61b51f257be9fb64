//! What a courier makes of answers, in time that runs by itself.

use std::collections::VecDeque;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::alert::sources::Nothing;
use crate::clock::ManualClock;
use crate::event::Draft;
use crate::ledger::{LedgerStore as _, MemoryLedger, Outcome};
use crate::oci::{Digest, ManifestKind};
use crate::pin::{Content, PinKey};

/// A receiver that answers as told, then takes everything.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<VecDeque<u16>>>,
    /// Sequence and status of each try, and when it was.
    tries: Arc<Mutex<Vec<(u64, u16, Instant)>>>,
}

#[async_trait]
impl Notifier for Scripted {
    async fn deliver(&self, notice: &Notice, _: SystemTime) -> Result<u16, DeliveryFault> {
        let status = self.script.lock().unwrap().pop_front().unwrap_or(204);
        let sequence = notice.sequence.unwrap();
        self.tries.lock().unwrap().push((sequence, status, Instant::now()));
        match status {
            204 => Ok(204),
            status => Err(DeliveryFault::Refuses { status, retry_after: None }),
        }
    }
}

/// A courier at work.
struct Stage {
    _folder: TempDir,
    ledger: Arc<MemoryLedger>,
    receiver: Scripted,
    board: Arc<Board>,
    leave: watch::Sender<bool>,
    working: JoinHandle<()>,
}

impl Stage {
    fn start(script: &[u16]) -> Self {
        Self::wanting(script, vec![EventKind::Revoked], Severity::Low)
    }

    fn wanting(script: &[u16], events: Vec<EventKind>, min_severity: Severity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(MemoryLedger::new(ManualClock::at(1_800_000_000_000)));
        let receiver = Scripted::default();
        receiver.script.lock().unwrap().extend(script);
        let sources = Sources {
            ledger: Arc::clone(&ledger) as _,
            clock: ManualClock::at(1_800_000_000_000),
            metrics: NotifyMetrics::default(),
            explain: Arc::new(Nothing),
            who: Arc::new(Nothing),
            reaction: Arc::new(|_| None),
        };
        let post = Post {
            name: "x".to_owned(),
            webhook: Box::new(receiver.clone()),
            events,
            min_severity,
            limits: Limits::default(),
        };
        let (leave, leaving) = watch::channel(false);
        let board = Arc::new(Board::new(&sources.metrics, "x"));
        let (sources, post, its) = (Arc::new(sources), Arc::new(post), Arc::clone(&board));
        let courier = Courier { sources, post, board: its, leaving };
        let head = ledger.status().sequence;
        let working = tokio::spawn(courier.run(folder.path().join("notify/x"), head));
        Self { _folder: folder, ledger, receiver, board, leave, working }
    }

    async fn event(&self, byte: u8) -> u64 {
        let pinned = Some(Digest::sha256([byte; 32]));
        let draft = Draft { pinned, ..Draft::new(EventKind::Revoked, None) };
        self.ledger.append_global(draft).await.unwrap().sequence
    }

    async fn conflict(&self) -> u64 {
        let key = PinKey {
            registry: "a.example".parse().unwrap(),
            repository: "app".parse().unwrap(),
            tag: "1.0.0".parse().unwrap(),
        };
        let media_type = ManifestKind::ALL[0].into();
        let observed = Content { digest: Digest::sha256([3; 32]), media_type, size_bytes: 2 };
        let draft = Draft {
            pinned: Some(Digest::sha256([2; 32])),
            observed: Some(observed),
            ..Draft::new(EventKind::Conflict, Some(key))
        };
        match self.ledger.append(draft, 0, None).await.unwrap() {
            Outcome::Written(state) => state.sequence,
            Outcome::Raced(state) => panic!("{state:?}"),
        }
    }

    fn tries(&self) -> Vec<(u64, u16, Instant)> {
        self.receiver.tries.lock().unwrap().clone()
    }

    /// Waits, in time that costs nothing, until there were so many tries.
    async fn wait_for_tries(&self, count: usize) {
        while self.tries().len() < count {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn leave(self) -> Vec<(u64, u16, Instant)> {
        self.leave.send_replace(true);
        self.working.await.unwrap();
        self.receiver.tries.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_receiver_is_waited_out_for_ever_with_pauses_up_to_ten_minutes() {
    for status in [301, 401, 403, 404, 408, 425, 429, 500, 503] {
        let stage = Stage::start(&[status; 30]);
        let sequence = stage.event(1).await;
        stage.wait_for_tries(31).await;
        let made = stage.tries();
        assert!(made.iter().all(|(of, ..)| *of == sequence), "{status}");
        let longest = made.windows(2).map(|two| two[1].2 - two[0].2).max().unwrap();
        let ten = Duration::from_mins(10);
        assert!(longest > ten / 4 && longest <= ten, "{longest:?}");
        let shown = stage.board.state();
        assert_eq!((shown.state, shown.failures), (State::Well, 0));
        stage.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_again_and_again_is_given_up_and_the_next_is_told() {
    for status in [400, 413, 415, 422, 431] {
        let stage = Stage::start(&[status; 10]);
        let (first, second) = (stage.event(1).await, stage.event(2).await);
        stage.wait_for_tries(11).await;
        assert_eq!((stage.board.dead.get(), stage.board.failed.get()), (1, 10));
        let made = stage.leave().await;
        assert!(made[..10].iter().all(|(of, ..)| *of == first));
        assert_eq!((made.len(), made[10].0, made[10].1), (11, second, 204));
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_says_gone_is_never_asked_again_also_not_at_the_end() {
    let stage = Stage::start(&[410]);
    stage.event(1).await;
    stage.event(2).await;
    stage.wait_for_tries(1).await;
    tokio::time::sleep(Duration::from_hours(24)).await;
    let shown = stage.board.state();
    assert_eq!((shown.state, shown.pending), (State::Gone, 2));
    assert_eq!(stage.leave().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_tries_once_more_at_once() {
    let stage = Stage::start(&[503; 20]);
    stage.event(1).await;
    stage.wait_for_tries(15).await;
    let before = Instant::now();
    let made = stage.leave().await;
    assert_eq!(made.len(), 16);
    assert!(made[15].2 - before < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_explain_is_told_however_severe_a_message_has_to_be() {
    let wanted = vec![EventKind::Conflict, EventKind::Revoked];
    let stage = Stage::wanting(&[], wanted, Severity::Critical);
    stage.event(1).await;
    let sequence = stage.conflict().await;
    stage.wait_for_tries(1).await;
    let tried: Vec<_> = stage.leave().await.iter().map(|(of, ..)| *of).collect();
    assert_eq!(tried, [sequence]);
}
