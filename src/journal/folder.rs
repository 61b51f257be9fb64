//! The journal's files by name: `2026-11-27-0003.jsonl` is the fourth that was begun that day, UTC.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// Where the journal of a data directory is.
pub fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// The name of a file; the older is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) date: Date,
    pub(super) number: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:04}.jsonl", self.date, self.number)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let stem = text.strip_suffix(".jsonl").ok_or(())?;
        let (date, number) = stem.rsplit_once('-').ok_or(())?;
        let name =
            Self { date: date.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? };
        // What is written otherwise is none of ours.
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

/// The files there, the oldest first, with their sizes in bytes. No folder: no files.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(Name, u64)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match entry.metadata() {
            Ok(file) if file.is_file() => files.push((name, file.len())),
            Ok(_) => {}
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The day of a time in milliseconds since the Unix epoch, UTC.
pub(super) fn date_of(ms: u64) -> Date {
    let stamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Offset::UTC.to_datetime(stamp.unwrap_or(Timestamp::MAX)).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        let name = Name { date: date_of(1_776_849_180_000), number: 3 };
        assert_eq!(name.to_string(), "2026-04-22-0003.jsonl");
        assert_eq!("2026-04-22-0003.jsonl".parse(), Ok(name));
        let many = Name { number: 123_456, ..name };
        assert_eq!(many.to_string().parse(), Ok(many));
        for other in [
            "2026-04-22-3.jsonl",
            "2026-04-22-0003.jsonl.gz",
            "2026-04-22-+003.jsonl",
            "2026-04-31-0003.jsonl",
            "20260422-0003.jsonl",
            "-0003.jsonl",
            "",
        ] {
            assert_eq!(other.parse::<Name>(), Err(()), "{other}");
        }
        assert!(Name { number: 10_000, ..name } > Name { number: 9_999, ..name });
    }

    #[test]
    fn every_time_has_a_day() {
        assert_eq!(date_of(0).to_string(), "1970-01-01");
        assert_eq!(date_of(u64::MAX).to_string(), "9999-12-30");
    }
}
