//! immutag beside nginx's `proxy_cache` and Debian's `docker-registry` as a proxy, in one run on
//! loopback: manifests, blobs, cold blobs, a crowd on one cold blob, many pulls, start-up; and an
//! immutag with a lock file beside one without.
//!
//! All three stand before the same upstream. They are measured in turn, A B C, C B A, …, and the
//! medians over the rounds are printed with their ratios to nginx: on a shared machine only those
//! of one run mean something. CPU is that of the server's processes, user and system; memory is the
//! most they had resident at once. Needs `nginx`, `wrk` and `docker-registry`.
//!
//!     cargo bench --bench beside                      # all of it, about 15 minutes
//!     cargo bench --bench beside -- blobs cold        # these sections alone
//!     ROUNDS=1 SECONDS=1 cargo bench --bench beside   # 4 rounds of 2 s without these

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

mod blobs;
mod client;
mod cold;
mod crowd;
mod locked;
mod measure;
mod nginx;
mod origin;
mod peers;
mod requests;
mod start;

use stage::support::process::find;

/// The sections, by the names that the command line takes.
const SECTIONS: [(&str, fn()); 9] = [
    ("manifests", requests::plain),
    ("manifests-tls", requests::tls),
    ("blobs", blobs::plain),
    ("blobs-tls", blobs::tls),
    ("many", blobs::many),
    ("cold", cold::run),
    ("crowd", crowd::run),
    ("start", start::run),
    ("locked", locked::run),
];

fn main() {
    let programs = ["nginx", "wrk", "docker-registry"];
    let missing: Vec<_> = programs.into_iter().filter(|it| find(it).is_none()).collect();
    if !missing.is_empty() {
        println!("SKIPPED beside: no {missing:?} here");
        return;
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let known = |name: &String| SECTIONS.iter().any(|(section, _)| section == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names = SECTIONS.map(|(section, _)| section).join(", ");
        println!("beside: no section `{unknown}`; there are {names}");
        std::process::exit(2);
    }
    stage::support::process::raise_file_limit();
    tell_machine();
    for (section, run) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|name| name == section) {
            run();
        }
    }
}

/// What decides the figures and is not ours.
fn tell_machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{cores} cores, load {}, congestion control {}, {} rounds",
        read("/proc/loadavg"),
        read("/proc/sys/net/ipv4/tcp_congestion_control"),
        measure::rounds(),
    );
}
