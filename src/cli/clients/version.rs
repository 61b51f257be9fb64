//! Versions of clients: what settings mean depends on them.

use std::fmt;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of what it prints, in bytes.
const LIMIT: u64 = 4_096;

/// A version's first three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Version(
    pub(in crate::cli) u32,
    pub(in crate::cli) u32,
    pub(in crate::cli) u32,
);

impl Version {
    /// From this one on Docker's containerd store reads `certs.d/<registry>/hosts.toml`.
    pub(in crate::cli) const DOCKER_READS_HOSTS: Self = Self(28, 0, 0);

    /// The version in `containerd github.com/containerd/containerd v1.6.20 …`,
    /// `5:28.0.1-1~debian`: the first word that is one.
    pub(in crate::cli) fn find_in(text: &str) -> Option<Self> {
        text.split(|letter: char| letter.is_whitespace() || letter == ',').find_map(numbers)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `1.7`, `v2.1.4-rc.1`, `20.10.24+dfsg1`, `1.6.20~ds1`.
    fn from_str(text: &str) -> Result<Self, String> {
        numbers(text).ok_or_else(|| format!("{text} is no version: 1.7, 2.1.4"))
    }
}

fn numbers(word: &str) -> Option<Version> {
    let word = word.split_once(':').map_or(word, |(_, rest)| rest);
    let word = word.strip_prefix('v').unwrap_or(word);
    let mut parts = word.split('.');
    let first = parts.next()?.parse().ok()?;
    let second = leading_number(parts.next()?)?;
    Some(Version(first, second, parts.next().and_then(leading_number).unwrap_or(0)))
}

fn leading_number(part: &str) -> Option<u32> {
    let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
    part[..end].parse().ok()
}

/// What a program prints on standard output, at most 4 KiB of it; `None`: it is not there, or does
/// not come to an end in time.
pub(in crate::cli) fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        // A program that prints no text says nothing.
        let _ = output.take(LIMIT).read_to_string(&mut text);
        let _ = told.send(text);
    });
    let text = heard.recv_timeout(PATIENCE);
    // It has told all that is wanted, or never will.
    let _ = child.kill();
    let _ = child.wait();
    text.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_and_packages_say() {
        for (text, expected) in [
            ("containerd github.com/containerd/containerd v1.7.32 abc", Some("1.7.32")),
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1", Some("1.6.20")),
            ("containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e", Some("2.1.4")),
            ("containerd containerd.io 1.7.27 05044ec0a9a7", Some("1.7.27")),
            ("Docker version 20.10.24+dfsg1, build 5d6db84", Some("20.10.24")),
            ("28.0.0-rc.1 [[\"driver-type\",\"io.containerd.snapshotter.v1\"]]", Some("28.0.0")),
            ("k3s version v1.29.1+k3s2 (57482a1c)", Some("1.29.1")),
            ("5:28.0.1-1~debian.12~bookworm", Some("28.0.1")),
            ("2.2", Some("2.2.0")),
            ("go1.19.8 none", None),
            ("", None),
        ] {
            let found = Version::find_in(text).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        for text in ["", "1", "x.1", "1.-2"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!(Version(1, 7, 32) > Version(1, 7, 4) && Version(1, 7, 32) < Version(2, 0, 0));
    }

    #[test]
    fn what_a_program_prints_is_read_to_a_bound_and_one_that_is_not_there_prints_nothing() {
        assert_eq!(printed("echo", &["1.2.3"]).as_deref(), Some("1.2.3\n"));
        assert_eq!(printed("yes", &[]).map(|text| text.len() as u64), Some(LIMIT));
        assert_eq!(printed("/nowhere/program", &[]), None);
    }
}
