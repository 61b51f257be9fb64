//! The Unix socket by which a running server is told what a person decides.
//!
//! One connection carries one request, a line of JSON ([`asked::Asked`]), and its answer, a line of
//! JSON per piece ([`Line`]); the last one is `done`, `explained`, `failed`, `refused`, `audited` or
//! `warmed`. Who asks is what the kernel says of the peer; nobody but the server's own user and root
//! is heard.

pub mod asked;
mod audit;
pub mod cache;
pub mod canary;
mod diff;
mod import;
mod place;
mod report;
mod warm;

pub use audit::AuditRequest;
pub use diff::{DiffRequest, Explained, NOTHING_TO_COMPARE};
pub use import::ImportRequest;
pub use place::{Socket, bind, connect, path};
pub use report::ReportRequest;
pub use warm::{Refused, WarmRequest};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::asked::{Asked, NotifyRequest};
use self::cache::CacheReply;
use super::user;
use crate::alert::{Alerts, WebhookState};
use crate::audit::now::{Finding, Progress, Tally};
use crate::blob::fs::FsStore;
use crate::decide::{Fault, Ledger, Reply, Request, execute};
use crate::pull::{Pull, WarmProgress, Warmed};
use crate::report::{Head, Record, Row};

/// The largest request, in bytes.
const REQUEST_LIMIT: u64 = 16 << 10;

/// Connections served at once; others wait.
const CONNECTIONS: usize = 16;

/// How long a request may take to come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may leave a piece of its answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long accepting pauses after an error.
const PAUSE: Duration = Duration::from_millis(50);

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A tag that an audit found not to be as it should.
    AuditFinding(Finding),
    /// An audit came to its end; nothing follows.
    Audited(Tally),
    /// How far an audit is.
    Auditing(Progress),
    /// A piece of an answer about the cache.
    Cache(CacheReply),
    /// The request was done; nothing follows.
    Done,
    /// What changed at a tag; nothing follows.
    Explained(Box<Explained>),
    /// The request was not done; nothing follows.
    Failed(Fault),
    /// The canary is in place until the client closes its side.
    Placed,
    /// How it is with the webhooks.
    Notify(Vec<WebhookState>),
    /// The lines of a list may come.
    Ready,
    /// Nothing was warmed, or not all; nothing follows.
    Refused(Refused),
    /// A piece of the answer.
    Reply(Reply),
    /// What holds for all of a report; its rows follow.
    ReportHead(Box<Head>),
    /// A row of a report.
    ReportRow(Box<Row>),
    /// A reference was warmed; nothing follows.
    Warmed(Warmed),
    /// How far a warming is.
    Warming(WarmProgress),
}

/// Who does what is asked.
#[derive(Clone)]
pub struct Doers {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// What webhooks are told.
    pub alerts: Arc<Alerts>,
    /// Where a canary is placed.
    pub pull: Arc<Pull>,
    /// What reports are made from.
    pub record: Arc<Record>,
    /// What is stored.
    pub store: Arc<FsStore>,
}

/// Answers requests until `stop` turns true, then lets those that run end.
pub async fn run(socket: Socket, doers: Doers, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = running.join_next() => continue,
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
                socket.listener.accept().await.map(|(stream, _)| (stream, permit))
            } => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (doers, stop) = (doers.clone(), stop.clone());
                running.spawn(async move {
                    converse(stream, doers, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin socket could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(socket);
    while running.join_next().await.is_some() {}
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone: so is the process that it stood for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection, from request to answer.
async fn converse(stream: UnixStream, doers: Doers, mut stop: watch::Receiver<bool>) {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let (mut reader, writer) = stream.into_split();
    let mut writer = Writer(BufWriter::new(writer));
    let last = match admit(peer) {
        Err(fault) => Line::Failed(fault),
        Ok(who) => {
            let read = tokio::select! {
                read = timeout(REQUEST_TIMEOUT, read(&mut reader)) => read,
                () = stopped(&mut stop) => return,
            };
            match read {
                Err(_) => Line::Failed(Fault::Failed("the request took too long".into())),
                Ok(Err(fault)) => Line::Failed(fault),
                Ok(Ok(Asked::Audit { audit })) => {
                    tracing::info!(who, glob = audit.glob.as_deref(), "a person asks for an audit");
                    audit::audit(&doers, audit, &mut reader, &mut writer, &mut stop).await
                }
                Ok(Ok(Asked::Ledger(request))) => {
                    answer(doers.ledger, request, &who, &mut writer).await
                }
                Ok(Ok(Asked::Cache { cache })) => {
                    cache::answer(&doers, cache, &who, &mut writer).await
                }
                Ok(Ok(Asked::Canary { canary })) => {
                    let gone = canary::gone(&mut reader, &mut stop);
                    canary::keep(&doers, canary, &who, &mut writer, gone).await
                }
                Ok(Ok(Asked::Diff { diff })) => diff::answer(&doers, diff, &mut stop).await,
                Ok(Ok(Asked::Import { import })) => {
                    let wires = (&mut reader, &mut writer);
                    import::take(&doers, import, &who, wires, &mut stop).await
                }
                Ok(Ok(Asked::Notify { notify: NotifyRequest::Status })) => {
                    // A client that left does not want it any more.
                    let _ = writer.send(&Line::Notify(doers.alerts.state())).await;
                    Line::Done
                }
                Ok(Ok(Asked::Report { report })) => {
                    report::answer(&doers, report, &mut writer, &mut stop).await
                }
                Ok(Ok(Asked::Warm { warm })) => {
                    tracing::info!(who, reference = ?warm.reference, "a person warms the cache");
                    warm::warm(&doers, warm, &mut reader, &mut writer, &mut stop).await
                }
            }
        }
    };
    // The client may have left; what it asked for is done or told in the log.
    let _ = writer.send(&last).await;
    let _ = writer.flush().await;
}

/// The name of a peer who may ask.
fn admit(peer: io::Result<u32>) -> Result<String, Fault> {
    let own = rustix::process::geteuid().as_raw();
    match peer {
        Ok(uid) if is_heard(uid, own) => Ok(user::name_of(uid)),
        Ok(uid) => {
            let who = user::name_of(uid);
            tracing::warn!(who, "a user who may not was refused at the admin socket");
            let own = if own == 0 { String::new() } else { user::name_of(own) + " and " };
            Err(Fault::Failed(format!("only {own}root may ask this server, not {who}")))
        }
        Err(error) => Err(Fault::Failed(format!("the system does not say who asks: {error}"))),
    }
}

/// Whether a peer may ask: the server's own user, and root.
const fn is_heard(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

async fn read(reader: &mut OwnedReadHalf) -> Result<Asked, Fault> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_LIMIT));
    let read = reader.read_until(b'\n', &mut line).await;
    read.map_err(|error| Fault::Failed(format!("the request could not be read: {error}")))?;
    if line.last() != Some(&b'\n') {
        let what = format!("a request is one line of at most {REQUEST_LIMIT} bytes");
        return Err(Fault::Failed(what));
    }
    serde_json::from_slice(&line)
        .map_err(|error| Fault::Failed(format!("the request is not understood: {error}")))
}

/// Does what is asked while its answer is written. A client that leaves stops a list, never a
/// decision.
async fn answer(ledger: Arc<dyn Ledger>, request: Request, who: &str, writer: &mut Writer) -> Line {
    let told = told(&request);
    let (to, replies) = mpsc::channel(64);
    let (done, _) = tokio::join!(execute(ledger, request, who, to), writer.send_all(replies));
    match (&done, told) {
        (Ok(()), Some(request)) => tracing::info!(who, request, "a person's request was done"),
        (Err(fault), Some(request)) => {
            tracing::warn!(who, request, %fault, "a person's request was not done");
        }
        (_, None) => {}
    }
    done.map_or_else(Line::Failed, |()| Line::Done)
}

/// How the log tells a request; `None` for one that only reads.
fn told(request: &Request) -> Option<String> {
    match request {
        Request::Approve { key, digest, revoke: None, .. } => {
            Some(format!("approve {key} {digest}"))
        }
        Request::Approve { key, digest, revoke: Some(other), .. } => {
            Some(format!("approve {key} {digest}, revoke {other}"))
        }
        Request::Backup { to } => Some(format!("backup to {}", to.display())),
        Request::Forget { key, .. } => Some(format!("forget {key}")),
        Request::Rebuild => Some("rebuild".to_owned()),
        Request::Reject { key, digest, .. } => Some(format!("reject {key} {digest}")),
        Request::Revoke { digest, undo: false, .. } => Some(format!("revoke {digest}")),
        Request::Revoke { digest, undo: true, .. } => Some(format!("take back: revoke {digest}")),
        Request::Export
        | Request::History { .. }
        | Request::List(_)
        | Request::Show { .. }
        | Request::Status
        | Request::Verify { .. } => None,
    }
}

/// The client's side of the answer.
struct Writer(BufWriter<OwnedWriteHalf>);

impl Writer {
    async fn send_all(&mut self, mut replies: mpsc::Receiver<Reply>) -> io::Result<()> {
        while let Some(reply) = replies.recv().await {
            self.send(&Line::Reply(reply)).await?;
            if replies.is_empty() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        timeout(WRITE_TIMEOUT, self.0.write_all(&text)).await?
    }

    async fn flush(&mut self) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, self.0.flush()).await?
    }
}

#[cfg(test)]
mod tests;
