//! What was pulled, for the end of a CI job: a head, a line for each row, the end.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Doers, Line, Writer, stopped};
use crate::decide::Fault;
use crate::report::{Report, gather};

/// From when on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ReportRequest {
    /// A time, in milliseconds since the Unix epoch; `None`: since the server started.
    #[serde(default)]
    pub since_ms: Option<u64>,
}

/// Gathers and tells; a server that stops does not wait for it. The last line is returned.
pub(super) async fn answer(
    doers: &Doers,
    request: ReportRequest,
    writer: &mut Writer,
    stop: &mut watch::Receiver<bool>,
) -> Line {
    let gathered = tokio::select! {
        gathered = gather(&doers.pull, &doers.record, request.since_ms) => gathered,
        () = stopped(stop) => return Line::Failed(Fault::Failed("the server stops".into())),
    };
    let Report { head, rows } = match gathered {
        Ok(report) => report,
        Err(error) => return Line::Failed(error.into()),
    };
    if writer.send(&Line::ReportHead(Box::new(head))).await.is_err() {
        return Line::Done;
    }
    for row in rows {
        // A client that left does not want it any more.
        if writer.send(&Line::ReportRow(Box::new(row))).await.is_err() {
            break;
        }
    }
    Line::Done
}
