//! Whether what was not synced may have been lost since the last process ran here.
//!
//! A killed process loses nothing: what it wrote is in the kernel's page cache. A machine that
//! went down does, and leaves files of the right length with garbage in them. `cache/boot` holds
//! the kernel's boot id and how far content may lie unsynced; it is durable before anything is
//! stored. A stop in good order syncs everything and says so there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Durability;

/// How far something is true of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reach {
    /// Of nothing.
    Nothing,
    /// Of what no pin holds.
    Cached,
    /// Of everything.
    Everything,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mark {
    boot_id: String,
    /// All was synced, and nothing was stored since.
    is_clean: bool,
    /// What may lie unsynced.
    unsynced: Reach,
    /// What is to be hashed before it is served.
    suspect: Reach,
}

/// This run's mark.
#[derive(Debug)]
pub(super) struct Boot {
    path: PathBuf,
    mark: Mark,
    /// An earlier run of this boot left something unsynced.
    inherits: bool,
}

impl Boot {
    /// Judges what the last run left, and writes down that this one has begun; durable when it
    /// returns.
    ///
    /// `boot_id` is `None` where the system does not tell: then the machine may have gone down.
    /// Without a mark, what is stored may be anything.
    pub(super) fn begin(
        cache: &Path,
        boot_id: Option<String>,
        durable: Durability,
        holds_content: bool,
    ) -> io::Result<Self> {
        let path = cache.join("boot");
        let own = match durable {
            Durability::All => Reach::Nothing,
            Durability::Held => Reach::Cached,
            Durability::None => Reach::Everything,
        };
        let last = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Mark>(&text).ok());
        let is_same_boot =
            |last: &Mark| boot_id.as_ref().is_some_and(|boot_id| *boot_id == last.boot_id);
        let inherits = last.as_ref().is_none_or(|last| !last.is_clean);
        let (unsynced, suspect) = match last {
            None if holds_content => (own, Reach::Everything),
            None => (own, Reach::Nothing),
            Some(last) if last.is_clean => (own, last.suspect),
            Some(last) if is_same_boot(&last) => (own.max(last.unsynced), last.suspect),
            Some(last) => (own, last.suspect.max(last.unsynced)),
        };
        let boot_id = boot_id.unwrap_or_default();
        let mark = Mark { boot_id, is_clean: false, unsynced, suspect };
        let boot = Self { path, mark, inherits };
        boot.write()?;
        Ok(boot)
    }

    /// What is to be hashed before it is served.
    pub(super) const fn suspect(&self) -> Reach {
        self.mark.suspect
    }

    /// All of that was hashed. What the process stored itself is not meant.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.mark.suspect = Reach::Nothing;
        self.write()
    }

    /// Syncs all that is stored and writes that down. Nothing may be stored after this.
    /// `has_stored` is whether this run stored anything.
    pub(super) fn end(&mut self, has_stored: bool) -> io::Result<()> {
        if (has_stored || self.inherits) && self.mark.unsynced != Reach::Nothing {
            let folder = File::open(self.path.parent().expect("it lies in the cache"))?;
            rustix::fs::syncfs(&folder)?;
        }
        self.mark.is_clean = true;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let staged = self.path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(&self.mark)?)?;
        file.sync_all()?;
        fs::rename(&staged, &self.path)?;
        File::open(self.path.parent().expect("it lies in the cache"))?.sync_all()
    }
}

/// The kernel's id of this boot; `None` where it is not told.
pub(super) fn current_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stage(tempfile::TempDir);

    impl Stage {
        fn begin(&self, boot_id: &str, durable: Durability) -> Boot {
            Boot::begin(self.0.path(), Some(boot_id.into()), durable, true).unwrap()
        }
    }

    #[test]
    fn what_may_be_lost_is_suspect_until_it_was_hashed() {
        use Durability::{All, Held, None};
        let stage = Stage(tempfile::tempdir().unwrap());
        // The first start finds content, and nothing that tells of it.
        assert_eq!(stage.begin("a", Held).suspect(), Reach::Everything);
        assert_eq!(stage.begin("a", Held).suspect(), Reach::Everything, "still to be hashed");
        stage.begin("a", Held).clear().unwrap();
        assert_eq!(stage.begin("a", Held).suspect(), Reach::Nothing, "a kill loses nothing");
        assert_eq!(stage.begin("b", All).suspect(), Reach::Cached, "the machine went down");
        stage.begin("b", All).clear().unwrap();
        assert_eq!(stage.begin("c", None).suspect(), Reach::Nothing, "all was synced");
        // A run of the same boot that syncs more does not sync what the one before did not.
        assert_eq!(stage.begin("c", All).suspect(), Reach::Nothing);
        assert_eq!(stage.begin("d", All).suspect(), Reach::Everything);
        stage.begin("d", None).clear().unwrap();
        stage.begin("d", None).end(true).unwrap();
        assert_eq!(stage.begin("e", Held).suspect(), Reach::Nothing, "it stopped in good order");
        // What was not hashed yet stays suspect across a stop in good order.
        assert_eq!(stage.begin("f", Held).suspect(), Reach::Cached);
        stage.begin("f", Held).end(true).unwrap();
        assert_eq!(stage.begin("g", All).suspect(), Reach::Cached);
    }

    #[test]
    fn a_system_that_does_not_tell_may_have_gone_down() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Boot::begin(folder.path(), None, Durability::Held, false).unwrap();
        assert_eq!(begin().suspect(), Reach::Nothing, "nothing is stored yet");
        assert_eq!(begin().suspect(), Reach::Cached);
    }

    #[test]
    fn a_mark_that_cannot_be_read_vouches_for_nothing() {
        let stage = Stage(tempfile::tempdir().unwrap());
        stage.begin("a", Durability::All).clear().unwrap();
        fs::write(stage.0.path().join("boot"), "{").unwrap();
        assert_eq!(stage.begin("a", Durability::All).suspect(), Reach::Everything);
    }
}
