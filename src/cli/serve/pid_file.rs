//! The file that names the process that serves, for scripts that look for one.
//!
//! It is a note, never the ground for a signal: what it names may have ended, and its number may be
//! another's by now. `immutag stop` asks the server's socket.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// It goes when this does, unless it is another process's by then.
pub(super) struct PidFile {
    path: PathBuf,
    draft: PathBuf,
    text: String,
}

impl PidFile {
    /// Writes it beside its place: that it cannot be written is known before anything is served.
    pub(super) fn prepare(data_dir: &Path, path: PathBuf) -> anyhow::Result<Self> {
        crate::app::make_data_dir(data_dir)?;
        let pid = std::process::id();
        let mut draft = path.clone().into_os_string();
        draft.push(format!(".{pid}"));
        let file = Self { path, draft: draft.into(), text: format!("{pid}\n") };
        file.write_draft()
            .with_context(|| format!("the pid file {} cannot be written", file.path.display()))?;
        Ok(file)
    }

    /// Never through a link that somebody else put there: the name can be guessed.
    fn write_draft(&self) -> io::Result<()> {
        // One that a process of this number left.
        let _ = fs::remove_file(&self.draft);
        fs::File::create_new(&self.draft)?.write_all(self.text.as_bytes())
    }

    /// Puts it in its place, over a stale one. The caller has the data directory for itself.
    pub(super) fn publish(&self) {
        if let Err(error) = fs::rename(&self.draft, &self.path) {
            tracing::error!(%error, path = %self.path.display(), "the pid file is not in its place");
        }
    }

    fn remove(&self) -> io::Result<()> {
        if fs::read_to_string(&self.path)? == self.text {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // One of both is not there; and a stale one is overwritten at the next start.
        let _ = fs::remove_file(&self.draft);
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_one_of_another_process_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "999999\n").unwrap();
        let file = PidFile::prepare(folder.path(), path.clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "999999\n", "it serves nothing yet");
        file.publish();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        fs::write(&path, "999999\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "999999\n");
        let file = PidFile::prepare(folder.path(), path.clone()).unwrap();
        file.publish();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_link_at_the_drafts_name_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("pid"), folder.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        let draft = folder.path().join(format!("pid.{}", std::process::id()));
        std::os::unix::fs::symlink(&victim, &draft).unwrap();
        let file = PidFile::prepare(folder.path(), path.clone()).unwrap();
        file.publish();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert!(!path.is_symlink());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let prepared = PidFile::prepare(folder.path(), folder.path().join("no/such/pid"));
        let error = prepared.err().expect("there is no such folder");
        assert!(error.to_string().contains("no/such/pid cannot be written"), "{error:#}");
    }
}
