//! Which version of a program is on this host: what its settings mean depends on it.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::files::Files;

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of what it prints, in bytes.
const LIMIT: u64 = 4_096;

/// The most that is read of a package database, in bytes.
const DATABASE_LIMIT: u64 = 64 << 20;

/// A version's first three numbers.
pub(super) type Version = (u32, u32, u32);

/// The version in `containerd github.com/containerd/containerd v1.6.20 …`, `1:28.0.1-1~debian`.
pub(super) fn parse(text: &str) -> Option<Version> {
    text.split(|letter: char| letter.is_whitespace() || letter == ',').find_map(numbers)
}

fn numbers(word: &str) -> Option<Version> {
    let word = word.split_once(':').map_or(word, |(_, rest)| rest);
    let word = word.strip_prefix('v').unwrap_or(word);
    let mut parts = word.split('.');
    let first = parts.next()?.parse().ok()?;
    let second = leading_number(parts.next()?)?;
    Some((first, second, parts.next().and_then(leading_number).unwrap_or(0)))
}

fn leading_number(part: &str) -> Option<u32> {
    let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
    part[..end].parse().ok()
}

/// As people write it.
pub(super) fn words(version: Option<Version>) -> String {
    version.map_or_else(
        || "of unknown version".to_owned(),
        |(first, second, third)| format!("{first}.{second}.{third}"),
    )
}

/// What Debian's package database says of the first of these packages that is installed.
pub(super) fn of_package(files: &Files, packages: &[&str]) -> Option<Version> {
    let status = files.bytes("/var/lib/dpkg/status", DATABASE_LIMIT).ok()??;
    let status = String::from_utf8_lossy(&status);
    let entries = status.split("\n\n");
    let of = |name: &str| {
        let entry = entries.clone().find(|entry| field(entry, "Package") == Some(name))?;
        field(entry, "Status").filter(|status| status.ends_with(" installed"))?;
        parse(field(entry, "Version")?)
    };
    packages.iter().find_map(|name| of(name))
}

fn field<'t>(entry: &'t str, name: &str) -> Option<&'t str> {
    let after = |line: &'t str| line.strip_prefix(name)?.strip_prefix(':');
    entry.lines().find_map(after).map(str::trim)
}

/// Asks a program itself. One that does not answer in time has no version.
pub(super) fn of_program(path: &str) -> Option<Version> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let output = child.stdout.take()?;
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        // A program that prints no text has no version.
        let _ = output.take(LIMIT).read_to_string(&mut text);
        let _ = told.send(text);
    });
    let text = heard.recv_timeout(PATIENCE);
    // It has told all that is wanted, or never will.
    let _ = child.kill();
    let _ = child.wait();
    parse(&text.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_and_packages_say() {
        for (text, expected) in [
            ("containerd github.com/containerd/containerd v1.7.32 abc", Some((1, 7, 32))),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1",
                Some((1, 6, 20)),
            ),
            ("Docker version 20.10.24+dfsg1, build 5d6db84", Some((20, 10, 24))),
            ("k3s version v1.29.1+k3s2 (57482a1c)", Some((1, 29, 1))),
            ("5:28.0.1-1~debian.12~bookworm", Some((28, 0, 1))),
            ("2.2", Some((2, 2, 0))),
            ("go1.19.8 none", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_package_that_is_removed_has_no_version() {
        let status = "Package: containerd\nStatus: deinstall ok config-files\nVersion: 1.6.20\n\n\
                      Package: containerd.io\nStatus: install ok installed\nVersion: 1.7.27-1\n";
        let path = "/var/lib/dpkg/status".to_owned();
        let files = Files::Texts([(path, status.into())].into());
        assert_eq!(of_package(&files, &["containerd", "containerd.io"]), Some((1, 7, 27)));
        assert_eq!(of_package(&files, &["docker.io"]), None);
    }
}
