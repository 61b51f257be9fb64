//! A list that is imported by the socket: more than one line, and yet all of it or nothing.
//!
//! After the request the server says `ready`, then come as many lines as were announced, each a
//! [`Claimed`]. Nothing is compared or written before all of them are here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Doers, Line, Writer, stopped};
use crate::decide::{Claimed, Fault, ImportOrder, Imported, Reply, import};
use crate::ledger::BULK_LIMIT;

/// The longest line of a list, in bytes: a reference has less than 700.
const LINE_LIMIT: u64 = 2 << 10;

/// How long all lines may take to come.
const LIST_TIMEOUT: Duration = Duration::from_mins(1);

/// A list that is about to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportRequest {
    /// How it is to be imported.
    pub order: ImportOrder,
    /// How many lines follow.
    pub count: usize,
}

/// Takes a list in; the last line is returned.
pub(super) async fn take(
    doers: &Doers,
    request: ImportRequest,
    who: &str,
    (reader, writer): (&mut OwnedReadHalf, &mut Writer),
    stop: &mut watch::Receiver<bool>,
) -> Line {
    let ImportRequest { order, count } = request;
    if count > BULK_LIMIT {
        return Line::Failed(Fault::ExceedsImport);
    }
    let ready = async {
        writer.send(&Line::Ready).await?;
        writer.flush().await
    };
    if ready.await.is_err() {
        return Line::Failed(Fault::Failed("the client left".into()));
    }
    let read = tokio::select! {
        read = timeout(LIST_TIMEOUT, read(reader, count)) => read,
        () = stopped(stop) => return Line::Failed(Fault::Failed("the server stops".into())),
    };
    let done = match read {
        Err(_) => Err(Fault::Failed("the list took too long; nothing was written".into())),
        Ok(Err(fault)) => Err(fault),
        Ok(Ok(claims)) => import(&*doers.ledger, &claims, order, who).await,
    };
    match done {
        Ok(imported) => {
            let Imported { is_written, new, known, conflicting, .. } = imported;
            tracing::info!(who, is_written, new, known, conflicting, "a person imported a list");
            let _ = writer.send(&Line::Reply(Reply::Imported(Box::new(imported)))).await;
            Line::Done
        }
        Err(fault) => {
            tracing::warn!(who, %fault, "a list was not imported");
            Line::Failed(fault)
        }
    }
}

async fn read(reader: &mut OwnedReadHalf, count: usize) -> Result<Vec<Claimed>, Fault> {
    let mut reader = BufReader::new(reader);
    let mut claims = Vec::new();
    let mut line = Vec::new();
    for number in 1..=count {
        line.clear();
        let read = (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await;
        read.map_err(|error| Fault::Failed(format!("the list could not be read: {error}")))?;
        if line.last() != Some(&b'\n') {
            return Err(Fault::Failed(format!(
                "the list ends, or is too long, at line {number} of {count}; nothing was written"
            )));
        }
        let claimed = serde_json::from_slice(&line).map_err(|error| {
            Fault::Failed(format!("line {number} of the list is not understood: {error}"))
        })?;
        claims.push(claimed);
    }
    Ok(claims)
}
