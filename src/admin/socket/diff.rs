//! What changed at a tag, for a person who has to decide.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Doers, Line, stopped};
use crate::decide::Fault;
use crate::oci::Digest;
use crate::pin::{PinKey, TagState};
use crate::pull::Reader;
use crate::triage::{Triage, subjects};

/// What is said of a tag at which nothing changed.
pub const NOTHING_TO_COMPARE: &str = "there is nothing to compare: the tag stood for one digest \
                                      only; name two with --from and --to";

/// Which change is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiffRequest {
    /// The tag.
    pub key: PinKey,
    /// What it stood for; by default the pin, or what the pin was before it followed.
    pub from: Option<Digest>,
    /// What it stands for; by default what the upstream answers instead, or the pin.
    pub to: Option<Digest>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explained {
    /// The tag.
    #[serde(flatten)]
    pub key: PinKey,
    /// Whether the new digest is open to be decided about.
    pub is_open: bool,
    /// How it looks.
    #[serde(flatten)]
    pub triage: Triage,
}

impl DiffRequest {
    /// The two digests to compare, before and after.
    ///
    /// # Errors
    /// There are no two, in words.
    pub fn subjects(&self, state: &TagState) -> Result<(Digest, Digest), Fault> {
        let usual = subjects(state);
        let from = self.from.or(usual.map(|(from, _)| from));
        let to = self.to.or(usual.map(|(_, to)| to));
        // With one side given, the other is what the tag stands for.
        let standing = state.standing().map(|pin| pin.content.digest);
        match (from.or(standing), to.or(standing)) {
            (Some(from), Some(to)) if from != to => Ok((from, to)),
            (Some(_), Some(_)) => Err(Fault::Failed(NOTHING_TO_COMPARE.to_owned())),
            _ => Err(Fault::UnseenTag { key: self.key.clone() }),
        }
    }

    /// The answer, if the manifests could be compared.
    ///
    /// # Errors
    /// They could not, in words.
    pub fn explained(
        self,
        state: &TagState,
        (before, after): (Digest, Digest),
        triage: Option<Triage>,
    ) -> Result<Explained, Fault> {
        let triage = triage.ok_or_else(|| {
            let words = format!("one of the manifests {before} and {after} is not to be had");
            Fault::Failed(words)
        })?;
        let is_open = state.conflict.as_ref().is_some_and(|open| open.observed == after);
        Ok(Explained { key: self.key, is_open, triage })
    }
}

/// Compares, asking the upstream for what is not here; a server that stops does not wait for it.
pub(super) async fn answer(
    doers: &Doers,
    request: DiffRequest,
    stop: &mut watch::Receiver<bool>,
) -> Line {
    let explained = tokio::select! {
        explained = explain(doers, request) => explained,
        () = stopped(stop) => Err(Fault::Failed("the server stops".into())),
    };
    explained.map_or_else(Line::Failed, |explained| Line::Explained(Box::new(explained)))
}

async fn explain(doers: &Doers, request: DiffRequest) -> Result<Explained, Fault> {
    let state = doers.ledger.state(&request.key).await?.unwrap_or_default();
    let (before, after) = request.subjects(&state)?;
    let triage = doers.pull.explain(&request.key, before, after, Reader::Person).await;
    request.explained(&state, (before, after), triage)
}
