//! The lock file, as the pull path holds it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::lockfile::{LOCK_NAME, LockFile, Locked};
use crate::oci::{Digest, Reference, Registry, Repository};
use crate::pin::PinKey;
use crate::policy::matcher::Matcher;
use crate::policy::{Reaction, Rule};

/// How old an upstream's answer about a locked tag may be.
const RECHECK: Duration = Duration::from_mins(1);

/// A reviewed list of references, and whether anything else is let through.
#[derive(Debug)]
pub struct Lock {
    /// What was read.
    pub file: LockFile,
    /// Whether what is not in it is refused.
    pub is_locked: bool,
    /// How the file is called to clients: its name, not where it lies.
    pub name: String,
    rule: Arc<Rule>,
    /// The digests of each repository.
    roots: HashMap<Registry, HashMap<Repository, HashSet<Digest>>>,
}

impl Lock {
    /// A lock file in force.
    pub fn new(file: LockFile, is_locked: bool) -> Self {
        let rule = Rule {
            name: "lock file".to_owned(),
            matcher: Matcher::default(),
            reaction: Reaction::Hold,
            accept_after: None,
            min_age: Duration::ZERO,
            settle: Duration::ZERO,
            recheck: RECHECK,
            include_referrers: true,
            is_exact: true,
        };
        let mut roots = HashMap::<_, HashMap<_, HashSet<_>>>::new();
        for (reference, locked) in &file.images {
            let of_registry = roots.entry(reference.registry.clone()).or_default();
            let of_repository = of_registry.entry(reference.repository.clone()).or_default();
            of_repository.insert(locked.digest);
        }
        Self { file, is_locked, name: LOCK_NAME.to_owned(), rule: Arc::new(rule), roots }
    }

    /// The same under the name of its file.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The rule that decides for the tags of the file: hold, never follow.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// What a tag stands for, if it is in the file.
    pub fn tag(&self, key: &PinKey) -> Option<Locked> {
        let PinKey { registry, repository, tag } = key.clone();
        let tag = Some(tag);
        self.file.images.get(&Reference { registry, repository, tag, digest: None }).copied()
    }

    /// The digests of a repository, if the file has any.
    pub(super) fn roots(
        &self,
        registry: &Registry,
        repository: &Repository,
    ) -> Option<&HashSet<Digest>> {
        self.roots.get(registry)?.get(repository)
    }
}
