//! A job with a lock file of 10,000 references: checking the file, what the locked server has
//! resident when it is ready and after pulls, and the report at the end.
//!
//!     cargo bench --bench job

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

#[path = "../tests/it"]
#[expect(dead_code, reason = "a benchmark needs only part of the stage")]
mod stage {
    pub(crate) mod support;
}

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use immutag::lockfile::{LockFile, Locked};
use immutag::oci::Reference;
use serde_json::Value;
use stage::support::content::{Image, OCI_INDEX, OCI_MANIFEST};
use stage::support::http::{Call, get};
use stage::support::immutag::Immutag;
use stage::support::process::Ran;
use stage::support::registry::ScriptedRegistry;
use stage::support::setup::Setup;

const REGISTRY: &str = "registry.example";

/// References of the lock file, and images of the registry.
const REFERENCES: usize = 10_000;

/// After so many pulls what is resident is looked at.
const PULLED: [usize; 2] = [1_000, REFERENCES];

/// How often a command is run; its median is told.
const RUNS: usize = 5;

const FORMS: [&str; 6] = ["markdown", "json", "junit", "sarif", "github", "gitlab"];

fn main() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("a lock file of {REFERENCES} references; load {}", load.trim());
    let registry = ScriptedRegistry::start();
    let images: Vec<Image> = (0..REFERENCES).map(|at| push(&registry, at)).collect();
    let setup = Setup::new().upstream(REGISTRY, &registry.url());
    setup.file("immutag.toml", &setup.toml());
    for (source, text) in [("images.txt", list("")), ("Dockerfile", list("FROM "))] {
        let lock = setup.file("images.lock", &lock_of(&images, source));
        setup.file(source, &text);
        let lock = lock.to_str().expect("a path in ASCII");
        let took = median(|| {
            setup.run(&["lock", "--check", "--lock", lock]).ok();
        });
        println!("lock --check of {source:<12} {took:>6} ms");
    }
    for is_locked in [false, true] {
        job(&registry, &images, is_locked);
    }
}

/// What is resident, then the reports.
fn job(registry: &ScriptedRegistry, images: &[Image], is_locked: bool) {
    println!("\n{}", if is_locked { "locked" } else { "without a lock file" });
    let setup = Setup::new().upstream(REGISTRY, &registry.url());
    setup.file("Dockerfile", &list("FROM "));
    let lock = setup.file("images.lock", &lock_of(images, "Dockerfile"));
    let setup = setup.argument("--ledger").argument("memory");
    let setup = if is_locked {
        setup.argument("--lock").argument(&lock.display().to_string()).argument("--locked")
    } else {
        setup
    };
    let immutag = setup.start();
    println!("resident when ready         {:>6} KiB", immutag.resident_kib());
    let mut done = 0;
    for pulls in PULLED {
        (done..pulls).for_each(|at| pull(&immutag, at, &images[at]));
        done = pulls;
        let (resident, peak) = (immutag.resident_kib(), immutag.peak_kib());
        println!("resident after {pulls:>6} pulls {resident:>6} KiB, at most {peak} KiB");
        for form in FORMS {
            let took = median(|| {
                report(&immutag, form).ok();
            });
            println!("report --format {form:<10}  {took:>6} ms");
        }
        let report: Value =
            serde_json::from_str(&report(&immutag, "json").stdout).expect("it is JSON");
        assert_eq!(report["is-whole"], true);
        assert_eq!(report["counts"]["pulled"], pulls, "{}", report["counts"]);
    }
    println!("at most, with the reports   {:>6} KiB", immutag.peak_kib());
}

fn report(immutag: &Immutag, form: &str) -> Ran {
    immutag.cli(&["report", "--format", form])
}

/// As a client pulls: the manifest by its tag, the config, the layers.
fn pull(immutag: &Immutag, at: usize, image: &Image) {
    let (name, field) = (name(at), format!("{OCI_INDEX}, {OCI_MANIFEST}"));
    let manifest = immutag.mirror(&format!("{name}/manifests/1.0.0?ns={REGISTRY}"));
    let answer = Call::new("GET", &manifest).field("Accept", &field).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    for blob in std::iter::once(&image.config).chain(&image.layers) {
        let digest = &blob.digest;
        let answer = get(&immutag.mirror(&format!("{name}/blobs/{digest}?ns={REGISTRY}")));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn push(registry: &ScriptedRegistry, at: usize) -> Image {
    let image = Image::sized(&at.to_string(), 1024);
    registry.put_image(&name(at), &image);
    registry.retag(&name(at), "1.0.0", image.digest());
    image
}

fn name(at: usize) -> String {
    format!("team/app-{at}")
}

/// All references, one a line.
fn list(word: &str) -> String {
    (0..REFERENCES).fold(String::new(), |mut list, at| {
        writeln!(list, "{word}{REGISTRY}/{}:1.0.0", name(at)).expect("writing to memory");
        list
    })
}

fn lock_of(images: &[Image], source: &str) -> String {
    let entry = |(at, image): (usize, &Image)| {
        let reference = format!("{REGISTRY}/{}:1.0.0", name(at));
        let digest = image.digest().parse().expect("a digest");
        let reference = reference.parse::<Reference>().expect("a reference");
        (reference, Locked { digest, is_immutable: false })
    };
    let images = images.iter().enumerate().map(entry).collect();
    LockFile { sources: vec![source.to_owned()], images }.to_string()
}

/// In milliseconds.
fn median(mut run: impl FnMut()) -> u128 {
    let mut runs: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    runs.sort_unstable();
    runs[RUNS / 2].as_millis()
}
