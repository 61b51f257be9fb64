//! Warming for a client of the socket, told while it goes on; a client that leaves ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;

use super::{Doers, Line, Writer, stopped};
use crate::decide::Fault;
use crate::oci::Reference;
use crate::pull::{Refusal, WarmPlatform, WarmProgress};

/// What is to be warmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WarmRequest {
    /// The reference, as it was typed.
    pub reference: String,
    /// For which platforms; none: for all.
    pub platforms: Vec<WarmPlatform>,
}

/// Why a reference was not warmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// The name of the reason, as clients get it.
    pub reason: String,
    /// What happened, and what to do next.
    pub message: String,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { reason, message, help, .. } = refusal;
        let glue = if help.is_empty() { "" } else { "; " };
        Self { reason: reason.name().to_owned(), message: format!("{message}{glue}{help}") }
    }
}

/// Warms, and says how far it is; the last line is returned.
pub(super) async fn warm(
    doers: &Doers,
    request: WarmRequest,
    reader: &mut OwnedReadHalf,
    writer: &mut Writer,
    stop: &mut watch::Receiver<bool>,
) -> Line {
    let reference: Reference = match request.reference.parse() {
        Ok(reference) => reference,
        Err(error) => return Line::Failed(Fault::Failed(format!("{error}"))),
    };
    let (to, mut progress) = watch::channel(WarmProgress::default());
    let pull = Arc::clone(&doers.pull);
    let work = async move { pull.warm(&reference, &request.platforms, to).await };
    let mut warming: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(work);
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            warmed = &mut warming => return match warmed {
                Ok(warmed) => Line::Warmed(warmed),
                Err(refusal) => Line::Refused(refusal.into()),
            },
            Ok(()) = progress.changed() => {
                let now = *progress.borrow_and_update();
                if tell(writer, now).await.is_err() {
                    return Line::Failed(Fault::Failed("the client left".into()));
                }
            }
            // Whatever comes, there is nothing more to ask for.
            _ = reader.read(&mut byte) => {
                return Line::Failed(Fault::Failed("the client left".into()));
            }
            () = stopped(stop) => {
                return Line::Failed(Fault::Failed("the server stops".into()));
            }
        }
    }
}

async fn tell(writer: &mut Writer, progress: WarmProgress) -> io::Result<()> {
    writer.send(&Line::Warming(progress)).await?;
    writer.flush().await
}
