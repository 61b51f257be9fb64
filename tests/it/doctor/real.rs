//! What the doctor says of its fixtures is what real clients do with them, one by one, in a network
//! where only immutag's addresses answer, and only with 404.

mod containerd;
mod skopeo;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::support::process::find;

/// The addresses of immutag in the fixtures.
const OURS: [&str; 2] = ["127.0.0.1:5050", "127.0.0.1:5051"];

fn program(name: &str) -> PathBuf {
    find(name).expect("`have` was asked first")
}

/// Holds each fixture of a client to what `pull` says of those whom it asked.
fn hold(
    client: &str,
    fits: impl Fn(&str, &Value) -> bool,
    pull: impl Fn(&Path, &Value) -> (String, Vec<String>),
) -> usize {
    let asked = OURS.map(answer_404);
    let fixtures =
        fixtures(client).into_iter().filter(|(path, expected)| fits(name(path), expected));
    let mut count = 0;
    for (path, expected) in fixtures {
        for asked in &asked {
            taken(asked).clear();
        }
        let (said, mut hosts) = pull(&path, &expected);
        hosts.retain(|host| !OURS.contains(&host.as_str()));
        let is_asked = asked.iter().any(|asked| !taken(asked).is_empty());
        let holds = match expected["standing"].as_str().expect("a word") {
            "protected" => hosts.is_empty(),
            "hold-only" => !hosts.is_empty() && is_asked,
            _ => !hosts.is_empty(),
        };
        assert!(holds, "{}: {hosts:?} {expected:#}\n{said}", path.display());
        count += 1;
    }
    count
}

fn taken(asked: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The fixtures of a client that is there, with what is expected.
fn fixtures(client: &str) -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/doctor");
    let all = std::fs::read_dir(folder).expect("the fixtures");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("expected.json")).expect("what is expected");
        let expected: Value = serde_json::from_str(&text).expect("JSON");
        (path, expected)
    };
    let all = all.map(|entry| read(entry.expect("an entry").path()));
    let is_of_it = |(path, expected): &(PathBuf, Value)| {
        name(path).starts_with(&format!("{client}-")) && expected["standing"].is_string()
    };
    all.filter(is_of_it).collect()
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
                taken(&kept).push(first);
            }
            let close = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            // Whoever has left needs no answer.
            let _ = stream.write_all(format!("HTTP/1.1 404 Not Found\r\n{close}").as_bytes());
        }
    });
    asked
}
