//! The log of a process in the background, and what it said last.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::super::table::escape;

/// How much of its end is looked at, in bytes.
const END_BYTES: u64 = 16 << 10;

/// The most lines that are shown of a log without an error at its end.
const END_LINES: usize = 10;

/// How an error of this program begins, at its end.
const ERROR: &str = "error: ";

/// A log that lines are added to.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// What was in it before.
    begin: u64,
}

impl Log {
    /// Opens it, for its owner alone if it is new.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path)?;
        let begin = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, begin })
    }

    /// What a process writes to.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The error with which the process ended, else the last lines since it was opened; fit to be
    /// shown.
    pub(super) fn end(&self) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.begin.max(length.saturating_sub(END_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(END_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        let error = lines.iter().rposition(|line| line.starts_with(ERROR));
        let first = error.unwrap_or(lines.len().saturating_sub(END_LINES));
        Ok(lines[first..].iter().map(|line| escape(line).to_string()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The end of a log with `before` from an earlier process.
    fn end(before: &str, lines: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, before).unwrap();
        let log = Log::open(&path).unwrap();
        log.file().unwrap().write_all(lines.as_bytes()).unwrap();
        log.end().unwrap()
    }

    #[test]
    fn the_error_at_the_end_is_shown_whole_and_nothing_of_an_earlier_process() {
        let lines = "{\"level\":\"INFO\"}\nerror: two things\nthe first\nthe second\n";
        let expected = ["error: two things", "the first", "the second"];
        assert_eq!(end("error: old\n", lines), expected);
        assert_eq!(end("error: old\n", ""), Vec::<String>::new());
    }

    #[test]
    fn without_an_error_the_last_lines_are_shown_and_they_are_harmless() {
        let lines = "a line\n".repeat(10_000) + "the last but one\n\u{1b}[31mred\n";
        let end = end("", &lines);
        assert_eq!(end.len(), END_LINES);
        assert_eq!(end[END_LINES - 2..], ["the last but one", "\\u{1b}[31mred"]);
    }

    #[test]
    fn a_log_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        Log::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
