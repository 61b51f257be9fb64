//! Little memory, and very many connections..

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{REGISTRY, STACK, Stage, at_once, begin, is_long, request, skip};
use crate::support::http::get;
use crate::support::process::raise_file_limit;
use crate::support::wait::within;

const IDLE: usize = 10_000;
const ACTIVE: usize = 1000;
/// What so many may leave resident: 10 KiB for each connection beside the rest.
const RESIDENT_KIB: u64 = (80 << 10) + 10 * (IDLE + ACTIVE) as u64;
/// Downloads of each active client.
const ROUNDS: usize = 2;

#[test]
fn thousands_idle_and_a_thousand_at_work_are_all_served_and_admin_answers() {
    raise_file_limit();
    // Who is idle stays until the test lets it go, however long the rest takes to come.
    let mut stage = Stage::with(|setup| setup.mirror("head-timeout = \"1h\""));
    let blob = stage.blob("active", 100_000);
    stage.assert_pulls(&blob);
    let mirror = stage.immutag.addresses().mirror;
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        // No more than wait to be accepted.
        idle.extend((0..500).map(|_| begin(mirror, "")));
        stage.wait_for_clients(idle.len());
    }
    let (done, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let watch = std::thread::Builder::new().stack_size(STACK);
        let watching = watch.spawn_scoped(scope, || {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(get(&stage.immutag.admin("/readyz")).status, 200);
                assert_eq!(get(&stage.immutag.admin("/metrics")).status, 200);
                answers.fetch_add(1, Ordering::SeqCst);
            }
        });
        at_once(ACTIVE, |_| (0..ROUNDS).for_each(|_| stage.assert_pulls(&blob)));
        done.store(true, Ordering::SeqCst);
        watching.expect("a thread").join().expect("admin answered each time");
    });
    assert!(answers.into_inner() > 0);
    stage.wait_for_clients(IDLE);
    drop(idle);
    stage.immutag.allow_resident_kib(RESIDENT_KIB);
    stage.finish();
}

/// What immutag may take, the cached pages of its files and its sockets' buffers included.
const LIMIT_BYTES: u64 = 128 << 20;

#[test]
fn a_heavy_mix_fits_into_128_mib() {
    raise_file_limit();
    // Before what runs in it: it goes after that.
    let Some(group) = Group::new(LIMIT_BYTES) else {
        return skip("no memory cgroup can be made here");
    };
    let mut stage = Stage::new();
    group.take(stage.immutag.id());
    let size = if is_long() { 256 << 20 } else { 24 << 20 };
    let vast: Vec<_> = (0..8).map(|it| stage.vast(&format!("mix {it}"), size)).collect();
    for number in 0..100 {
        stage.registry.push_image(&format!("app{number}"), "1.0.0", &format!("mix {number}"));
    }
    let mirror = stage.immutag.addresses().mirror;
    let slow: Vec<_> = (0..100)
        .map(|it| begin(mirror, &request(&Stage::target(&vast[it % 8].digest), "")))
        .collect();
    at_once(64, |client| {
        let vast = &vast[client % 8];
        let half = vast.size_bytes / 2;
        let mut at = if client < 32 { 0 } else { half };
        let range = format!("bytes={at}-");
        let answer = stage.call(&vast.digest).field("Range", &range).stream(|bytes| {
            assert!(vast.is_at(at, bytes), "other bytes at {at}");
            at += bytes.len() as u64;
        });
        assert!(answer.expect("an answer").whole && at == vast.size_bytes);
        for number in 0..100 {
            let repository = format!("app{number}");
            let answer = stage.immutag.manifest(REGISTRY, &repository, "1.0.0");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    assert_eq!(group.killed(), 0, "the kernel killed it for its memory");
    drop(slow);
    stage.finish();
}

/// A memory cgroup of the test's own, of either version.
struct Group {
    folder: PathBuf,
    is_second: bool,
}

impl Group {
    /// One with a limit; nothing where the system does not let us.
    fn new(limit_bytes: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_second = root.join("cgroup.controllers").exists();
        let parent = if is_second { root.to_owned() } else { root.join("memory") };
        let folder = parent.join(format!("immutag-test-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let group = Self { folder, is_second };
        let limit = if is_second { "memory.max" } else { "memory.limit_in_bytes" };
        group.write(limit, &limit_bytes.to_string()).then_some(group)
    }

    /// From now on the process counts here, with what it takes from now on.
    fn take(&self, process: u32) {
        assert!(self.write("cgroup.procs", &process.to_string()), "it can be moved");
    }

    /// How many processes the kernel killed in it.
    fn killed(&self) -> u64 {
        let file = if self.is_second { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.folder.join(file)).expect("the kernel counts");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).expect("it counts kills")
    }

    fn write(&self, file: &str, text: &str) -> bool {
        std::fs::write(self.folder.join(file), text).is_ok()
    }
}

impl Drop for Group {
    /// It can go a moment after the last process in it.
    fn drop(&mut self) {
        within(Duration::from_secs(5), || std::fs::remove_dir(&self.folder).is_ok());
    }
}
