//! Where a dockerd keeps images, which decides what it asks.

use super::Daemon;
use crate::cli::clients::{DockerStore, Version};
use crate::cli::doctor::node::Value;
use crate::cli::doctor::version::words;

/// From this version on a new installation has containerd's store.
const CONTAINERD_BY_DEFAULT: Version = Version(29, 0, 0);

/// The drivers of containerd's store; every other one is of the classic store.
const SNAPSHOTTERS: [&str; 5] =
    ["fuse-overlayfs-snapshotter", "native", "nydus", "overlayfs", "stargz"];

impl Daemon<'_> {
    /// The store, and how it is known.
    pub(super) fn store(&self) -> (DockerStore, String) {
        let version = self.version();
        if let Some(info) = self.info() {
            let store =
                if info.is_containerd { DockerStore::Containerd } else { DockerStore::Classic };
            return (store, format!("{}, as {} says", name(store), info.place()));
        }
        let feature = self.config.root.entry(&["features", "containerd-snapshotter"]);
        if let Some(entry) = feature
            && let Value::Flag(is_on) = entry.node.value
        {
            let store = if is_on { DockerStore::Containerd } else { DockerStore::Classic };
            return (store, format!("{}, by {}", name(store), self.config.at(entry.line)));
        }
        if let Some(driver) = self.driver() {
            let is_classic = !SNAPSHOTTERS.contains(&driver.as_str());
            let store = if is_classic { DockerStore::Classic } else { DockerStore::Containerd };
            return (store, format!("{}, by the storage driver {driver}", name(store)));
        }
        // An upgrade keeps what there was.
        let data_root = self.value("data-root").unwrap_or_else(|| "/var/lib/docker".to_owned());
        let data_root = self.process.map_or(data_root.clone(), |it| it.path(&data_root));
        let is_upgraded = self.scene.files.exists(&format!("{data_root}/image"));
        let is_new = version.is_some_and(|version| version >= CONTAINERD_BY_DEFAULT);
        let is_remapped = self.value("userns-remap").is_some();
        let is_containerd = is_new && !is_upgraded && !is_remapped;
        let store = if is_containerd { DockerStore::Containerd } else { DockerStore::Classic };
        (store, format!("{}, the default here of dockerd {}", name(store), words(version)))
    }

    /// Its version; of one in a container only what it says itself.
    pub(super) fn version(&self) -> Option<Version> {
        let is_contained = self.process.is_some_and(|process| process.container.is_some());
        let installed = self.scene.version("dockerd").filter(|_| !is_contained);
        self.info().and_then(|info| info.version).or(installed)
    }

    fn driver(&self) -> Option<String> {
        let short = self.process.and_then(|process| process.option("-s").pop());
        self.value("storage-driver").or_else(|| short.map(str::to_owned))
    }

    /// An option: on the command line, else in the file.
    fn value(&self, name: &str) -> Option<String> {
        let flag = self.process.and_then(|process| process.option(&format!("--{name}")).pop());
        let value = flag.or_else(|| self.config.root.text_at(&[name]));
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    }
}

const fn name(store: DockerStore) -> &'static str {
    match store {
        DockerStore::Classic => "the classic store",
        DockerStore::Containerd => "containerd's store",
    }
}
