//! Power cuts, as ext4's shutdown makes them: what was not synced is gone at once.

use std::fs;
use std::path::Path;

use super::common::{Mount, is_long, options, random, run};
use super::crash::{Acknowledged, Pinner, check};

/// `EXT4_IOC_SHUTDOWN`; 2 throws the journal's unwritten part away, 1 writes it out first.
const SHUT_DOWN: &str = "\
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', int(sys.argv[2])))
";

fn make_disk(image: &Path) -> bool {
    let file = fs::File::create(image).unwrap();
    file.set_len(96 << 20).unwrap();
    run(&["mkfs.ext4", "-q", "-F", image.to_str().unwrap()]).is_some()
}

fn mount(image: &Path, at: &Path) -> Option<Mount> {
    let (image, name) = (image.to_str().unwrap(), at.to_str().unwrap());
    run(&["mount", "-t", "ext4", "-o", "loop", image, name])?;
    Some(Mount(at.to_owned()))
}

#[tokio::test]
async fn no_acknowledged_pin_is_lost_by_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("disk"), dir.path().join("mounted"));
    fs::create_dir(&at).unwrap();
    if !make_disk(&image) || mount(&image, &at).is_none() {
        println!("SKIPPED: no ext4 image can be made and mounted here");
        return;
    }
    let mut acknowledged = Acknowledged::new();
    for round in 0..if is_long() { 200 } else { 10 } {
        let mounted = mount(&image, &at).expect("it could be mounted before");
        let data = at.join("data");
        let mut pinner = Pinner::start(&data);
        pinner.run(&mut acknowledged, 20 + random(40));
        let how = if round % 3 == 2 { "1" } else { "2" };
        if run(&["python3", "-c", SHUT_DOWN, at.to_str().unwrap(), how]).is_none() {
            println!("SKIPPED: this kernel or machine cannot shut a file system down");
            return;
        }
        pinner.kill(&mut acknowledged);
        drop(mounted);
        let mounted = mount(&image, &at).expect("ext4 replays its journal");
        check(&options(&data), &acknowledged).await;
        drop(mounted);
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}
