//! Which version of a client the settings are for.

use std::fmt;
use std::process::{Command, Stdio};
use std::str::FromStr;

use clap::ValueEnum;

/// A version of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) patch: u32,
}

/// Docker's image store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    /// Docker's own, with storage drivers such as overlay2.
    Classic,
    /// containerd's, the default of new installations from 29 on.
    Containerd,
}

/// What is known of an installed client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: Option<Version>,
    pub(super) store: Option<Store>,
    /// How it is known, for words; `None`: it is not.
    pub(super) by: Option<&'static str>,
}

impl Version {
    /// `major.minor.0`.
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `1.7`, `v2.1.4-rc.1`, `20.10.24+dfsg1`, `1.6.20~ds1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text} is no version: 1.7, 2.1.4");
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+', '~']).unwrap_or(text.len());
        let mut parts = text[..end].split('.').map(str::parse::<u32>);
        let mut next = || parts.next().transpose().map_err(|_| wanted());
        let major = next()?.ok_or_else(wanted)?;
        let (minor, patch) = (next()?.ok_or_else(wanted)?, next()?.unwrap_or(0));
        next()?.map_or(Ok(Self { major, minor, patch }), |_| Err(wanted()))
    }
}

/// containerd's version: as given, else as the installed program says.
pub(super) fn containerd(given: Option<Version>, may_ask: bool) -> Found {
    if given.is_some() {
        return Found { version: given, store: None, by: Some("--version") };
    }
    let printed = if may_ask { printed("containerd", &["--version"]) } else { None };
    let version = printed.as_deref().and_then(first_version);
    Found { version, store: None, by: version.map(|_| "`containerd --version`") }
}

/// Docker's version and store: as given, else as the running daemon or the program says.
pub(super) fn docker(given: Option<Version>, store: Option<Store>, may_ask: bool) -> Found {
    if !may_ask || (given.is_some() && store.is_some()) {
        return Found { version: given, store, by: given.map(|_| "--version") };
    }
    let format = "{{.ServerVersion}} {{json .DriverStatus}}";
    let info = printed("docker", &["info", "--format", format]);
    let told = info.as_deref().and_then(first_version);
    let told_store = told.and(info.as_deref()).map(store_of);
    let (version, by) = match (given, told) {
        (Some(version), _) => (Some(version), Some("--version")),
        (None, Some(version)) => (Some(version), Some("`docker info`")),
        (None, None) => {
            let version = ["dockerd", "/usr/sbin/dockerd"]
                .iter()
                .find_map(|program| first_version(&printed(program, &["--version"])?));
            (version, version.map(|_| "`dockerd --version`"))
        }
    };
    Found { version, store: store.or(told_store), by }
}

/// Which store a daemon's driver status tells of.
fn store_of(info: &str) -> Store {
    if info.contains("io.containerd.snapshotter") { Store::Containerd } else { Store::Classic }
}

/// What a program prints on standard output; `None` if it is not there or fails.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first word that is a version.
fn first_version(text: &str) -> Option<Version> {
    text.split([' ', ',', '\n']).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        for (text, expected) in [
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1", "1.6.20"),
            ("containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e", "2.1.4"),
            ("containerd containerd.io 1.7.27 05044ec0a9a7", "1.7.27"),
            ("Docker version 20.10.24+dfsg1, build 5d6db84", "20.10.24"),
            ("28.0.0-rc.1 [[\"driver-type\",\"io.containerd.snapshotter.v1\"]]", "28.0.0"),
        ] {
            assert_eq!(first_version(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!("1.7".parse(), Ok(Version::new(1, 7)));
        for text in ["", "1", "x.1", "1.2.3.4", "1.-2"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!(first_version("no version is here"), None);
    }

    #[test]
    fn the_store_is_read_from_the_driver_status() {
        let snapshotter = "28.3.0 [[\"driver-type\",\"io.containerd.snapshotter.v1\"]]";
        assert_eq!(store_of(snapshotter), Store::Containerd);
        assert_eq!(store_of("28.3.0 [[\"Backing Filesystem\",\"extfs\"]]"), Store::Classic);
    }

    #[test]
    fn nothing_is_asked_where_another_root_is_meant() {
        let nothing = Found { version: None, store: None, by: None };
        assert_eq!(containerd(None, false), nothing);
        assert_eq!(docker(None, None, false), nothing);
        let given = docker(Some(Version::new(28, 0)), None, false);
        assert_eq!((given.version, given.by), (Some(Version::new(28, 0)), Some("--version")));
    }
}
