//! Power cuts, as ext4's shutdown makes them: what was not synced is gone at once.

use std::fs;
use std::path::{Path, PathBuf};

use immutag::blob::BlobStore as _;
use immutag::blob::fs::FsStore;
use immutag::config::Durability;
use immutag::oci::Digest;

use super::common::{Mount, content, options, put, read, run};

/// `EXT4_IOC_SHUTDOWN`; 2 throws the journal's unwritten part away, 1 writes it out first: names
/// and lengths without the bytes.
const SHUT_DOWN: &str = "\
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', int(sys.argv[2])))
";

const SIZE: usize = 300_000;

/// What is stored in one round, by number.
struct Round {
    stored: Vec<(Digest, u64)>,
    held: Vec<(Digest, u64)>,
}

fn fill(store: &FsStore, from: u64) -> Round {
    let all = (from..from + 12).map(|n| (put(store, &content(n, SIZE)).unwrap(), n));
    let stored: Vec<_> = all.collect();
    let held: Vec<_> = stored.iter().step_by(3).copied().collect();
    for (digest, _) in &held {
        store.hold(digest).unwrap();
    }
    Round { stored, held }
}

fn cut(at: &Path, how: &str) -> Option<()> {
    run(&["python3", "-c", SHUT_DOWN, at.to_str().unwrap(), how])
}

/// Looks at content as clients would; how much of it is there, right.
fn check(store: &FsStore, all: &[(Digest, u64)]) -> usize {
    let is_there = |(digest, n): &&(Digest, u64)| match read(store, digest) {
        Some(bytes) => {
            assert!(bytes == content(*n, SIZE), "wrong bytes are served");
            true
        }
        None => false,
    };
    all.iter().filter(is_there).count()
}

/// An empty ext4 file system: its image, and where it is to be mounted.
fn disk(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (image, at) = (folder.join("disk"), folder.join("mounted"));
    fs::create_dir(&at).unwrap();
    fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
    let made = run(&["mkfs.ext4", "-q", "-F", image.to_str().unwrap()]);
    if made.and_then(|()| Mount::ext4(&image, &at)).is_none() {
        println!("SKIPPED: no ext4 image can be made and mounted here");
        return None;
    }
    Some((image, at))
}

#[test]
fn what_an_earlier_run_did_not_sync_is_synced_when_it_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let Some((image, at)) = disk(folder.path()) else { return };
    let mounted = Mount::ext4(&image, &at).expect("it could be mounted before");
    let data = at.join("data");
    let open = |durable, boot_id| FsStore::open_as(&data, options(durable, boot_id, 0)).unwrap();
    let digest = put(&open(Durability::Held, "one boot"), &content(1, SIZE)).unwrap();
    open(Durability::All, "one boot").hold(&digest).unwrap();
    if cut(&at, "1").is_none() {
        println!("SKIPPED: this kernel or machine cannot shut a file system down");
        return;
    }
    drop(mounted);
    let _mounted = Mount::ext4(&image, &at).expect("ext4 replays its journal");
    let found = read(&open(Durability::All, "another boot"), &digest);
    assert!(found == Some(content(1, SIZE)), "held content was lost or is wrong");
}

#[test]
fn after_a_power_cut_no_wrong_byte_is_served_and_what_was_synced_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some((image, at)) = disk(folder.path()) else { return };
    let mut lost = 0;
    let ways = [Durability::Held, Durability::None, Durability::All];
    for (round, durable) in ways.into_iter().cycle().take(9).enumerate() {
        let mounted = Mount::ext4(&image, &at).expect("it could be mounted before");
        let data = at.join("data");
        let open = |boot_id: &str| FsStore::open_as(&data, options(durable, boot_id, 0)).unwrap();
        let store = open(&format!("before {round}"));
        let Round { stored, held } = fill(&store, round as u64 * 100);
        drop(store);
        if cut(&at, if round % 2 == 0 { "1" } else { "2" }).is_none() {
            println!("SKIPPED: this kernel or machine cannot shut a file system down");
            return;
        }
        drop(mounted);
        let mounted = Mount::ext4(&image, &at).expect("ext4 replays its journal");
        let store = open(&format!("after {round}"));
        if round % 3 == 0 {
            store.scan().unwrap();
        }
        let there = check(&store, &stored);
        lost += stored.len() - there;
        match durable {
            Durability::All => assert_eq!(there, stored.len()),
            Durability::Held => assert_eq!(check(&store, &held), held.len()),
            Durability::None => {}
        }
        // What is gone comes anew.
        for (_, n) in &stored {
            put(&store, &content(*n, SIZE)).unwrap();
        }
        assert_eq!(check(&store, &stored), stored.len());
        store.close().unwrap();
        drop(store);
        drop(mounted);
    }
    assert!(lost > 0, "nothing was lost: this shows nothing");
}
