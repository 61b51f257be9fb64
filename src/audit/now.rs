//! Asking for all tags that a person names, now.
//!
//! A person's wish is a client's: it may take what is left of an upstream's limit. After a 429 the
//! upstream is left alone all the same, and its tags fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::lane::{AT_ONCE, name};
use super::plan::PAGE;
use super::schedule::is_watched;
use crate::decide::names;
use crate::ledger::LedgerError;
use crate::oci::{Digest, Registry};
use crate::pin::PinKey;
use crate::policy::pattern::Pattern;
use crate::pull::{Looked, Pull, Reason, Refusal};

/// How many tags of one upstream wait at most; the reading of the ledger waits then.
const LANE: usize = 1000;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Tags that were asked for.
    pub done: u64,
    /// All that there are to ask for.
    pub total: u64,
}

/// A tag that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The tag.
    #[serde(flatten)]
    pub key: PinKey,
    /// What is wrong.
    pub outcome: Outcome,
    /// Its pin, of a conflict.
    pub pinned: Option<Digest>,
    /// What the upstream answers, of a conflict.
    pub observed: Option<Digest>,
    /// Why it failed.
    pub why: String,
}

/// What is wrong with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The upstream answers something else than the pin.
    Conflict,
    /// It could not be compared: the answer is not valid, or it is trouble of ours.
    Failed,
    /// The upstream has no such tag.
    Gone,
    /// The upstream could not be asked.
    Unreachable,
}

/// What all came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Tags that are what they were.
    pub matching: u64,
    /// Tags with an open conflict.
    pub conflicts: u64,
    /// Tags that their upstream does not have.
    pub gone: u64,
    /// Tags that are too young to be served.
    pub pending: u64,
    /// Tags that could not be compared.
    pub failed: u64,
    /// Tags whose upstream could not be asked.
    pub unreachable: u64,
    /// Tags that nobody but their clients may ask for.
    pub skipped: u64,
}

/// Those who ask, and to whom they tell it.
struct Asking {
    pull: Arc<Pull>,
    findings: mpsc::Sender<Finding>,
    progress: watch::Sender<Progress>,
    total: u64,
    done: AtomicU64,
    tally: std::sync::Mutex<Tally>,
}

/// Asks for all watched tags that `pattern` names, tells what is not as it should be and how far it
/// is. Whoever drops it ends it.
///
/// # Errors
/// The ledger's, when it gives no list.
pub async fn audit_now(
    pull: Arc<Pull>,
    pattern: Pattern,
    findings: mpsc::Sender<Finding>,
    progress: watch::Sender<Progress>,
) -> Result<Tally, LedgerError> {
    let total = count(&pull, &pattern).await?;
    progress.send_replace(Progress { done: 0, total });
    let (done, tally) = Default::default();
    let asking = Arc::new(Asking { pull, findings, progress, total, done, tally });
    let mut lanes: HashMap<Registry, mpsc::Sender<PinKey>> = HashMap::new();
    let mut running = JoinSet::new();
    let mut after = None;
    while let Some((page, last)) = page(&asking.pull, &pattern, after.as_ref()).await? {
        after = Some(last);
        for key in page {
            let lane = lanes.entry(key.registry.clone()).or_insert_with(|| {
                let (to, keys) = mpsc::channel(LANE);
                running.spawn(ask_all(Arc::clone(&asking), keys));
                to
            });
            // A lane that panicked asks no more; its tags are missing in the tally.
            let _ = lane.send(key).await;
        }
    }
    drop(lanes);
    while running.join_next().await.is_some() {}
    Ok(*asking.lock())
}

async fn count(pull: &Pull, pattern: &Pattern) -> Result<u64, LedgerError> {
    let (mut count, mut after) = (0, None);
    while let Some((page, last)) = page(pull, pattern, after.as_ref()).await? {
        count += page.len() as u64;
        after = Some(last);
    }
    Ok(count)
}

/// The tags of the next page that are asked for, and the last of all; `None` at the end.
async fn page(
    pull: &Pull,
    pattern: &Pattern,
    after: Option<&PinKey>,
) -> Result<Option<(Vec<PinKey>, PinKey)>, LedgerError> {
    let page = pull.edges().ledger.list(after, PAGE).await?;
    let Some(last) = page.last().map(|(key, _)| key.clone()) else { return Ok(None) };
    let wanted = page.into_iter().filter(|(key, state)| is_watched(state) && names(pattern, key));
    Ok(Some((wanted.map(|(key, _)| key).collect(), last)))
}

async fn ask_all(asking: Arc<Asking>, keys: mpsc::Receiver<PinKey>) {
    let keys = stream::unfold(keys, |mut keys| async { keys.recv().await.map(|key| (key, keys)) });
    keys.for_each_concurrent(AT_ONCE, |key| asking.ask(key)).await;
}

impl Asking {
    async fn ask(&self, key: PinKey) {
        let looked = self.look(&key).await;
        let outcome = name(&looked);
        self.pull.edges().metrics.audit.asks.with_label_values(&[outcome]).inc();
        let found = |outcome, why| Finding { key, outcome, pinned: None, observed: None, why };
        let finding = match looked {
            Looked::Conflict { pinned, observed } => Some(Finding {
                pinned,
                observed: Some(observed),
                ..found(Outcome::Conflict, String::new())
            }),
            Looked::Gone => Some(found(Outcome::Gone, "the upstream has no such tag".to_owned())),
            Looked::Failed(refusal) => Some(found(outcome_of(&refusal), refusal.message)),
            Looked::Match | Looked::Pending | Looked::Skipped(_) => None,
        };
        self.lock().count(outcome, finding.as_ref().map(|finding| finding.outcome));
        if let Some(finding) = finding {
            // Nobody listens any more: it is dropped soon.
            let _ = self.findings.send(finding).await;
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.send_replace(Progress { done, total: self.total.max(done) });
    }

    async fn look(&self, key: &PinKey) -> Looked {
        let closed = self.pull.audited_upstream(key).ok().and_then(|it| it.closed_for());
        match closed {
            Some(wait) => {
                let words = format!("the upstream limits our rate, for {} s more", wait.as_secs());
                Looked::Failed(Refusal::new(Reason::UpstreamRateLimited, words))
            }
            None => self.pull.audit_tag(key).await,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tally {
    fn count(&mut self, name: &str, found: Option<Outcome>) {
        let place = match (found, name) {
            (Some(Outcome::Conflict), _) => &mut self.conflicts,
            (Some(Outcome::Failed), _) => &mut self.failed,
            (Some(Outcome::Gone), _) => &mut self.gone,
            (Some(Outcome::Unreachable), _) => &mut self.unreachable,
            (None, "pending") => &mut self.pending,
            (None, "skipped") => &mut self.skipped,
            (None, _) => &mut self.matching,
        };
        *place += 1;
    }
}

fn outcome_of(refusal: &Refusal) -> Outcome {
    match refusal.reason {
        Reason::AddressNotAllowed
        | Reason::Overloaded
        | Reason::RealmNotAllowed
        | Reason::RedirectNotAllowed
        | Reason::UpstreamAuth
        | Reason::UpstreamRateLimited
        | Reason::UpstreamTimeout
        | Reason::UpstreamUnavailable => Outcome::Unreachable,
        _ => Outcome::Failed,
    }
}
