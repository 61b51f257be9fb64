//! Cached manifests by tag, beside nginx's `proxy_cache` and Debian's `docker-registry` as a
//! proxy, in one run: requests a second, CPU per request, p99.
//!
//! All three stand before the same scripted registry with 200 repositories, all warm. `wrk` (one
//! thread) asks each in turn, A B C, C B A, …, and the medians over the rounds are printed, with
//! the ratios to nginx: on a shared machine only those of one run mean something. Needs `nginx`,
//! `wrk` and `docker-registry`.
//!
//!     cargo bench --bench beside            # 4 rounds of 3 s each
//!     ROUNDS=1 SECONDS=1 cargo bench --bench beside

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stage::support::http::Call;
use stage::support::immutag::accepting;
use stage::support::process::{Daemon, find, run};
use stage::support::registry::ScriptedRegistry;
use stage::support::setup::Setup;

const REPOSITORIES: usize = 200;
const CONNECTIONS: [usize; 3] = [1, 32, 256];

/// A server that is measured.
struct Peer {
    name: &'static str,
    base: String,
    /// The path of a repository, in front of `/manifests/1.0.0`.
    prefix: &'static str,
    process: u32,
}

/// What one run of `wrk` gave.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    cpu_us: f64,
    p99_ms: f64,
}

fn main() {
    let missing: Vec<_> =
        ["nginx", "wrk", "docker-registry"].into_iter().filter(|it| find(it).is_none()).collect();
    if !missing.is_empty() {
        println!("SKIPPED beside: no {missing:?} here");
        return;
    }
    let registry = ScriptedRegistry::start();
    for number in 0..REPOSITORIES {
        registry.push_image(&format!("library/app{number}"), "1.0.0", &format!("seed {number}"));
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let immutag = Setup::new().docker_io(&registry.url()).every_tag("hold", "1h").start();
    let ours = Peer {
        name: "immutag",
        base: format!("http://{}", immutag.addresses().mirror),
        prefix: "/v2/library/app",
        process: immutag.id(),
    };
    let (mut master, nginx) = start_nginx(folder.path(), &registry.host());
    let (_docker, docker) = start_docker_registry(folder.path(), &registry.url());
    let peers = [ours, nginx, docker];
    peers.iter().for_each(warm);
    println!("cached manifests by tag, {REPOSITORIES} repositories");
    println!(
        "{:<12} {:<16} {:>10} {:>10} {:>8}",
        "connections", "server", "req/s", "CPU µs", "p99 ms"
    );
    for connections in CONNECTIONS {
        measure(&peers, connections, folder.path());
    }
    // Killed, it would leave its workers behind.
    master.signal(rustix::process::Signal::TERM);
    master.wait();
}

fn measure(peers: &[Peer], connections: usize, folder: &Path) {
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); peers.len()];
    for round in 0..number_from("ROUNDS", 4) {
        let forth = (0..peers.len()).collect::<Vec<_>>();
        let order = if round % 2 == 0 { forth } else { forth.into_iter().rev().collect() };
        for index in order {
            rounds[index].push(ask(&peers[index], connections, folder));
        }
    }
    let medians: Vec<Figures> = rounds.iter().map(|rounds| median_of(rounds)).collect();
    for (peer, figures) in peers.iter().zip(&medians) {
        println!(
            "{connections:<12} {:<16} {:>10.0} {:>10.1} {:>8.2}   {:.2} x nginx at {:.2} x its CPU",
            peer.name,
            figures.per_second,
            figures.cpu_us,
            figures.p99_ms,
            figures.per_second / medians[1].per_second,
            figures.cpu_us / medians[1].cpu_us,
        );
    }
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median_of(rounds: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            values[middle]
        } else {
            values[middle - 1].midpoint(values[middle])
        }
    };
    Figures {
        per_second: median(|figures| figures.per_second),
        cpu_us: median(|figures| figures.cpu_us),
        p99_ms: median(|figures| figures.p99_ms),
    }
}

fn warm(peer: &Peer) {
    for number in 0..REPOSITORIES {
        let url = format!("{}{}{number}/manifests/1.0.0", peer.base, peer.prefix);
        let answer = accepting(Call::new("GET", &url)).send();
        assert_eq!(answer.status, 200, "{} is not warm: {}", peer.name, answer.text());
    }
}

/// One run of `wrk`; the CPU is what the server's processes used meanwhile.
fn ask(peer: &Peer, connections: usize, folder: &Path) -> Figures {
    let script = folder.join("ask.lua");
    std::fs::write(&script, lua(peer.prefix)).expect("a file in our own directory");
    let before = cpu_of(peer.process);
    let seconds = number_from("SECONDS", 3);
    let ran = run(Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
        .arg(&script)
        .arg(&peer.base))
    .ok();
    let used = cpu_of(peer.process).saturating_sub(before);
    let value = |marker: &str| {
        let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix(marker));
        line.unwrap_or_else(|| panic!("no {marker} in {}", ran.stdout)).trim().to_owned()
    };
    assert!(!ran.stdout.contains("Non-2xx"), "{}: {}", peer.name, ran.stdout);
    let requests: f64 = number(ran.stdout.lines().find(|line| line.contains(" requests in ")));
    Figures {
        per_second: value("Requests/sec:").parse().expect("a number"),
        cpu_us: used.as_secs_f64() * 1e6 / requests,
        p99_ms: milliseconds(&value("99%")),
    }
}

fn number(line: Option<&str>) -> f64 {
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).expect("wrk prints how many requests it made")
}

fn milliseconds(text: &str) -> f64 {
    let (unit, digits) = match text {
        _ if text.ends_with("us") => (0.001, &text[..text.len() - 2]),
        _ if text.ends_with("ms") => (1.0, &text[..text.len() - 2]),
        _ => (1000.0, text.trim_end_matches('s')),
    };
    digits.parse::<f64>().expect("a number") * unit
}

fn lua(prefix: &str) -> String {
    format!(
        "local n = 0\n\
         local headers = {{ [\"Accept\"] = \"application/vnd.oci.image.index.v1+json, \
         application/vnd.oci.image.manifest.v1+json\" }}\n\
         request = function()\n  n = (n + 1) % {REPOSITORIES}\n  \
         return wrk.format(\"GET\", \"{prefix}\" .. n .. \"/manifests/1.0.0\", headers)\nend\n"
    )
}

/// CPU time, user and system, of a process and its children.
fn cpu_of(process: u32) -> Duration {
    let mut ticks = ticks_of(process);
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(&process.to_string()) {
            ticks += ticks_of(id);
        }
    }
    Duration::from_millis(ticks * 10)
}

fn ticks_of(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let at = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    at(11).unwrap_or(0) + at(12).unwrap_or(0)
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it is bound").port()
}

fn start_nginx(folder: &Path, upstream: &str) -> (Daemon, Peer) {
    let port = free_port();
    let root = folder.join("nginx");
    std::fs::create_dir_all(&root).expect("our own directory");
    let mut conf = String::new();
    write!(
        conf,
        "daemon off; worker_processes 2; pid {root}/pid; error_log {root}/error.log;\n\
         user root;\nevents {{ worker_connections 4096; }}\nhttp {{\n  access_log off; sendfile on; tcp_nopush on;\n  \
         keepalive_requests 1000000000; keepalive_timeout 1h;\n  open_file_cache max=10000;\n  \
         client_body_temp_path {root}/body; proxy_temp_path {root}/temp;\n  \
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n  \
         proxy_cache_path {root}/cache levels=1:2 keys_zone=c:10m use_temp_path=off;\n  server {{\n    \
         listen 127.0.0.1:{port} reuseport;\n    location / {{\n      proxy_pass http://{upstream};\n      \
         proxy_cache c; proxy_cache_lock on; proxy_cache_valid 200 10s;\n      \
         proxy_cache_use_stale updating; proxy_cache_background_update on;\n      \
         proxy_http_version 1.1; proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
        root = root.display()
    )
    .expect("writing to memory");
    let file = root.join("nginx.conf");
    std::fs::write(&file, conf).expect("our own directory");
    let program = find("nginx").expect("nginx was found");
    let mut command = Command::new(program);
    let mut process = Daemon::start(command.arg("-c").arg(&file), &folder.join("nginx.log"));
    let base = format!("http://127.0.0.1:{port}");
    wait_for(&mut process, &base);
    let id = process.id();
    (process, Peer { name: "nginx", base, prefix: "/v2/library/app", process: id })
}

fn start_docker_registry(folder: &Path, upstream: &str) -> (Daemon, Peer) {
    let port = free_port();
    let root = folder.join("docker-registry");
    std::fs::create_dir_all(&root).expect("our own directory");
    let conf = format!(
        "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
         storage: {{ filesystem: {{ rootdirectory: {} }}, cache: {{ blobdescriptor: inmemory }} }}\n\
         http: {{ addr: \"127.0.0.1:{port}\" }}\nproxy: {{ remoteurl: \"{upstream}\" }}\n",
        root.display()
    );
    let file = root.join("config.yml");
    std::fs::write(&file, conf).expect("our own directory");
    let mut command = Command::new(find("docker-registry").expect("docker-registry was found"));
    let mut process =
        Daemon::start(command.arg("serve").arg(&file), &folder.join("docker-registry.log"));
    let base = format!("http://127.0.0.1:{port}");
    wait_for(&mut process, &base);
    let id = process.id();
    (process, Peer { name: "docker-registry", base, prefix: "/v2/library/app", process: id })
}

fn wait_for(process: &mut Daemon, base: &str) {
    process
        .wait_until("it answers", |_| Call::new("GET", &format!("{base}/v2/")).try_send().is_ok());
}
