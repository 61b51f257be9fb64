//! What a person asks of the cache: one function, for the server and for a command line without
//! one.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Doers, Line, Writer};
use crate::blob::fs::{Filter, Freed, FsStore, Listed, Prune, Stats};
use crate::decide::Fault;
use crate::metrics::Metrics;

/// The most contents that a list names.
pub const LIST_LIMIT: usize = 100_000;

/// What may be asked of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheRequest {
    /// Stored content.
    List(Filter),
    /// Removes what no pin holds.
    #[serde(rename_all = "kebab-case")]
    Prune {
        /// Which of it.
        what: Vec<Prune>,
        /// Only tells what would go.
        is_dry_run: bool,
    },
    /// How it is.
    Stats,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheReply {
    /// How many contents fit the filter of a list; comes after it.
    Fitting(u64),
    /// One of them.
    Listed(Listed),
    /// What went, or would.
    Pruned(Freed),
    /// How it is.
    Stats(CacheStats),
}

/// How the cache is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheStats {
    /// How the store is.
    #[serde(flatten)]
    pub store: Stats,
    /// What share of blobs was answered from stored content since the server's start; `None`
    /// where no server runs, or nobody asked it for one.
    pub blob_hit_ratio: Option<f64>,
    /// The same of manifests.
    pub manifest_hit_ratio: Option<f64>,
}

/// Does what is asked. It waits for the disk, and for whoever takes the answer: one who leaves
/// stops a list.
pub fn execute(
    store: &FsStore,
    metrics: Option<&Metrics>,
    request: CacheRequest,
    to: &mpsc::Sender<CacheReply>,
) -> io::Result<()> {
    let send = |reply| to.blocking_send(reply).is_ok();
    match request {
        CacheRequest::List(filter) => {
            let limit = filter.limit.min(LIST_LIMIT);
            let (listed, fitting) = store.list(Filter { limit, ..filter });
            let is_sent = listed.into_iter().all(|one| send(CacheReply::Listed(one)));
            let _ = is_sent && send(CacheReply::Fitting(fitting));
        }
        CacheRequest::Prune { what, is_dry_run } => {
            let freed = what.iter().map(|what| store.prune(what, is_dry_run));
            let freed = freed.fold(Freed::default(), |sum, one| Freed {
                blobs: sum.blobs + one.blobs,
                bytes: sum.bytes + one.bytes,
            });
            send(CacheReply::Pruned(freed));
        }
        CacheRequest::Stats => {
            let ratio = |kind| metrics.and_then(|metrics| hit_ratio(metrics, kind));
            let stats = CacheStats {
                store: store.stats()?,
                blob_hit_ratio: ratio("blob"),
                manifest_hit_ratio: ratio("manifest"),
            };
            send(CacheReply::Stats(stats));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn hit_ratio(metrics: &Metrics, kind: &str) -> Option<f64> {
    let hits = metrics.cache_hits.with_label_values(&[kind]).get();
    let all = hits + metrics.cache_misses.with_label_values(&[kind]).get();
    (all > 0).then(|| hits as f64 / all as f64)
}

/// Answers a request at the socket.
pub(super) async fn answer(
    doers: &Doers,
    request: CacheRequest,
    who: &str,
    writer: &mut Writer,
) -> Line {
    if let CacheRequest::Prune { what, is_dry_run: false } = &request {
        tracing::info!(who, ?what, "a person prunes the cache");
    }
    let (to, mut replies) = mpsc::channel(64);
    let (store, pull) = (Arc::clone(&doers.store), Arc::clone(&doers.pull));
    let doing = tokio::task::spawn_blocking(move || {
        execute(&store, Some(&pull.edges().metrics), request, &to)
    });
    // A client that leaves is noticed by the next piece.
    while let Some(reply) = replies.recv().await {
        let sent = writer.send(&Line::Cache(reply)).await;
        if sent.is_err() || replies.is_empty() && writer.flush().await.is_err() {
            break;
        }
    }
    drop(replies);
    match doing.await {
        Ok(Ok(())) => Line::Done,
        Ok(Err(error)) => Line::Failed(Fault::Failed(format!("the cache failed: {error}"))),
        Err(_) => Line::Failed(Fault::Failed("the server is stopping".into())),
    }
}
