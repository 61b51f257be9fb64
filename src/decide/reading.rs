//! What the ledger knows, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::fault::Fault;
use super::ledger::Ledger;
use super::plan::is_blank;
use super::{ExportedManifest, Reply, TagEntry};
use crate::event::Event;
use crate::ledger::{Entry, StoredManifest};
use crate::oci::Digest;
use crate::pin::{PinKey, TagState};
use crate::policy::pattern::Pattern;

/// How many tags are read at once.
const PAGE: usize = 500;

/// Which tags to list. The default lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Filter {
    /// A glob for `registry/repository:tag`, `registry/repository`, the same without the registry,
    /// or the short names of docker.io (`alpine:3.*`). `*` does not cross `/`, `**` does.
    pub glob: Option<String>,
    /// Only tags with an open conflict.
    pub only_conflicts: bool,
    /// Only tags that the upstream says are gone.
    #[serde(default)]
    pub only_deleted: bool,
}

pub(super) async fn list(
    ledger: &dyn Ledger,
    filter: &Filter,
    to: &mpsc::Sender<Reply>,
) -> Result<(), Fault> {
    let pattern = filter.glob.as_deref().map_or(Ok(Pattern::Any), Pattern::new);
    let pattern = pattern.map_err(|error| Fault::SpoilsGlob(error.to_string()))?;
    let mut after = None;
    loop {
        let page = ledger.list(after.as_ref(), PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, state) in page {
            let is_wanted = (state.conflict.is_some() || !filter.only_conflicts)
                && (state.deleted_ms.is_some() || !filter.only_deleted);
            if !is_wanted || is_blank(&state) || !names(&pattern, &key) {
                continue;
            }
            let entry = entry(ledger, key, TagState::clone(&state));
            if to.send(Reply::Tag(Box::new(entry))).await.is_err() {
                return Ok(());
            }
        }
    }
}

pub(super) async fn show(ledger: &dyn Ledger, key: PinKey) -> Result<Reply, Fault> {
    match ledger.state(&key).await? {
        Some(state) if !is_blank(&state) => {
            Ok(Reply::Tag(Box::new(entry(ledger, key, TagState::clone(&state)))))
        }
        _ => Err(Fault::UnseenTag { key }),
    }
}

pub(super) async fn history(
    ledger: &dyn Ledger,
    key: &PinKey,
    to: &mpsc::Sender<Reply>,
) -> Result<(), Fault> {
    let events = ledger.history(key).await?;
    if events.is_empty() {
        return Err(Fault::UnseenTag { key: key.clone() });
    }
    for event in events {
        if to.send(Reply::Event(Box::new(event))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What is written while this runs is left out: otherwise it might never end. At most one page of
/// manifests is in memory, and not more than a few of them on their way.
pub(super) async fn export(ledger: &dyn Ledger, to: &mpsc::Sender<Reply>) -> Result<(), Fault> {
    let status = ledger.status();
    let last = status.sequence;
    if to.send(Reply::Status(status)).await.is_err() {
        return Ok(());
    }
    let mut next = 1;
    while next <= last {
        let page = ledger.entries(next).await?;
        if page.is_empty() {
            let why = format!("the ledger ends before its last event, {last}");
            return Err(Fault::Failed(why));
        }
        for Entry { event, manifests } in page {
            next = event.sequence + 1;
            if event.sequence > last || send_entry(event, manifests, to).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn send_entry(
    event: Event,
    manifests: Vec<StoredManifest>,
    to: &mpsc::Sender<Reply>,
) -> Result<(), mpsc::error::SendError<()>> {
    for StoredManifest { content, bytes } in manifests {
        // Wait until all before is taken: a queue of such lines would be large.
        drop(to.reserve_many(to.max_capacity()).await?);
        let manifest = ExportedManifest {
            manifest: content.digest,
            media_type: content.media_type,
            base64: STANDARD.encode(&bytes),
        };
        to.send(Reply::Manifest(Box::new(manifest)))
            .await
            .map_err(|_| mpsc::error::SendError(()))?;
    }
    to.send(Reply::Event(Box::new(event))).await.map_err(|_| mpsc::error::SendError(()))
}

fn entry(ledger: &dyn Ledger, key: PinKey, state: TagState) -> TagEntry {
    let standing = state.standing().map(|pin| pin.content.digest);
    let mut revoked: Vec<Digest> = state.seen.iter().map(|seen| seen.content.digest).collect();
    revoked.extend(standing.filter(|digest| state.seen(digest).is_none()));
    revoked.retain(|digest| ledger.is_revoked(digest));
    TagEntry { key, state, revoked }
}

/// Whether a pattern covers one of the names that people have for a tag.
pub fn names(pattern: &Pattern, key: &PinKey) -> bool {
    let PinKey { registry, repository, tag } = key;
    let short = match repository.as_str().strip_prefix("library/") {
        Some(short) if registry.as_str() == "docker.io" => short,
        _ => repository.as_str(),
    };
    [format!("{registry}/{repository}"), repository.to_string(), short.to_owned()]
        .iter()
        .any(|name| pattern.matches(name) || pattern.matches(&format!("{name}:{tag}")))
}
