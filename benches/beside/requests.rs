//! Cached manifests: requests a second, CPU for each, p99.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client::heads;
use crate::measure::{cpu_of, heading, in_turn, number_from, ratio, rounds, row};
use crate::peers::{NGINX, Peer, Tls};
use crate::stage::support::content::{
    DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_MANIFEST,
};
use crate::stage::support::http::Call;
use crate::stage::support::process::run;
use crate::stage::support::registry::ScriptedRegistry;

const REPOSITORIES: usize = 200;
const CONNECTIONS: [usize; 3] = [1, 32, 256];

/// Over plain HTTP.
pub(crate) fn plain() {
    measure_all(None);
}

/// Over TLS.
pub(crate) fn tls() {
    measure_all(Some(&Tls::new()));
}

fn measure_all(tls: Option<&Tls>) {
    let registry = ScriptedRegistry::start();
    let images = push_all(&registry);
    let path =
        |number: usize, reference: &str| format!("/v2/library/app{number}/manifests/{reference}");
    let tags: Vec<_> = (0..REPOSITORIES).map(|number| path(number, "1.0.0")).collect();
    let digests: Vec<_> =
        images.iter().enumerate().map(|(number, image)| path(number, image.digest())).collect();
    let peers = Peer::all(&registry.url(), tls);
    for peer in &peers {
        tags.iter().chain(&digests).for_each(|path| warm(peer, path, tls));
    }
    let title = if tls.is_some() { " over TLS" } else { "" };
    let title = format!("cached manifests{title}, {REPOSITORIES} repositories");
    heading(&title, &["req/s", "CPU µs", "p99 ms"]);
    for connections in CONNECTIONS {
        measure(&format!("by tag, {connections}"), (&peers, NGINX), &by_wrk(connections, &tags));
    }
    for connections in CONNECTIONS {
        let load = by_wrk(connections, &digests);
        measure(&format!("by digest, {connections}"), (&peers, NGINX), &load);
    }
    // wrk would wait for the body that a HEAD's answer announces.
    measure("HEAD by tag, 32", (&peers, NGINX), &|peer| by_head(peer, 32, &tags));
}

/// An image with the tag `1.0.0` in each repository, `library/app0` first.
pub(crate) fn push_all(registry: &ScriptedRegistry) -> Vec<Image> {
    let push = |number: usize| {
        registry.push_image(&format!("library/app{number}"), "1.0.0", &format!("{number}"))
    };
    (0..REPOSITORIES).map(push).collect()
}

/// Asks for it once.
pub(crate) fn warm(peer: &Peer, path: &str, tls: Option<&Tls>) {
    let call = Call::new("GET", &format!("{}{path}", peer.url())).field("Accept", &accept());
    let answer = call.trust(tls.map(Tls::trust)).send();
    assert_eq!(answer.status, 200, "{} is not warm: {}", peer.name, answer.text());
}

fn accept() -> String {
    [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].join(", ")
}

/// Requests that were answered, for each second; CPU for each; p99.
pub(crate) struct Load {
    requests: f64,
    per_second: f64,
    p99_ms: f64,
}

/// Measures the peers in turn, and prints a row for each with its ratios to the one at `base`.
pub(crate) fn measure(what: &str, (peers, base): (&[Peer], usize), load: &dyn Fn(&Peer) -> Load) {
    let medians = in_turn(peers.len(), rounds(), |index| {
        let id = peers[index].id();
        let before = cpu_of(id);
        let Load { requests, per_second, p99_ms } = load(&peers[index]);
        let used = cpu_of(id).saturating_sub(before);
        [per_second, used.as_secs_f64() * 1e6 / requests, p99_ms]
    });
    for (peer, figures) in peers.iter().zip(&medians) {
        let [per_second, cpu, _] = medians[base];
        let (speed, cost) = (ratio(figures[0], per_second), ratio(figures[1], cpu));
        let note = format!("{speed} x {} at {cost} x its CPU", peers[base].name);
        row(what, peer.name, figures, [0, 1, 2], &note);
    }
}

/// Asks for these paths in turn by `wrk`.
pub(crate) fn by_wrk(connections: usize, paths: &[String]) -> impl Fn(&Peer) -> Load {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(folder.path().join("ask.lua"), script(paths)).expect("our own directory");
    move |peer| wrk(peer, connections, &folder.path().join("ask.lua"))
}

fn seconds() -> usize {
    number_from("SECONDS", 2)
}

/// The same by `HEAD`.
pub(crate) fn by_head(peer: &Peer, connections: usize, paths: &[String]) -> Load {
    let time = Duration::from_secs(seconds() as u64);
    let fields = format!("Accept: {}\r\n", accept());
    let mut took = heads(&peer.place(), (paths, &fields), connections, time).expect("answers");
    took.sort_unstable();
    let requests = f64::from(u32::try_from(took.len()).expect("fewer than 2^32"));
    let p99_ms = took[took.len() * 99 / 100].as_secs_f64() * 1000.0;
    Load { requests, per_second: requests / time.as_secs_f64(), p99_ms }
}

fn wrk(peer: &Peer, connections: usize, script: &Path) -> Load {
    let seconds = seconds();
    let ran = run(Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(peer.url()))
    .ok();
    let value = |marker: &str| {
        let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix(marker));
        line.unwrap_or_else(|| panic!("no {marker} in {}", ran.stdout)).trim().to_owned()
    };
    assert!(!ran.stdout.contains("Non-2xx"), "{}: {}", peer.name, ran.stdout);
    let requests = number(ran.stdout.lines().find(|line| line.contains(" requests in ")));
    let per_second = value("Requests/sec:").parse().expect("a number");
    Load { requests, per_second, p99_ms: milliseconds(&value("99%")) }
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

/// The requests are made once, so that `wrk` costs little.
fn script(paths: &[String]) -> String {
    let mut script = String::from("local paths = {\n");
    for path in paths {
        writeln!(script, "  \"{path}\",").expect("writing to memory");
    }
    let accept = accept();
    write!(
        script,
        "}}\nlocal requests, n = {{}}, 0\n\
         init = function()\n  for i, path in ipairs(paths) do\n    \
         requests[i] = wrk.format(\"GET\", path, {{ [\"Accept\"] = \"{accept}\", \
         [\"Host\"] = wrk.headers[\"Host\"] }})\n  end\nend\n\
         request = function()\n  n = n % #requests + 1\n  return requests[n]\nend\n"
    )
    .expect("writing to memory");
    script
}
