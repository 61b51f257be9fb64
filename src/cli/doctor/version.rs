//! Which version of a program is on a host.

use super::files::Files;
use crate::cli::clients::Version;

/// The most that is read of a package database, in bytes.
const DATABASE_LIMIT: u64 = 64 << 20;

/// As people write it.
pub(super) fn words(version: Option<Version>) -> String {
    version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string())
}

/// What Debian's package database says of the first of these packages that is installed.
pub(super) fn of_package(files: &Files, packages: &[&str]) -> Option<Version> {
    let status = files.bytes("/var/lib/dpkg/status", DATABASE_LIMIT).ok()??;
    let status = String::from_utf8_lossy(&status);
    let entries = status.split("\n\n");
    let of = |name: &str| {
        let entry = entries.clone().find(|entry| field(entry, "Package") == Some(name))?;
        field(entry, "Status").filter(|status| status.ends_with(" installed"))?;
        Version::find_in(field(entry, "Version")?)
    };
    packages.iter().find_map(|name| of(name))
}

fn field<'t>(entry: &'t str, name: &str) -> Option<&'t str> {
    let after = |line: &'t str| line.strip_prefix(name)?.strip_prefix(':');
    entry.lines().find_map(after).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_removed_has_no_version() {
        let status = "Package: containerd\nStatus: deinstall ok config-files\nVersion: 1.6.20\n\n\
                      Package: containerd.io\nStatus: install ok installed\nVersion: 1.7.27-1\n";
        let path = "/var/lib/dpkg/status".to_owned();
        let files = Files::Texts([(path, status.into())].into());
        assert_eq!(of_package(&files, &["containerd", "containerd.io"]), Some(Version(1, 7, 27)));
        assert_eq!(of_package(&files, &["docker.io"]), None);
    }
}
