//! What befalls an immutag: a disk without space, a ledger that failed.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::content::{Image, Manifest};
use crate::support::process::{Daemon, run};

use super::stage::{Stage, TAG};

/// A small disk, in a world of the test's own.
pub(super) struct SmallDisk(TempDir);

impl SmallDisk {
    /// Of 64 MiB.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder.path());
        run(&mut mount).ok();
        Self(folder)
    }

    /// A data directory on it.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Leaves no space on it.
    pub(super) fn fill(&self) {
        write_until_full(&self.filler());
    }

    /// Takes away what filled it.
    pub(super) fn clear(&self) {
        std::fs::remove_file(self.filler()).expect("our own file");
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

fn write_until_full(path: &Path) {
    let mut file = File::create(path).expect("our own directory");
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

/// Uses up the space that the ledger has reserved: with first sights of ever smaller manifests,
/// until it does not take the smallest.
pub(super) fn use_up(stage: &Stage) {
    for size_bytes in [1 << 20, 128 << 10, 16 << 10, 2 << 10, 0] {
        for n in 0.. {
            let tag = format!("filler-{size_bytes}-{n}");
            let image = padded(&tag, size_bytes);
            stage.hub.push("filler/hold", &tag, &image);
            let answer = stage.immutag.direct_manifest("docker.io", "filler/hold", &tag);
            if answer.status != 200 {
                assert_eq!(answer.field("immutag-reason"), Some("LEDGER_UNAVAILABLE"));
                break;
            }
        }
    }
}

/// A small image whose manifest is at least so large.
fn padded(seed: &str, size_bytes: usize) -> Image {
    let image = Image::new(seed);
    let text = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("it is JSON");
    let body = text.strip_suffix('}').expect("it is an object");
    let padding = "x".repeat(size_bytes);
    let text = format!(r#"{body},"annotations":{{"padding":"{padding}"}}}}"#);
    Image { manifest: Manifest::new(&image.manifest.media_type, text), ..image }
}

/// The disk says to one write of the ledger that it was lost: that is final until a restart.
pub(super) fn fail_ledger(stage: &Stage) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]);
    command.args(["-p", &stage.immutag.id().to_string()]);
    let mut strace = Daemon::start(&mut command, &folder.path().join("log"));
    strace.wait_until("strace is attached", |strace| strace.log().contains("attached"));
    stage.hub.push("filler/hold", TAG, &Image::new("filler"));
    let answer = stage.immutag.direct_manifest("docker.io", "filler/hold", TAG);
    assert_eq!(answer.field("immutag-reason"), Some("LEDGER_UNAVAILABLE"), "{}", strace.log());
    strace.signal(rustix::process::Signal::INT);
    strace.wait();
}
