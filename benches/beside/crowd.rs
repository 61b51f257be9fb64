//! 50 clients at once on one cold blob of 256 MiB: how often the upstream is asked for it, and
//! when each client sees its first byte.

use crate::client::fetch_all;
use crate::measure::{cpu_of, heading, in_turn, median, peak_mib, ratio, rounds, row};
use crate::origin::{Content, Stored, blob_path};
use crate::peers::{NAMES, NGINX, Peer};

const CLIENTS: usize = 50;

/// From an upstream that gives 64 MiB/s to each connection.
pub(crate) fn run() {
    let content = Content::new();
    let blob = content.add("crowd", 256 << 20);
    let title = format!("{CLIENTS} clients at once on a cold blob of 256 MiB, upstream 64 MiB/s");
    heading(&title, &["fetches", "first ms", "total s", "CPU s", "peak MiB"]);
    let rounds = rounds().div_ceil(2);
    let medians = in_turn(NAMES.len(), rounds, |index| download(index, &content, &blob));
    for (name, figures) in NAMES.iter().zip(&medians) {
        let note = format!("{} x nginx's time", ratio(figures[2], medians[NGINX][2]));
        row("", name, figures, [0, 0, 2, 2, 0], &note);
    }
}

fn download(index: usize, content: &Content, blob: &Stored) -> [f64; 5] {
    let origin = content.serve(Some("64m"));
    let peer = Peer::start(index, &origin.url(), None);
    let before = cpu_of(peer.id());
    let paths = vec![blob_path(&blob.digest); CLIENTS];
    let (fetched, took) = fetch_all(&peer.place(), &paths);
    let used = cpu_of(peer.id()).saturating_sub(before).as_secs_f64();
    let peak = peak_mib(peer.id());
    assert!(fetched.iter().all(|one| one.bytes == blob.size_bytes), "{} cut a blob", NAMES[index]);
    // Its requests end with it, so that the upstream has written them all down.
    drop(peer);
    let asked = u32::try_from(origin.fetches()).expect("a count");
    let first = median(fetched.iter().map(|one| one.first.as_secs_f64() * 1000.0));
    [f64::from(asked), first, took.as_secs_f64(), used, peak]
}
