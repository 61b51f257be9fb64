//! Whether something may run, for the gate at a container runtime's side.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Doers, Line};
use crate::decide::Fault;
use crate::gate::{Candidate, Judgement, judge};
use crate::oci::{Digest, Reference};
use crate::printable::escape_within;

/// How long a judgement may take. Whoever asks waits for less.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JudgeRequest {
    /// The name, as somebody typed it.
    pub name: String,
    /// What it was resolved to.
    pub digest: Digest,
    /// Somebody only wants to know: the log is not told.
    #[serde(default)]
    pub is_question: bool,
}

/// Judges; what cannot be judged is a failure, and must not run.
pub(super) async fn answer(doers: &Doers, request: JudgeRequest) -> Line {
    let name = escape_within(&request.name, 512);
    match timeout(DEADLINE, judgement(doers, &request)).await {
        Ok(Ok(judgement)) => {
            if !judgement.is_accepted && !request.is_question {
                let Judgement { reason, .. } = &judgement;
                tracing::warn!(name, digest = %request.digest, reason, "a gate was told no");
            }
            Line::Judged(judgement)
        }
        Ok(Err(fault)) => Line::Failed(fault),
        Err(_) => Line::Failed(Fault::Failed("the ledger did not answer in time".into())),
    }
}

async fn judgement(doers: &Doers, request: &JudgeRequest) -> Result<Judgement, Fault> {
    let reference: Reference = request.name.parse().map_err(|error| {
        let name = escape_within(&request.name, 256);
        Fault::Failed(format!("\"{name}\" is no reference: {error}"))
    })?;
    let candidate = Candidate { reference, digest: request.digest };
    Ok(judge(&doers.pull, &candidate).await?)
}
