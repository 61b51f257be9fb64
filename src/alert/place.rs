//! Up to where a webhook was told: a small file, whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The largest such file, in bytes.
const LIMIT: u64 = 64 << 10;

/// A place in a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Place {
    /// The ledger's id.
    pub(super) ledger: String,
    /// Up to this event all is told, but for those in `passed`.
    pub(super) sequence: u64,
    /// When that event was: a ledger that has another one there has another history.
    pub(super) time_ms: u64,
    /// Events before it that a later one stands for, which is not told yet.
    #[serde(default)]
    pub(super) passed: Vec<u64>,
}

/// The file of one webhook.
#[derive(Clone, Debug)]
pub(super) struct PlaceFile(pub(super) PathBuf);

impl PlaceFile {
    /// Reads it; `None` if there is none.
    pub(super) fn read(&self) -> io::Result<Option<Place>> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(LIMIT).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Writes it, durably. A crash in here leaves the old one or the new one.
    pub(super) fn write(&self, place: &Place) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // No webhook's name has a dot.
        let staged = self.0.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&staged)?;
        file.write_all(&serde_json::to_vec(place)?)?;
        file.sync_all()?;
        fs::rename(&staged, &self.0)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: u64) -> Place {
        Place { ledger: "ab".repeat(16), sequence, time_ms: 5, passed: vec![1, 2] }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_is_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlaceFile(folder.path().join("notify/chat"));
        assert_eq!(file.read().unwrap(), None);
        file.write(&place(7)).unwrap();
        file.write(&place(9)).unwrap();
        assert_eq!(file.read().unwrap(), Some(place(9)));
    }

    #[test]
    fn whatever_a_crash_leaves_of_a_write_the_old_place_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlaceFile(folder.path().join("chat"));
        file.write(&place(7)).unwrap();
        let whole = serde_json::to_vec(&place(9)).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len()] {
            fs::write(folder.path().join("chat.new"), &whole[..length]).unwrap();
            assert_eq!(file.read().unwrap(), Some(place(7)), "{length}");
        }
        file.write(&place(10)).unwrap();
        assert_eq!(file.read().unwrap(), Some(place(10)));
    }

    #[test]
    fn a_spoilt_file_is_an_error_and_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlaceFile(folder.path().join("chat"));
        for text in ["", "{", "{\"ledger\":\"x\"}", "null"] {
            fs::write(&file.0, text).unwrap();
            assert!(file.read().is_err(), "{text}");
        }
    }
}
