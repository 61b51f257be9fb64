//! The real binary, started as an operator would, watched as a suspicious one would.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use super::http::{Answer, Call, get, raw};
use super::process::{Daemon, Ran, run};
use super::setup::{Addresses, Setup};
use super::wait::within;

/// What it may have resident at most after any fault, in KiB.
const MAX_RESIDENT_KIB: u64 = 128 * 1024;

/// Idle connections to an upstream that its pool may keep open: as many as `max-connections`.
const POOLED: usize = 64;

/// A running immutag; it is killed when it is dropped.
pub(crate) struct Immutag {
    setup: Setup,
    process: Daemon,
    baseline_descriptors: usize,
    may_be_resident_kib: u64,
}

impl Immutag {
    /// Starts it and waits until `/readyz` says 200.
    #[track_caller]
    pub(super) fn start(setup: Setup) -> Self {
        setup.file("immutag.toml", &setup.toml());
        let process = launch(&setup);
        let mut immutag =
            Self { setup, process, baseline_descriptors: 0, may_be_resident_kib: MAX_RESIDENT_KIB };
        immutag.wait_until_ready();
        immutag
    }

    /// Where its listeners are.
    pub(crate) fn addresses(&self) -> Addresses {
        self.setup.addresses()
    }

    /// A URL at the mirror listener; `path` follows `/v2/`.
    pub(crate) fn mirror(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.setup.addresses().mirror)
    }

    /// A URL at the direct listener; `path` follows `/v2/` and begins with the registry.
    pub(crate) fn direct(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.setup.addresses().direct)
    }

    /// A URL at the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.setup.addresses().admin)
    }

    /// `GET`s a manifest at the mirror with a client's usual `Accept`, naming the registry by
    /// `?ns=`.
    #[track_caller]
    pub(crate) fn manifest(&self, registry: &str, repository: &str, reference: &str) -> Answer {
        let path = format!("{repository}/manifests/{reference}?ns={registry}");
        accepting(Call::new("GET", &self.mirror(&path))).send()
    }

    /// `GET`s a manifest at the direct listener with a client's usual `Accept`.
    #[track_caller]
    pub(crate) fn direct_manifest(&self, registry: &str, repository: &str, tag: &str) -> Answer {
        let path = format!("{registry}/{repository}/manifests/{tag}");
        accepting(Call::new("GET", &self.direct(&path))).send()
    }

    /// Sends bytes as they stand; what comes back until it closes or is silent for a second.
    pub(crate) fn raw(listener: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        raw(listener, bytes, Duration::from_secs(1))
    }

    /// Runs the same program with this one's data directory and configuration:
    /// `["ledger", "list"]`.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> Ran {
        let mut command = program(&self.setup);
        run(command.args(arguments).args(common_arguments(&self.setup)))
    }

    /// The samples of `/metrics` by series, `name{label="value"}` as it is printed.
    #[track_caller]
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = get(&self.admin("/metrics"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        parse_metrics(&answer.text())
    }

    /// The sum of all series of a metric whose labels contain `part`; `""`: of all of it.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, part: &str) -> f64 {
        sum(&self.metrics(), name, part)
    }

    /// Waits until that sum is at least `least`.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, part: &str, least: f64) {
        let what = format!("{name}{{…{part}…}} >= {least}");
        super::wait::eventually(&what, || self.metric(name, part) >= least);
    }

    /// All that it has logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the log contains `words`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        super::wait::eventually(&format!("`{words}` in the log"), || self.log().contains(words));
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.setup.data_dir
    }

    /// Ends it as a power cut would, as far as a process can be.
    pub(crate) fn kill9(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait()
    }

    /// What its configuration file says.
    pub(crate) fn configuration(&self) -> String {
        self.setup.toml()
    }

    /// Writes its configuration file anew; it reads it again at SIGHUP.
    pub(crate) fn write_configuration(&self, toml: &str) {
        self.setup.file("immutag.toml", toml);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, however it comes.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Kills it if it runs, and starts it again on the same data and ports.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.restart_with(|setup| setup);
    }

    /// The same with a changed setup.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.kill9();
        let setup = std::mem::replace(&mut self.setup, Setup::new());
        self.setup = change(setup);
        self.setup.file("immutag.toml", &self.setup.toml());
        self.process = launch(&self.setup);
        self.wait_until_ready();
    }

    /// Starts it again and returns how it refuses to: for a start that must fail.
    #[track_caller]
    pub(crate) fn refuse_to_start(&mut self) -> Ran {
        self.kill9();
        refuse_to_start(&self.setup)
    }

    /// What it has resident, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        memory_kib(self.id(), "VmRSS:")
    }

    /// The most that it ever had resident, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        memory_kib(self.id(), "VmHWM:")
    }

    /// It may have so much resident after a fault, for what a test asked of it.
    pub(crate) fn allow_resident_kib(&mut self, most: u64) {
        self.may_be_resident_kib = most;
    }

    /// After a fault: it lives, its memory is bounded, its descriptors are back where they were
    /// after the start, and no secret stands in the log or the metrics.
    #[track_caller]
    pub(crate) fn assert_alive_and_clean(&mut self) {
        self.assert_alive_and_clean_within(Duration::from_secs(20));
    }

    /// The same with another time for the descriptors to come back.
    #[track_caller]
    pub(crate) fn assert_alive_and_clean_within(&mut self, patience: Duration) {
        assert!(self.process.is_alive(), "it ended:\n{}", self.log());
        let live = get(&self.admin("/livez"));
        assert_eq!(live.status, 200, "{}", live.text());
        let resident = self.resident_kib();
        let most = self.may_be_resident_kib;
        assert!(resident <= most, "{resident} KiB are resident, of {most}");
        let (id, allowed) = (self.id(), self.baseline_descriptors);
        let open = || peer_descriptors(id).0;
        let settled = within(patience, || open() <= allowed);
        assert!(settled, "descriptors: {} > {allowed}", open());
        let pooled = peer_descriptors(id).1;
        assert!(pooled <= POOLED, "{pooled} connections to upstreams are open");
        self.assert_no_secret(&self.log());
        self.assert_no_secret(&get(&self.admin("/metrics")).text());
    }

    /// None of the setup's secrets stands in `text`.
    #[track_caller]
    pub(crate) fn assert_no_secret(&self, text: &str) {
        for secret in &self.setup.secrets {
            assert!(!text.contains(secret), "a secret got out: {text}");
        }
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let url = self.admin("/readyz");
        self.process.wait_until("immutag is ready", |_| {
            Call::new("GET", &url).try_send().is_ok_and(|answer| answer.status == 200)
        });
        self.baseline_descriptors = peer_descriptors(self.id()).0;
    }
}

/// `Accept` as containerd and skopeo send it.
pub(crate) fn accepting(call: Call) -> Call {
    use super::content::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    let all = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"].join(", ");
    call.field("Accept", &all)
}

/// Runs the program without a server: `["validate", "--config", "…"]`.
#[track_caller]
pub(crate) fn immutag(arguments: &[&str]) -> Ran {
    run(bare().args(arguments))
}

/// Starts it and returns how it refuses to: a start that must fail.
#[track_caller]
pub(super) fn refuse_to_start(setup: &Setup) -> Ran {
    setup.file("immutag.toml", &setup.toml());
    run(program(setup).arg("serve").args(common_arguments(setup)).args(&setup.arguments))
}

/// Runs the program to its end with this setup.
#[track_caller]
pub(super) fn run_with(setup: &Setup, arguments: &[&str]) -> Ran {
    setup.file("immutag.toml", &setup.toml());
    run(program(setup).args(arguments).args(common_arguments(setup)))
}

fn launch(setup: &Setup) -> Daemon {
    let mut command = program(setup);
    command.arg("serve").args(common_arguments(setup)).args(&setup.arguments);
    Daemon::start(&mut command, &setup.folder.path().join("log"))
}

fn program(setup: &Setup) -> Command {
    let mut command = bare();
    command.current_dir(setup.folder.path()).envs(&setup.environment);
    command
}

/// The binary, with nothing of this machine's environment that could change what it does.
fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_immutag"));
    let own = |name: &str| name.starts_with("IMMUTAG") || name.to_lowercase().ends_with("_proxy");
    for (name, _) in std::env::vars().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    command
}

fn common_arguments(setup: &Setup) -> [PathBuf; 4] {
    let config = setup.folder.path().join("immutag.toml");
    ["--config".into(), config, "--data-dir".into(), setup.data_dir.clone()]
}

/// Open files and sockets but the ledger's (its index opens after the start) and, once each, those
/// of stored blobs (they stay open for a while, for who asks next); and apart from them the
/// connections that it made itself: those to upstreams stay open, idle, in its pool.
fn peer_descriptors(id: u32) -> (usize, usize) {
    let outgoing = outgoing_sockets(id);
    let Ok(entries) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return (0, 0) };
    let is_outgoing = |target: &PathBuf| {
        outgoing.iter().any(|inode| target.as_os_str() == format!("socket:[{inode}]").as_str())
    };
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let targets = targets.filter(|target| !target.iter().any(|part| part == "ledger"));
    let mut at_hand = HashSet::new();
    let targets = targets.filter(|target| {
        let is_stored = target.is_file() && target.iter().any(|part| part == "blobs");
        !is_stored || !at_hand.insert(target.clone())
    });
    let (pooled, open): (Vec<_>, Vec<_>) = targets.partition(is_outgoing);
    (open.len(), pooled.len())
}

/// The inodes of connected sockets whose own port is none of a listening socket's.
fn outgoing_sockets(id: u32) -> Vec<String> {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
    let rows: Vec<Vec<&str>> =
        table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let port = |row: &Vec<&str>| row[1].rsplit(':').next().unwrap_or_default().to_owned();
    let listening: Vec<_> = rows.iter().filter(|row| row[3] == LISTEN).map(port).collect();
    let outgoing = rows.iter().filter(|row| !listening.contains(&port(row)));
    outgoing.map(|row| row[9].to_owned()).collect()
}

fn memory_kib(id: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    samples.filter_map(sample).collect()
}

fn sum(metrics: &BTreeMap<String, f64>, name: &str, part: &str) -> f64 {
    let named = metrics.iter().filter(|(series, _)| {
        let (base, labels) = series.split_once('{').unwrap_or((series, ""));
        base == name && labels.contains(part)
    });
    named.map(|(_, value)| value).sum()
}

#[test]
fn metrics_are_read_by_series_and_summed_by_name() {
    let text = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 4.5\nab 7\nbroken\n";
    let metrics = parse_metrics(text);
    assert_eq!(metrics.len(), 3);
    let sums = [sum(&metrics, "a", ""), sum(&metrics, "a", "x=\"1\""), sum(&metrics, "ab", "")];
    assert_eq!(sums.map(f64::to_bits), [7.5, 3.0, 7.0].map(f64::to_bits));
}
