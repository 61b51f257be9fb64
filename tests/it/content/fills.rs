//! Fills: resumed where they broke off, stopped when nobody reads them, and only so many at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{REGISTRY, RULES, Stage, eventually_cached};
use crate::support::content::Blob;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::Call;
use crate::support::registry::ScriptedRegistry;
use crate::support::server::Ending;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const SIZE: usize = 300_000;

/// An immutag whose upstream has more lines of configuration.
fn stage(upstream: &str, tables: &str) -> Stage {
    let registry = ScriptedRegistry::start();
    let setup = Setup::new().upstream_with(REGISTRY, &registry.url(), upstream).rules(RULES);
    Stage { immutag: setup.tables(tables).start(), registry }
}

/// A client that asked for a blob and reads no more of it than its first byte.
fn begin(stage: &Stage, blob: &Blob) -> TcpStream {
    let client = TcpStream::connect(stage.immutag.addresses().mirror).expect("it listens");
    let target = format!("/v2/app/blobs/{}?ns={REGISTRY}", blob.digest);
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    (&client).write_all(request.as_bytes()).expect("it reads");
    (&client).read_exact(&mut [0; 1]).expect("it answers");
    client
}

fn ranges(stage: &Stage) -> Vec<Option<String>> {
    let requests = stage.registry.requests();
    let blobs = requests.iter().filter(|it| it.method == "GET" && it.path.contains("/blobs/"));
    blobs.map(|request| request.fields.get("Range").map(str::to_owned)).collect()
}

#[test]
fn a_body_that_breaks_off_goes_on_by_range_and_its_reader_only_waits() {
    let stage = Stage::new();
    for (number, at) in [0, 1, SIZE / 2, SIZE - 1].into_iter().enumerate() {
        let blob = stage.blob(&format!("cut {number}"), SIZE);
        stage.registry.forget_requests();
        stage.registry.fault_times("GET blobs/", Fault::Cut(at, Ending::Fin), 1);
        let answer = stage.pull(&blob.digest);
        assert!(answer.whole && answer.body == blob.bytes, "{at}");
        let rest = (at > 0).then(|| format!("bytes={at}-"));
        assert_eq!(ranges(&stage), [None, rest], "{at}");
        eventually_cached(&stage, &blob);
    }
    assert!((stage.immutag.metric("immutag_fill_resumes_total", "") - 4.0).abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn an_upstream_without_ranges_is_read_again_from_the_start() {
    let stage = Stage::new();
    let blob = stage.blob("whole", SIZE);
    stage.registry.fault("GET blobs/", super::blobs::without_ranges(&blob));
    stage.registry.fault_times("GET blobs/", Fault::Cut(SIZE / 2, Ending::Fin), 1);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    assert_eq!(stage.registry.count("GET blobs/"), 2);
    stage.finish();
}

#[test]
fn a_rest_of_other_bytes_breaks_the_connection_and_is_not_kept() {
    let stage = Stage::new();
    let blob = stage.blob("right", SIZE);
    let other = Blob::new(crate::support::content::noise("other", SIZE));
    stage.registry.fault_times("GET blobs/", Fault::Cut(SIZE / 2, Ending::Fin), 1);
    // What is asked for next is of another blob, with the right head.
    stage.registry.fault("GET blobs/", Fault::Body(other.bytes.slice(..SIZE / 2)));
    stage.assert_broken(&blob.digest);
    stage.registry.clear_faults();
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    stage.finish();
}

#[test]
fn a_redirect_to_storage_is_followed_anew() {
    let stage = Stage::new();
    let storage = ScriptedRegistry::start();
    let blob = stage.blob("signed", SIZE);
    storage.put_blob("app", &blob.digest, blob.bytes.clone());
    let target = format!("{}/v2/app/blobs/{}", storage.url(), blob.digest);
    stage.registry.fault("GET blobs/", Fault::Redirect(307, target));
    storage.fault_times("GET blobs/", Fault::Cut(SIZE / 2, Ending::Fin), 1);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    assert_eq!((stage.registry.count("GET blobs/"), storage.count("GET blobs/")), (2, 2));
    stage.finish();
}

#[test]
fn a_fill_that_nobody_reads_stops_before_finish_from_and_the_next_client_starts_anew() {
    let stage = stage("", "[cache]\nfinish-from = \"50%\"\n");
    let blob = stage.blob("deserted", SIZE);
    let gate = Gate::closed();
    stage.registry.fault_times("GET blobs/", Fault::HoldBody(SIZE / 3, gate.clone()), 1);
    drop(begin(&stage, &blob));
    stage.immutag.wait_for_metric("immutag_fills_total", "abandoned", 1.0);
    eventually("nothing of the blob", || stage.cached().is_empty());
    assert!(stage.immutag.metric("immutag_fills_running", "").abs() < f64::EPSILON);
    assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
    gate.open();
    stage.finish();
}

#[test]
fn more_than_max_fills_wait_their_turn_and_then_are_told_to_come_back() {
    let stage = stage("header-timeout = \"1s\"\n", "[cache]\nmax-fills = 1\n");
    let [first, second] = ["first", "second"].map(|seed| stage.blob(seed, SIZE));
    let gate = Gate::closed();
    stage.registry.fault_times("GET blobs/", Fault::HoldBody(SIZE / 2, gate.clone()), 1);
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| stage.pull(&first.digest));
        gate.wait_for(1);
        let answer = stage.pull(&second.digest);
        stage.assert_refused(&answer, 503, "TOOMANYREQUESTS", "OVERLOADED");
        assert!(answer.field("retry-after").is_some());
        assert_eq!(stage.registry.count(&format!("GET blobs/{}", second.digest)), 0);
        let waiting = scope.spawn(|| stage.pull(&second.digest));
        stage.immutag.wait_for_metric("immutag_fills_waiting", "", 1.0);
        gate.open();
        assert_eq!(whole.join().unwrap().body, first.bytes);
        assert_eq!(waiting.join().unwrap().body, second.bytes);
    });
    stage.finish();
}

#[test]
fn an_upstreams_bodies_come_no_faster_than_its_rate() {
    let stage = stage("max-bytes-per-second = \"200KB\"\n", "");
    let blobs = ["one", "two"].map(|seed| stage.blob(seed, SIZE));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for blob in &blobs {
            scope.spawn(|| assert_eq!(stage.pull(&blob.digest).body, blob.bytes));
        }
    });
    // 600 kB, less what a last piece of each may run ahead: slower is never wrong.
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    let received = stage.immutag.metric("immutag_upstream_received_bytes_total", REGISTRY);
    assert!((received - 600_000.0).abs() < f64::EPSILON, "{received}");
    stage.finish();
}

#[test]
fn a_reader_from_another_repository_joins_after_its_own_head_succeeded() {
    let stage = Stage::new();
    let blob = stage.blob("shared", SIZE);
    stage.registry.put_blob("other", &blob.digest, blob.bytes.clone());
    stage.registry.put_blob("third", "sha256:00", "x");
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::HoldBody(SIZE / 2, gate.clone()));
    let of = |repository: &str| {
        let path = format!("{repository}/blobs/{}?ns={REGISTRY}", blob.digest);
        Call::new("GET", &stage.immutag.mirror(&path)).send()
    };
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| stage.pull(&blob.digest));
        gate.wait_for(1);
        // Whoever is answered reads the fill: it runs by now.
        drop(begin(&stage, &blob));
        assert_eq!(of("third").status, 404);
        let joined = scope.spawn(|| of("other"));
        stage.registry.wait_for("HEAD blobs/", 2);
        gate.open();
        assert_eq!(joined.join().unwrap().body, blob.bytes);
        assert_eq!(whole.join().unwrap().body, blob.bytes);
    });
    assert_eq!(stage.registry.count("GET blobs/"), 1);
    stage.finish();
}

/// A small disk in memory, until it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        assert!(mount.status().expect("mount is there").success());
        Self(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_blob_costs_its_client_nothing() {
    let disk = Disk::new("64M");
    let registry = ScriptedRegistry::start();
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(RULES);
    let setup = setup.data_dir(disk.0.path()).tables("[cache]\nmin-free = \"0\"\n");
    let stage = Stage { registry, immutag: setup.start() };
    let blob = stage.blob("large", 8 << 20);
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::HoldBody(1 << 20, gate.clone()));
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| stage.pull(&blob.digest));
        gate.wait_for(1);
        let mut filler = std::fs::File::create(disk.0.path().join("filler")).unwrap();
        while filler.write_all(&[0; 8 << 10]).is_ok() {}
        gate.open();
        let answer = whole.join().unwrap();
        assert!(answer.whole && answer.body == blob.bytes, "{}", answer.body.len());
    });
    stage.immutag.wait_for_metric("immutag_fills_total", "failed", 1.0);
    eventually("nothing of the blob", || stage.cached().is_empty());
}
