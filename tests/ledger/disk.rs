//! Full disks, and disks that fail.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use immutag::ledger::{Disk, LedgerError, LedgerStore, LogFile, OpenOptions, RealDisk};

use super::common::{Mount, assert_filled, filled, key, open, options, pin, run, try_open};

/// A disk that can be told to fail.
#[derive(Default)]
struct Faulty(Arc<AtomicU8>);

const SOUND: u8 = 0;
const SYNC_FAILS: u8 = 1;
const SYNC_FAILS_AND_LOSES: u8 = 2;
const WRITE_FAILS_HALF_WAY: u8 = 3;
const NO_SPACE: u8 = 4;
const DELETED: u8 = 5;

struct FaultyFile(Box<dyn LogFile>, Arc<AtomicU8>);

impl Disk for Faulty {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn LogFile>> {
        let file = RealDisk.open(path, create)?;
        Ok(Box::new(FaultyFile(file, self.0.clone())))
    }
}

impl FaultyFile {
    fn is(&self, fault: u8) -> bool {
        self.1.load(Ordering::SeqCst) == fault
    }
}

impl LogFile for FaultyFile {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is(SYNC_FAILS_AND_LOSES) {
            return Ok(());
        }
        if self.is(WRITE_FAILS_HALF_WAY) {
            self.0.write(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("injected"));
        }
        self.0.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.is(SYNC_FAILS) || self.is(SYNC_FAILS_AND_LOSES) {
            return Err(io::Error::other("injected"));
        }
        self.0.sync()
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        if self.is(NO_SPACE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.reserve(offset, length)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(!self.is(DELETED) && self.0.is_linked()?)
    }
}

fn faulty(dir: &Path) -> (OpenOptions, Arc<AtomicU8>) {
    let fault = Arc::new(AtomicU8::new(SOUND));
    let disk = Arc::new(Faulty(fault.clone()));
    (OpenOptions { disk, segment_size_bytes: 1 << 20, ..options(dir) }, fault)
}

#[tokio::test]
async fn a_failed_write_or_sync_is_final_until_a_restart() {
    for kind in [SYNC_FAILS, SYNC_FAILS_AND_LOSES, WRITE_FAILS_HALF_WAY, DELETED] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 3).await;
        let (options, fault) = faulty(dir.path());
        let ledger = try_open(&options).unwrap();
        fault.store(kind, Ordering::SeqCst);
        let error = pin(&ledger, "lost").await.unwrap_err();
        assert!(matches!(error, LedgerError::Failed(_)), "{error}");
        fault.store(SOUND, Ordering::SeqCst);
        assert!(matches!(pin(&ledger, "later").await, Err(LedgerError::Failed(_))));
        assert!(ledger.status().failure.is_some());
        assert_eq!(ledger.state(&key("lost")).await.unwrap(), None);
        assert_filled(&ledger, 3).await;
        ledger.close().await;
        let ledger = open(dir.path());
        assert_filled(&ledger, 3).await;
        assert_eq!(ledger.status().failure, None);
        assert_eq!(ledger.state(&key("later")).await.unwrap(), None);
        pin(&ledger, "t3").await.unwrap();
        assert_filled(&ledger, 4).await;
    }
}

/// Pins until there is no space; returns how many were written.
async fn pin_until_full(ledger: &immutag::ledger::FileLedger) -> usize {
    for n in 0.. {
        match pin(ledger, &format!("t{n}")).await {
            Ok(_) => {}
            Err(LedgerError::Full(_)) => return n,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

async fn until_written(ledger: &immutag::ledger::FileLedger, tag: &str) {
    let started = Instant::now();
    while let Err(error) = pin(ledger, tag).await {
        assert!(matches!(error, LedgerError::Full(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_space_reserved_space_is_used_up_and_then_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (options, fault) = faulty(dir.path());
    let ledger = try_open(&options).unwrap();
    fault.store(NO_SPACE, Ordering::SeqCst);
    let written = pin_until_full(&ledger).await;
    assert!(written > 100, "{written}");
    assert_filled(&ledger, written).await;
    assert!(ledger.status().failure.is_some());
    fault.store(SOUND, Ordering::SeqCst);
    let started = Instant::now();
    while ledger.status().failure.is_some() {
        assert!(started.elapsed() < Duration::from_secs(10), "it does not look again by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_written(&ledger, &format!("t{written}")).await;
    assert_filled(&ledger, written + 1).await;
    ledger.close().await;
    assert_filled(&open(dir.path()), written + 1).await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_pins_only_and_is_well_again_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = dir.path().join("small");
    fs::create_dir(&mounted).unwrap();
    let name = mounted.to_str().unwrap();
    if run(&["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", name]).is_none() {
        println!("SKIPPED: no file system can be mounted here");
        return;
    }
    let mount = Mount(mounted);
    let data = mount.0.join("data");
    let options = OpenOptions { segment_size_bytes: 1 << 20, ..options(&data) };
    let ledger = try_open(&options).unwrap();
    pin(&ledger, "t0").await.unwrap();
    fill(&mount.0.join("filler"));
    let written = pin_until_full(&ledger).await;
    for n in 0..written {
        let state = ledger.state(&key(&format!("t{n}"))).await.unwrap();
        assert!(state.unwrap().pin.is_some(), "pinned tags go on");
    }
    fs::remove_file(mount.0.join("filler")).unwrap();
    until_written(&ledger, &format!("t{written}")).await;
    assert_filled(&ledger, written + 1).await;
    ledger.close().await;
    assert_filled(&try_open(&options).unwrap(), written + 1).await;
}

/// Writes until there is no space left.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let mut size = 64 << 10;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

#[tokio::test]
async fn a_data_directory_deleted_under_the_process_fails_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ledger = open(&data);
    pin(&ledger, "t0").await.unwrap();
    // The index's own threads may still make a file while the directory goes.
    while data.exists() {
        let _ = fs::remove_dir_all(&data);
    }
    let error = pin(&ledger, "t1").await.unwrap_err();
    assert!(error.to_string().contains("deleted"), "{error}");
    assert!(ledger.state(&key("t0")).await.unwrap().is_some(), "pinned tags go on");
}
