//! The sidecar of a job: one step starts it in the background, one ends it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Call, get};
use crate::support::process::{Daemon, Ran, have, kill, run};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// Runs a command, and ends what it left in the background at the latest with the test.
struct Sidecar {
    setup: Setup,
}

impl Sidecar {
    fn new() -> Self {
        Self { setup: Setup::new() }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ran {
        self.setup.run(arguments)
    }

    /// `serve --detach --wait`; what it says.
    #[track_caller]
    fn start(&self) -> Value {
        let ran = self.run(&["serve", "--detach", "--wait"]).ok();
        ran.stdout.parse().expect("one line of JSON")
    }

    fn data(&self, name: &str) -> PathBuf {
        self.setup.data().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data("immutag.log")).unwrap_or_default()
    }

    fn pid_in_file(&self) -> Option<u32> {
        std::fs::read_to_string(self.data("immutag.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Those of this test alone: no other has its data directory.
        let ours = self.setup.data().display().to_string();
        for pid in processes().filter(|pid| command_line(*pid).contains(&ours)) {
            kill(pid, Signal::KILL);
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux has it");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether it runs: one that has ended and that nobody waited for does not, as soon as its last
/// thread has let go of its files.
fn runs(pid: u32) -> bool {
    const THREADS: usize = 17;
    stat(pid).is_some_and(|fields| fields[0] != "Z" || !["0", "1"].contains(&&*fields[THREADS]))
}

/// State, parent, group, session and more.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn pid(said: &Value) -> u32 {
    said["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process")
}

fn open_file(pid: u32, number: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("it is open")
}

fn code(ran: &Ran) -> Option<i32> {
    ran.status.code()
}

#[test]
fn a_shell_step_starts_it_ends_and_leaves_it_serving_and_another_ends_it() {
    let sidecar = Sidecar::new();
    let toml = sidecar.setup.file("immutag.toml", &sidecar.setup.toml());
    // A shell waits until nobody has the other end of `$( )`, and this test for the shell's output.
    let script = r#"out=$("$1" serve --detach --wait --config "$2" --data-dir "$3"); echo "$out""#;
    let mut shell = Command::new("sh");
    shell.args(["-euc", script, "step", env!("CARGO_BIN_EXE_immutag")]);
    let ran = run(shell.arg(toml).arg(sidecar.setup.data())).ok();
    let said: Value = ran.stdout.parse().expect("one line of JSON");

    let mirror = format!("http://{}", sidecar.setup.addresses().mirror);
    assert_eq!(said["listeners"][0]["url"], mirror, "{said}");
    assert_eq!(get(&format!("{mirror}/v2/")).status, 200);
    let id = pid(&said);
    assert_eq!(stat(id).expect("it runs")[3], id.to_string(), "its session is its own");
    assert_eq!([0, 1].map(|number| open_file(id, number)), ["/dev/null"; 2].map(PathBuf::from));
    assert_eq!(open_file(id, 2), sidecar.data("immutag.log"));
    assert_eq!(said["log"], sidecar.data("immutag.log").display().to_string());
    let mode = std::fs::metadata(sidecar.data("immutag.log")).expect("a log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(sidecar.pid_in_file(), Some(id));
    assert!(sidecar.log().contains("is serving"), "{}", sidecar.log());

    let stopped = sidecar.run(&["stop"]).ok();
    assert_eq!(stopped.stdout, format!("{{\"pid\":{id},\"is-clean\":true}}\n"));
    assert!(!runs(id));
    assert_eq!(sidecar.pid_in_file(), None);
    let again = sidecar.run(&["stop"]).failed_with("there is nothing to stop");
    assert_eq!(code(&again), Some(1));
}

#[test]
fn without_wait_it_is_started_and_a_stop_right_behind_finds_it() {
    let sidecar = Sidecar::new();
    let said: Value = sidecar.run(&["serve", "--detach"]).ok().stdout.parse().expect("JSON");
    assert!(said.get("listeners").is_none(), "{said}");
    assert_eq!(stat(pid(&said)).expect("it runs")[3], pid(&said).to_string());
    // It may not have its socket yet, or not even the data directory: then there is nothing to stop.
    eventually("it is stopped", || sidecar.run(&["stop"]).status.success());
    assert!(!runs(pid(&said)));
}

/// What `serve --detach --wait` says when it fails.
#[track_caller]
fn refused(sidecar: &Sidecar, more: &[&str], expected: i32, words: &str) {
    let ran = sidecar.run(&[&["serve", "--detach", "--wait"], more].concat()).failed_with(words);
    assert_eq!(code(&ran), Some(expected), "{ran:#?}");
    assert_eq!(ran.stdout, "");
    let last = sidecar.log().lines().last().unwrap_or_default().to_owned();
    assert!(ran.stderr.contains(&last), "{last} is not in {ran:#?}");
}

#[test]
fn a_start_that_fails_says_why_with_its_exit_code_and_leaves_nothing_behind() {
    let sidecar = Sidecar::new();
    let lock = sidecar.setup.file("images.lock", "{\n  \"version\": 1,\n  \"images\": {oops}\n}\n");
    let lock = lock.to_str().expect("a path in ASCII");
    refused(&sidecar, &["--lock", lock], 2, "at line 3 column 14");
    refused(&sidecar, &["--pid-file", "/no/such/folder/pid"], 1, "cannot be written");
    // What the configuration says wrong is told before there is a log.
    let ran = sidecar.run(&["serve", "--detach", "--locked"]).failed_with("set lock.file");
    assert_eq!(code(&ran), Some(2));
    let taken = std::net::TcpListener::bind(sidecar.setup.addresses().direct).expect("it is free");
    refused(&sidecar, &[], 1, "cannot listen on");
    drop(taken);
    assert_eq!(sidecar.pid_in_file(), None);
    sidecar.run(&["stop"]).failed_with("there is nothing to stop");
    let said = sidecar.start();
    refused(&sidecar, &[], 1, &format!("process {}", pid(&said)));
    assert_eq!(sidecar.pid_in_file(), Some(pid(&said)), "the file of the one that serves");
    assert!(runs(pid(&said)));
}

#[test]
fn what_does_not_serve_in_time_is_ended() {
    let sidecar = Sidecar::new();
    // A disk that does not answer: the start reads the anchor, and nobody ever writes to this one.
    let data = sidecar.setup.data();
    std::fs::create_dir_all(data).expect("our own directory");
    run(Command::new("mkfifo").arg(data.join("anchor"))).ok();
    let arguments = ["serve", "--detach", "--wait", "--wait-timeout", "300ms"];
    let ran = sidecar.run(&arguments).failed_with("did not serve in time");
    assert_eq!(code(&ran), Some(1));
    let ours = sidecar.setup.data().display().to_string();
    assert_eq!(processes().filter(|pid| command_line(*pid).contains(&ours)).count(), 0);
}

#[test]
fn a_stale_pid_file_and_socket_are_no_obstacle_and_no_ground_for_a_signal() {
    let sidecar = Sidecar::new();
    let folder = sidecar.setup.file("immutag.toml", "");
    let mut bystander =
        Daemon::start(Command::new("sleep").arg("1000"), &folder.with_file_name("bystander"));
    let first = pid(&sidecar.start());
    kill(first, Signal::KILL);
    eventually("it is gone", || !runs(first));
    assert_eq!(sidecar.pid_in_file(), Some(first));
    std::fs::write(sidecar.data("immutag.pid"), bystander.id().to_string()).expect("our file");
    sidecar.run(&["stop"]).failed_with("there is nothing to stop");
    assert!(bystander.is_alive());
    let second = pid(&sidecar.start());
    assert_eq!(sidecar.pid_in_file(), Some(second));
    sidecar.run(&["stop"]).ok();
    assert!(bystander.is_alive() && !runs(second));
}

#[test]
fn a_server_in_the_foreground_is_stopped_too() {
    let mut immutag = Setup::new().start();
    let stopped = immutag.cli(&["stop"]).ok();
    assert!(stopped.stdout.contains(&format!("\"pid\":{}", immutag.id())), "{stopped:#?}");
    assert!(immutag.wait().success());
    assert!(!immutag.data_dir().join("immutag.pid").exists(), "nobody asked for one");
}

#[test]
fn stops_that_race_end_it_once_and_cleanly() {
    let sidecar = Sidecar::new();
    let id = pid(&sidecar.start());
    let all: Vec<Ran> = std::thread::scope(|scope| {
        let stops: Vec<_> = (0..6).map(|_| scope.spawn(|| sidecar.run(&["stop"]))).collect();
        stops.into_iter().map(|stop| stop.join().expect("it does not panic")).collect()
    });
    assert!(!runs(id));
    let named: Vec<_> = all.iter().filter(|ran| ran.stdout.contains("\"pid\":")).collect();
    let ended = named.iter().filter(|ran| ran.stdout.contains(&id.to_string()));
    assert_eq!(ended.count(), 1, "{all:#?}");
    for ran in &all {
        let is_late = code(ran) == Some(1) && ran.stderr.contains("nothing to stop");
        assert!(code(ran) == Some(0) || is_late, "{ran:#?}");
    }
    assert!(!sidecar.log().contains("a second signal"), "{}", sidecar.log());
}

#[test]
fn a_pull_that_runs_is_cut_off_when_the_time_is_over() {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "1.0.0", "a");
    let sidecar = Sidecar { setup: Setup::new().upstream(REGISTRY, &registry.url()) };
    let id = pid(&sidecar.start());
    let gate = Gate::closed();
    registry.fault("GET app/manifests/", Fault::Hold(gate.clone()));
    let mirror = sidecar.setup.addresses().mirror;
    let url = format!("http://{mirror}/v2/app/manifests/1.0.0?ns={REGISTRY}");
    let pull = std::thread::spawn(move || Call::new("GET", &url).try_send().map(|it| it.status));
    gate.wait_for(1);
    let stopped = sidecar.run(&["stop", "--timeout", "0s"]).ok();
    assert_eq!(stopped.stdout, format!("{{\"pid\":{id},\"is-clean\":false}}\n"));
    assert!(!runs(id));
    assert!(pull.join().expect("it does not panic").is_err(), "it was answered");
    gate.open();
}

#[test]
fn a_server_that_one_may_not_ask_is_not_stopped() {
    if !have(&["setpriv"]) || !rustix::process::geteuid().is_root() {
        return;
    }
    let sidecar = Sidecar::new();
    let id = pid(&sidecar.start());
    let nobody = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(sidecar.data("admin.sock"), nobody).expect("our own file");
    // A root whom modes of files bind.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    command.args(["--inh-caps", "-dac_override,-dac_read_search"]);
    command.arg(env!("CARGO_BIN_EXE_immutag")).arg("stop").args(["--data-dir"]);
    let ran = run(command.arg(sidecar.setup.data()).current_dir(sidecar.setup.data()));
    let ran = ran.failed_with("run this as the server's user, or as root");
    assert_eq!(code(&ran), Some(1));
    assert!(runs(id));
}

#[test]
fn it_says_what_its_lock_file_holds_and_where_its_ledger_is() {
    let sidecar = Sidecar::new();
    let digest = format!("sha256:{}", "a".repeat(64));
    let locked = format!("\"registry.example/app:1.0.0\": {{\"digest\": \"{digest}\"}}");
    let text = format!("{{\n  \"version\": 1,\n  \"images\": {{\n    {locked}\n  }}\n}}\n");
    let lock = sidecar.setup.file("images.lock", &text);
    let lock = lock.to_str().expect("a path in ASCII");
    let memory = ["serve", "--detach", "--wait", "--ledger", "memory"];
    sidecar.run(&[&memory[..], &["--lock", lock, "--locked"]].concat()).ok();
    let held = format!("Lock file {lock}: 1 reference is held to it; what is not in it");
    assert!(sidecar.log().contains(&held), "{}", sidecar.log());
    assert!(sidecar.log().contains("in memory"), "{}", sidecar.log());
    let metrics = get(&format!("http://{}/metrics", sidecar.setup.addresses().admin)).text();
    for line in ["immutag_lock_enforced 1", "immutag_lock_references 1"] {
        assert!(metrics.lines().any(|told| told == line), "no {line}");
    }
    sidecar.run(&["stop"]).ok();
    sidecar.run(&memory).ok();
    assert!(sidecar.log().contains("trusts every tag anew"), "{}", sidecar.log());
    sidecar.run(&["stop"]).ok();
}

#[test]
fn validate_reads_the_lock_file_and_tells_ledger_audit_and_journal() {
    let told = |images: &str| {
        let setup = Setup::new().tables("[ledger]\nstore = \"memory\"");
        let setup = setup.tables("[lock]\nfile = \"images.lock\"\nlocked = true");
        setup.file("images.lock", &format!("{{\n\"version\": 1,\n\"images\": {images}}}"));
        (setup.run(&["validate", "--json"]), setup.run(&["validate", "--table"]))
    };
    let (json, table) = told("{}");
    let json: Value = json.ok().stdout.parse().expect("one line of JSON");
    assert_eq!((&json["ledger"], &json["lock"]["references"]), (&"memory".into(), &0.into()));
    assert_eq!(json["lock"]["is-locked"], true);
    assert_eq!(json["audit"]["interval-seconds"], 0);
    assert_eq!(json["journal"]["keep-seconds"], 90 * 24 * 3600);
    let table = table.ok().stdout;
    for words in ["in memory", "0 references; what is not in it is refused", "noted for 90d"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let (json, table) = told("{\"app\": 1}");
    assert_eq!((code(&json), code(&table)), (Some(2), Some(2)));
    let problem: Value = json.stdout.parse().expect("one line of JSON");
    assert_eq!(problem["key"], "lock.file");
    assert!(problem["problem"].as_str().is_some_and(|it| it.contains("line 3")), "{problem}");
    assert!(table.stderr.contains("images.lock cannot be used"), "{table:#?}");
}

#[test]
fn while_one_stop_waits_another_sends_no_second_signal() {
    use rustix::fs::{FlockOperation, flock};
    let sidecar = Sidecar::new();
    let id = pid(&sidecar.start());
    let turn = std::fs::File::open(sidecar.setup.data()).expect("our own directory");
    flock(&turn, FlockOperation::LockExclusive).expect("nobody stops it yet");
    sidecar.run(&["stop", "--timeout", "0s"]).failed_with("another `immutag stop` waits");
    assert!(runs(id) && !sidecar.log().contains("draining"), "{}", sidecar.log());
    drop(turn);
    sidecar.run(&["stop"]).ok();
    assert!(!runs(id));
}
