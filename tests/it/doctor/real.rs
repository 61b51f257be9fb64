//! What the doctor says of a `hosts.toml` is what a real containerd does with it: its fixtures,
//! one by one, in a network where only immutag's address answers, and only with 404.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use regex::Regex;
use serde_json::Value;

use crate::support::process::{Daemon, find, have, run};

const NAME: &str = "doctor::real::what_the_doctor_says_of_hosts_files_is_what_containerd_does";

/// Set in the network of the test's own.
const INSIDE: &str = "IMMUTAG_TEST_INSIDE";

/// The addresses of immutag in the fixtures.
const OURS: [&str; 2] = ["127.0.0.1:5050", "127.0.0.1:5051"];

/// Not about who is asked for a tag of docker.io, or only so in other versions.
const OTHERS: [&str; 3] = [
    "containerd-other-registry-beside",
    "containerd-server-alone-taken",
    "containerd-server-pulls-digests",
];

#[test]
fn what_the_doctor_says_of_hosts_files_is_what_containerd_does() {
    if !have(&["containerd", "ctr", "ip", "unshare"]) || !is_root() {
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let mut command = Command::new(program("unshare"));
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe().expect("this program"));
    let ran = run(command.args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1")).ok();
    assert!(ran.stdout.contains("1 passed"), "{ran:#?}");
}

/// Namespaces and mounts are root's.
#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root || std::env::var("CI").is_err(), "CI must be root");
    if !is_root {
        eprintln!("SKIPPED {NAME}: this is not root");
    }
    is_root
}

fn program(name: &str) -> PathBuf {
    find(name).expect("`have` was asked first")
}

fn inside() {
    run(Command::new(program("ip")).args(["link", "set", "lo", "up"])).ok();
    let asked = answer_404(OURS[0]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let containerd = Containerd::start(folder.path());
    let mut count = 0;
    for (path, expected) in fixtures() {
        asked.lock().expect("nobody panics with it").clear();
        let said = containerd.pull(&path.join("etc/containerd/certs.d"), &expected);
        let is_asked = !asked.lock().expect("nobody panics with it").is_empty();
        let strangers = strangers(&said);
        let holds = match expected["standing"].as_str().expect("a word") {
            "protected" => strangers.is_empty(),
            "hold-only" => !strangers.is_empty() && is_asked,
            _ => !strangers.is_empty(),
        };
        assert!(holds, "{}: {expected:#}\n{said}", path.display());
        count += 1;
    }
    assert!(count >= 20, "{count} fixtures are not all");
}

/// The fixtures whose findings are all about `certs.d`.
fn fixtures() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/doctor");
    let all = std::fs::read_dir(folder).expect("the fixtures");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("expected.json")).expect("what is expected");
        (path, serde_json::from_str(&text).expect("JSON"))
    };
    let fits = |(path, expected): &(PathBuf, Value)| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let findings = expected["findings"].as_array().map_or(&[][..], Vec::as_slice);
        let about = |finding: &&Value| {
            let place = finding["place"].as_str();
            place.is_none_or(|place| place.starts_with("/etc/containerd/certs.d"))
        };
        name.starts_with("containerd-")
            && !OTHERS.contains(&name)
            && !findings.is_empty()
            && findings.iter().filter(about).count() == findings.len()
    };
    all.map(|entry| read(entry.expect("an entry").path())).filter(fits).collect()
}

/// Answers 404 to everything, and keeps what was asked.
fn answer_404(address: &str) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    let listener = TcpListener::bind(address).expect("a network of the test's own");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            // A client that speaks TLS here sends no lines.
            if first.ends_with("HTTP/1.1") {
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                kept.lock().expect("nobody panics with it").push(first);
            }
            let close = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            // Whoever has left needs no answer.
            let _ = stream.write_all(format!("HTTP/1.1 404 Not Found\r\n{close}").as_bytes());
        }
    });
    asked
}

/// Those who were asked and are not immutag.
fn strangers(said: &str) -> Vec<String> {
    let asked = Regex::new(r#"(?:Head|Get) "https?://([^/"]+)"#).expect("a valid pattern");
    let hosts = asked.captures_iter(said).map(|found| found[1].to_owned());
    hosts.filter(|host| !OURS.contains(&host.as_str())).collect()
}

/// A containerd of the test's own; it ends with its process namespace.
struct Containerd {
    socket: PathBuf,
    _process: Daemon,
}

impl Containerd {
    fn start(folder: &Path) -> Self {
        let place = folder.display();
        let socket = folder.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{place}/containerd.sock\"\n"
        );
        let file = folder.join("config.toml");
        std::fs::write(&file, config).expect("our own directory");
        let mut command = Command::new(program("containerd"));
        let mut process = Daemon::start(command.arg("--config").arg(file), &folder.join("log"));
        process.wait_until("containerd answers", |_| {
            run(Self::ctr(&socket).arg("version")).status.success()
        });
        Self { socket, _process: process }
    }

    fn ctr(socket: &Path) -> Command {
        let mut command = Command::new(program("ctr"));
        command.arg("--address").arg(socket);
        command
    }

    /// Pulls what nobody has; what it said of those whom it asked.
    fn pull(&self, hosts_dir: &Path, expected: &Value) -> String {
        let registry = expected["registries"][0].as_str().unwrap_or("docker.io");
        let mut command = Self::ctr(&self.socket);
        command.args(["--debug", "images", "pull", "--hosts-dir"]).arg(hosts_dir);
        let ran = run(command.arg(format!("{registry}/library/app:1")));
        assert!(!ran.status.success(), "{ran:#?}");
        ran.stderr + &ran.stdout
    }
}
