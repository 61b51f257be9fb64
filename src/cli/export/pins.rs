//! What is exported: a lock file, or the pins of a ledger.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::super::Global;
use super::super::client::Place;
use super::super::table::escape;
use crate::config::read_lock;
use crate::decide::{Filter, Reply, Request, TagEntry};
use crate::lockfile::LOCK_NAME;
use crate::oci::{Digest, Reference};

/// References and what they stand for.
pub(super) struct Pins {
    /// Where they are from, to be told.
    pub(super) origin: String,
    /// Each with a tag or a digest, not both.
    pub(super) images: BTreeMap<Reference, Digest>,
    /// What stands behind a tag is known in its repository by digest, too.
    digests: HashSet<Reference>,
}

impl Pins {
    /// Reads them.
    pub(super) async fn open(
        global: &Global,
        lock: Option<PathBuf>,
        from_ledger: bool,
    ) -> anyhow::Result<Self> {
        if let Some(path) = lock {
            return Self::of_file(&path);
        }
        let config = global.load()?;
        let configured = config.lock.as_ref().map(|lock| lock.file.clone());
        let default = Some(PathBuf::from(LOCK_NAME)).filter(|path| path.exists());
        match configured.or(default).filter(|_| !from_ledger) {
            Some(path) => Self::of_file(&path),
            None => Self::of_ledger(&Place::new(&config, false)).await,
        }
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let name = escape(&path.display().to_string()).into_owned();
        let file = read_lock(path).with_context(|| name.clone())?;
        let images = file.images.into_iter().map(|(key, locked)| (key, locked.digest)).collect();
        Ok(Self::new(name, images))
    }

    async fn of_ledger(place: &Place) -> anyhow::Result<Self> {
        let client = place.open().await?;
        let mut answer = client.ask(Request::List(Filter::default())).await?;
        let mut images = BTreeMap::new();
        while let Some(reply) = answer.next().await? {
            let Reply::Tag(entry) = reply else {
                bail!("the server answered what nobody asked for")
            };
            let TagEntry { key, state, revoked } = *entry;
            // A pin that was revoked is nothing to be trusted elsewhere.
            if let Some(pin) = state.pin.filter(|pin| !revoked.contains(&pin.content.digest)) {
                let (registry, repository, tag) = (key.registry, key.repository, Some(key.tag));
                let reference = Reference { registry, repository, tag, digest: None };
                images.insert(reference, pin.content.digest);
            }
        }
        client.close().await;
        Ok(Self::new("the ledger".to_owned(), images))
    }

    /// Those of a place.
    pub(super) fn new(origin: String, images: BTreeMap<Reference, Digest>) -> Self {
        let by_digest = |(reference, digest): (&Reference, &Digest)| Reference {
            tag: None,
            digest: Some(*digest),
            ..reference.clone()
        };
        let digests = images.iter().map(by_digest).collect();
        Self { origin, images, digests }
    }

    /// What a reference stands for; where it has a digest that one, if it is known in its
    /// repository.
    pub(super) fn digest_of(&self, reference: &Reference) -> Option<Digest> {
        match reference.digest {
            Some(digest) => {
                let by_digest = Reference { tag: None, ..reference.clone() };
                self.digests.contains(&by_digest).then_some(digest)
            }
            None => self.images.get(reference).copied(),
        }
    }

    /// Every digest with its repository, once each, in order.
    pub(super) fn by_digest(&self) -> Vec<&Reference> {
        let mut all: Vec<_> = self.digests.iter().collect();
        all.sort();
        all
    }
}
