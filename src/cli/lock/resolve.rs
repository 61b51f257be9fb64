//! What references stand for: the ledger's word, and the upstreams' beside it.

use std::collections::BTreeMap;
use std::io;

use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;

use super::super::check::ask::{Heard, ask};
use super::super::client::Client;
use super::super::exit::Code;
use super::super::key_of;
use super::super::rules::find;
use super::judge::judge;
use super::merge::Answer;
use crate::config::Config;
use crate::decide::TagEntry;
use crate::oci::{Manifest, Reference};
use crate::upstream::Upstreams;

/// How many references are asked for at once.
const AT_ONCE: usize = 8;

/// A reference for which there is no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) why: String,
}

/// An answer, and the manifest where an upstream sent the one that it names.
pub(super) type Answered = (Answer, Option<Manifest>);

pub(super) type Answers = BTreeMap<Reference, Answered>;
pub(super) type Failures = Vec<(Reference, Failure)>;

/// Resolves all of them, or says which have no answer.
///
/// # Errors
/// The ledger, or the way to upstreams, cannot be used at all.
pub(super) async fn resolve(
    config: &Config,
    client: Option<&Client>,
    references: &[Reference],
) -> anyhow::Result<Result<Answers, Failures>> {
    let upstreams = if config.offline || references.is_empty() {
        None
    } else {
        Some(Upstreams::new(&config.upstreams)?)
    };
    let bar = bar(references.len());
    let asking = stream::iter(references).map(async |reference| {
        let answer = one(reference, upstreams.as_ref(), client).await;
        bar.inc(1);
        (reference.clone(), answer)
    });
    let answered: Vec<_> = asking.buffered(AT_ONCE).collect().await;
    bar.finish_and_clear();
    let (mut answers, mut failures) = (Answers::new(), Failures::new());
    for (reference, answer) in answered {
        match answer? {
            Ok(answered) => drop(answers.insert(reference, answered)),
            Err(failure) => failures.push((reference, failure)),
        }
    }
    Ok(if failures.is_empty() { Ok(answers) } else { Err(failures) })
}

/// Nothing is drawn where standard error is no terminal.
fn bar(count: usize) -> ProgressBar {
    use io::IsTerminal as _;
    if io::stderr().is_terminal() && count > 1 {
        ProgressBar::new(count as u64)
    } else {
        ProgressBar::hidden()
    }
}

async fn one(
    reference: &Reference,
    upstreams: Option<&Upstreams>,
    client: Option<&Client>,
) -> anyhow::Result<Result<Answered, Failure>> {
    let entry: Option<Box<TagEntry>> = match client {
        Some(client) => find(client, &key_of(reference)).await?,
        None => None,
    };
    let (heard, manifest) = match upstreams {
        Some(upstreams) => ask(reference, upstreams).await,
        None => (Heard::Unreachable("offline = true: no upstream is asked".to_owned()), None),
    };
    let is_of_upstream = |answer: &Answer| answer.conflict.is_none();
    Ok(judge(entry.as_deref(), heard).map(|answer| {
        let manifest = manifest.filter(|_| is_of_upstream(&answer));
        (answer, manifest)
    }))
}
