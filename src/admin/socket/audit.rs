//! An audit for a client of the socket, told while it goes on; a client that leaves ends it.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};

use super::{Doers, Line, Writer, stopped};
use crate::audit::now::{Finding, Progress, audit_now};
use crate::decide::Fault;
use crate::policy::pattern::Pattern;

/// Which tags are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuditRequest {
    /// A glob, as `ledger list` takes it; `None`: all.
    pub glob: Option<String>,
}

/// Asks, and says what it finds and how far it is; the last line is returned.
pub(super) async fn audit(
    doers: &Doers,
    request: AuditRequest,
    reader: &mut OwnedReadHalf,
    writer: &mut Writer,
    stop: &mut watch::Receiver<bool>,
) -> Line {
    let pattern = match request.glob.as_deref().map_or(Ok(Pattern::Any), Pattern::new) {
        Ok(pattern) => pattern,
        Err(error) => return Line::Failed(Fault::SpoilsGlob(error.to_string())),
    };
    if doers.pull.settings().offline {
        let why = "immutag is offline (offline = true in its configuration): no upstream is asked";
        return Line::Failed(Fault::Failed(why.into()));
    }
    let (to, mut findings) = mpsc::channel(64);
    let (tell, mut progress) = watch::channel(Progress::default());
    let mut work = pin!(audit_now(Arc::clone(&doers.pull), pattern, to, tell));
    let mut byte = [0; 1];
    loop {
        let told = tokio::select! {
            biased;
            Some(finding) = findings.recv() => tell_finding(writer, finding).await,
            Ok(()) = progress.changed() => {
                let now = *progress.borrow_and_update();
                tell_progress(writer, now).await
            }
            done = &mut work => {
                while let Ok(finding) = findings.try_recv() {
                    if tell_finding(writer, finding).await.is_err() {
                        break;
                    }
                }
                return done.map_or_else(|error| Line::Failed(error.into()), Line::Audited);
            }
            // Whatever comes, there is nothing more to ask for.
            _ = reader.read(&mut byte) => Err(io::ErrorKind::BrokenPipe.into()),
            () = stopped(stop) => {
                return Line::Failed(Fault::Failed("the server stops".into()));
            }
        };
        if told.is_err() {
            return Line::Failed(Fault::Failed("the client left".into()));
        }
    }
}

async fn tell_finding(writer: &mut Writer, finding: Finding) -> io::Result<()> {
    writer.send(&Line::AuditFinding(finding)).await
}

async fn tell_progress(writer: &mut Writer, progress: Progress) -> io::Result<()> {
    writer.send(&Line::Auditing(progress)).await?;
    writer.flush().await
}
