//! A canary, for as long as the doctor's connection is open.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Doers, Line, Writer, stopped};
use crate::decide::{Fault, Request, execute};
use crate::pin::PinKey;

/// How long a canary stays at most: a doctor that hangs must not keep it for ever.
const STAY: Duration = Duration::from_mins(30);

/// Where a canary's registry is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CanaryRequest {
    /// The port of its registry, on this machine's loopback.
    pub port: u16,
    /// 16 hex digits that make its repository's name.
    pub nonce: String,
}

/// Waits until the client has closed its side, the server stops, or too much time has passed.
pub(super) async fn gone(reader: &mut OwnedReadHalf, stop: &mut watch::Receiver<bool>) {
    let mut byte = [0; 1];
    tokio::select! {
        // Whatever comes, there is nothing more to ask for.
        _ = timeout(STAY, reader.read(&mut byte)) => {}
        () = stopped(stop) => {}
    }
}

/// Puts a canary in place until `gone`, and lets the ledger forget its tags.
pub(super) async fn keep(
    doers: &Doers,
    canary: CanaryRequest,
    who: &str,
    writer: &mut Writer,
    gone: impl Future<Output = ()>,
) -> Line {
    let guard = match doers.pull.place_canary(canary.port, &canary.nonce) {
        Ok(guard) => guard,
        Err(error) => return Line::Failed(Fault::Failed(error.to_string())),
    };
    tracing::info!(who, nonce = canary.nonce, "a canary was placed");
    // A client that is gone already closes its side too.
    let _ = writer.send(&Line::Placed).await;
    let _ = writer.flush().await;
    gone.await;
    let keys = guard.keys.clone();
    drop(guard);
    for key in keys {
        forget(doers, key, who).await;
    }
    tracing::info!(who, nonce = canary.nonce, "the canary was taken away");
    Line::Done
}

async fn forget(doers: &Doers, key: PinKey, who: &str) {
    let reason = "the doctor's canary is gone".parse().expect("a reason of ours is printable");
    let (to, mut replies) = mpsc::channel(4);
    let request = Request::Forget { key: key.clone(), reason };
    let drain = async { while replies.recv().await.is_some() {} };
    let (done, ()) = tokio::join!(execute(doers.ledger.clone(), request, who, to), drain);
    if let Err(fault) = done {
        tracing::warn!(%key, %fault, "the canary stays in the ledger");
    }
}
