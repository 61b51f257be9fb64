//! Which version of a client the settings are for.

use crate::cli::clients::{DockerStore, Version, printed};

/// Where the dockerd whose settings are written listens.
const SOCKET: &str = "unix:///var/run/docker.sock";

/// What is known of an installed client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: Option<Version>,
    pub(super) store: Option<DockerStore>,
    /// How it is known, for words; `None`: it is not.
    pub(super) by: Option<&'static str>,
}

/// containerd's version: as given, else as the installed program says.
pub(super) fn containerd(given: Option<Version>, may_ask: bool) -> Found {
    if given.is_some() {
        return Found { version: given, store: None, by: Some("--version") };
    }
    let printed = if may_ask { printed("containerd", &["--version"]) } else { None };
    let version = printed.as_deref().and_then(Version::find_in);
    Found { version, store: None, by: version.map(|_| "`containerd --version`") }
}

/// Docker's version and store: as given, else as the running daemon or the program says.
pub(super) fn docker(given: Option<Version>, store: Option<DockerStore>, may_ask: bool) -> Found {
    if !may_ask || (given.is_some() && store.is_some()) {
        return Found { version: given, store, by: given.map(|_| "--version") };
    }
    let format = "{{.ServerVersion}} {{json .DriverStatus}}";
    // The daemon of this host: a context or $DOCKER_HOST may name another.
    let info = printed("docker", &["--host", SOCKET, "info", "--format", format]);
    let told = info.as_deref().and_then(Version::find_in);
    let told_store = told.and(info.as_deref()).map(store_of);
    let (version, by) = match (given, told) {
        (Some(version), _) => (Some(version), Some("--version")),
        (None, Some(version)) => (Some(version), Some("`docker info`")),
        (None, None) => {
            let version = ["dockerd", "/usr/sbin/dockerd"]
                .iter()
                .find_map(|program| Version::find_in(&printed(program, &["--version"])?));
            (version, version.map(|_| "`dockerd --version`"))
        }
    };
    Found { version, store: store.or(told_store), by }
}

/// Which store a daemon's driver status tells of.
fn store_of(info: &str) -> DockerStore {
    if info.contains("io.containerd.snapshotter") {
        DockerStore::Containerd
    } else {
        DockerStore::Classic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_read_from_the_driver_status() {
        let snapshotter = "28.3.0 [[\"driver-type\",\"io.containerd.snapshotter.v1\"]]";
        assert_eq!(store_of(snapshotter), DockerStore::Containerd);
        assert_eq!(store_of("28.3.0 [[\"Backing Filesystem\",\"extfs\"]]"), DockerStore::Classic);
    }

    #[test]
    fn nothing_is_asked_where_another_root_is_meant() {
        let nothing = Found { version: None, store: None, by: None };
        assert_eq!(containerd(None, false), nothing);
        assert_eq!(docker(None, None, false), nothing);
        let given = docker(Some(Version(28, 0, 0)), None, false);
        assert_eq!((given.version, given.by), (Some(Version(28, 0, 0)), Some("--version")));
    }
}
