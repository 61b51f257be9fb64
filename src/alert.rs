//! Alerts: what of the ledger a person must know is told to webhooks.
//!
//! The ledger is the outbox: its events are durable, in order, and numbered. For each webhook a
//! small file says up to which one all is told ([`place`]), so nothing is lost across restarts,
//! and the one double is a message that was taken while its answer, or that file's write, was
//! lost: it comes again under the same id. Each webhook has a task of its own; none of them holds
//! up another, a pull, or the ledger's writer, which does not know of them.

mod compose;
mod courier;
mod outbox;
mod pace;
mod place;
mod queue;
mod sources;
mod words;

pub use courier::{State, WebhookState};
pub use sources::{Explain, Explained, Nothing, Pulls, Reaction, Sources, Who};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::courier::{Board, Courier, Post};
use self::outbox::Limits;
use crate::config::WebhookConfig;
use crate::notify::{Webhook, WebhookSetupError};

/// Tells webhooks of events, for as long as [`Alerts::run`] runs.
pub struct Alerts {
    sources: Arc<Sources>,
    folder: PathBuf,
    wanted: watch::Sender<Arc<Wanted>>,
    boards: Mutex<Vec<Arc<Board>>>,
}

/// Who is to be told.
struct Wanted {
    posts: Vec<Arc<Post>>,
    /// The ledger's head when that was decided: whoever is new is told of what comes after it.
    head: u64,
}

impl Alerts {
    /// Alerts for these webhooks, with their places in `<data-dir>/notify/`.
    ///
    /// What happens from now on is told, however late it runs.
    pub fn new(
        sources: Sources,
        data_dir: &Path,
        webhooks: &[WebhookConfig],
    ) -> Result<Self, WebhookSetupError> {
        let sources = Arc::new(sources);
        let wanted = wanted(&sources, webhooks)?;
        let (folder, boards) = (data_dir.join("notify"), Mutex::default());
        Ok(Self { sources, folder, wanted: watch::Sender::new(Arc::new(wanted)), boards })
    }

    /// Tells these webhooks instead, with everything of their configuration read anew; one that
    /// was given up is tried again.
    ///
    /// An error changes nothing.
    pub fn reload(&self, webhooks: &[WebhookConfig]) -> Result<(), WebhookSetupError> {
        self.wanted.send_replace(Arc::new(wanted(&self.sources, webhooks)?));
        Ok(())
    }

    /// How it is with each webhook.
    pub fn state(&self) -> Vec<WebhookState> {
        let boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        boards.iter().map(|board| board.state()).collect()
    }

    /// Tells, until `stop` turns true; then what is due is tried once more, and the rest stays for
    /// the next start.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut changes = self.wanted.subscribe();
        loop {
            let wanted = Arc::clone(&changes.borrow_and_update());
            let (leave, leaving) = watch::channel(false);
            let mut couriers = self.start(&wanted, &leaving);
            let is_over = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                // The sender is a field of ours: it is not dropped.
                next = changes.changed() => next.is_err(),
                () = crash(&mut couriers) => false,
            };
            leave.send_replace(true);
            while couriers.join_next().await.is_some() {}
            if is_over {
                return;
            }
        }
    }

    fn start(&self, wanted: &Wanted, leaving: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut couriers = JoinSet::new();
        let mut shown = Vec::new();
        for post in &wanted.posts {
            let board = Arc::new(Board::new(&self.sources.metrics, &post.name));
            shown.push(Arc::clone(&board));
            let one = Courier {
                sources: Arc::clone(&self.sources),
                post: Arc::clone(post),
                board,
                leaving: leaving.clone(),
            };
            couriers.spawn(one.run(self.folder.join(&post.name), wanted.head));
        }
        let mut known = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        for old in std::mem::replace(&mut *known, shown) {
            if !known.iter().any(|board| board.state().name == old.state().name) {
                old.retire(&self.sources.metrics);
            }
        }
        drop(known);
        couriers
    }
}

/// Returns some time after one of them panicked: all begin anew then, from where they were.
async fn crash(couriers: &mut JoinSet<()>) {
    loop {
        match couriers.join_next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!(%error, "a webhook's task panicked; it is begun anew");
                return tokio::time::sleep(PAUSE_AFTER_CRASH).await;
            }
            None => return std::future::pending().await,
        }
    }
}

fn wanted(sources: &Sources, webhooks: &[WebhookConfig]) -> Result<Wanted, WebhookSetupError> {
    let post = |config: &WebhookConfig| {
        Ok(Arc::new(Post {
            name: config.name.clone(),
            webhook: Box::new(Webhook::new(config)?),
            events: config.events.clone(),
            min_severity: config.min_severity,
            limits: Limits::default(),
        }))
    };
    let posts = webhooks.iter().map(post).collect::<Result<_, _>>()?;
    Ok(Wanted { posts, head: sources.ledger.status().sequence })
}

/// How long it is waited for before what panicked is begun anew.
const PAUSE_AFTER_CRASH: Duration = Duration::from_secs(10);

/// How long it is waited for between two looks at the ledger's head.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_anew_after_a_while_and_one_that_ends_is_not() {
        let mut couriers = JoinSet::new();
        couriers.spawn(async {});
        assert!(timeout(Duration::from_hours(1), crash(&mut couriers)).await.is_err());
        let begun = Instant::now();
        couriers.spawn(async { panic!("a message that nobody can read") });
        assert!(timeout(Duration::from_hours(1), crash(&mut couriers)).await.is_ok());
        assert_eq!(begun.elapsed(), PAUSE_AFTER_CRASH);
    }
}
