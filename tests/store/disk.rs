//! Disks without space, and without inodes. `faults.md`, D-04: the cache stops first.

use std::fs;
use std::path::Path;

use immutag::blob::fs::{Filter, FsStore, Prune};
use immutag::blob::{BlobError, BlobStore as _};
use immutag::config::Durability;
use immutag::oci::Digest;

use super::common::{Mount, content, options, put, read};

const MIB: usize = 1 << 20;

fn free_bytes(at: &Path) -> u64 {
    let disk = rustix::fs::statvfs(at).unwrap();
    disk.f_bavail * disk.f_frsize
}

fn stored(store: &FsStore) -> Vec<Digest> {
    let (listed, _) = store.list(Filter { only_held: false, by_size: false, limit: 10_000 });
    listed.into_iter().map(|one| one.digest).collect()
}

#[test]
fn the_cache_keeps_min_free_and_gives_way_when_others_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&folder.path().join("small"), "size=32m") else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let min_free = 8 * MIB as u64;
    let open = || {
        let options = options(Durability::Held, "boot", min_free);
        FsStore::open_as(&mount.0.join("data"), options).unwrap()
    };
    let store = open();
    let held = put(&store, &content(0, MIB)).unwrap();
    store.hold(&held).unwrap();
    for n in 1..60 {
        put(&store, &content(n, MIB)).unwrap();
        assert!(free_bytes(&mount.0) >= min_free);
    }
    assert!(stored(&store).len() >= 20);
    // Somebody else takes some of what was kept free: the cache gives way, as long as it can.
    for n in 0..3 {
        fs::write(mount.0.join(format!("theirs{n}")), vec![1; 6 * MIB]).unwrap();
        put(&store, &content(60 + n, MIB)).unwrap();
        assert!(free_bytes(&mount.0) >= min_free);
    }
    assert!(stored(&store).len() < 7);
    fs::write(mount.0.join("last"), vec![1; 6 * MIB]).unwrap();
    assert!(matches!(put(&store, &content(70, MIB)), Err(BlobError::Full(_))));
    assert!(store.stats().unwrap().is_full);
    assert_eq!(read(&store, &held), Some(content(0, MIB)));
    fs::remove_file(mount.0.join("last")).unwrap();
    put(&store, &content(70, MIB)).unwrap();
    drop(store);
    let store = open();
    store.scan().unwrap();
    assert!(stored(&store).iter().all(|digest| read(&store, digest).is_some()));
}

#[test]
fn a_disk_that_fills_up_while_content_is_written_leaves_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&folder.path().join("small"), "size=16m") else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let options = options(Durability::All, "boot", 0);
    let store = FsStore::open_as(&mount.0.join("data"), options).unwrap();
    let bytes = content(1, 8 * MIB);
    let claimed = super::common::digest(&bytes);
    let mut staged = store.stage(&claimed, Some(bytes.len() as u64)).unwrap();
    staged.write(&bytes[..MIB]).unwrap();
    fs::write(mount.0.join("theirs"), vec![1; 12 * MIB]).unwrap();
    let failed = bytes[MIB..].chunks(MIB).find_map(|piece| staged.write(piece).err());
    assert!(matches!(failed, Some(BlobError::Io(_))), "{failed:?}");
    drop(staged);
    assert_eq!(read(&store, &claimed), None);
    assert_eq!(fs::read_dir(mount.0.join("data/cache/staged")).unwrap().count(), 0);
    fs::remove_file(mount.0.join("theirs")).unwrap();
    put(&store, &bytes).unwrap();
    assert_eq!(read(&store, &claimed), Some(bytes));
}

#[test]
fn the_last_inodes_are_not_for_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let options_of_mount = "size=64m,nr_inodes=1024";
    let Some(mount) = Mount::tmpfs(&folder.path().join("small"), options_of_mount) else {
        println!("SKIPPED: no file system can be mounted here");
        return;
    };
    let options = options(Durability::None, "boot", 0);
    let store = FsStore::open_as(&mount.0.join("data"), options).unwrap();
    let first = put(&store, &content(0, 100)).unwrap();
    store.hold(&first).unwrap();
    for n in 1..3000 {
        put(&store, &content(n, 100)).unwrap();
    }
    let left = rustix::fs::statvfs(&mount.0).unwrap().f_favail;
    assert!((10..40).contains(&left), "{left}");
    assert!(read(&store, &content_digest(2999)).is_some());
    assert!(read(&store, &content_digest(1)).is_none());
    assert!(read(&store, &first).is_some());
    // Others take the rest of them, and nothing of ours can go any more.
    store.prune(&Prune::ToBytes(50_000), false);
    for digest in stored(&store).into_iter().take(50) {
        store.hold(&digest).unwrap();
    }
    store.prune(&Prune::All, false);
    for n in 0.. {
        if fs::write(mount.0.join(n.to_string()), []).is_err() {
            break;
        }
    }
    assert!(matches!(put(&store, &content(1, 100)), Err(BlobError::Full(_))));
    assert!(store.stats().unwrap().is_full);
}

fn content_digest(n: u64) -> Digest {
    super::common::digest(&content(n, 100))
}
