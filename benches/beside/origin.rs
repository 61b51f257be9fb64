//! The upstream of large blobs: files that an nginx of its own serves by sendfile, so that its
//! cost is small and the same for all.

use std::fs::File;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::nginx::Nginx;
use crate::stage::support::content::noise;

/// Where everything is, canonical on docker.io.
pub(crate) const REPOSITORY: &str = "library/large";

const PIECE: usize = 4 << 20;

/// Blobs in files, by the paths of a registry.
pub(crate) struct Content {
    folder: TempDir,
}

/// A blob of [`Content`].
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
}

/// A running upstream.
pub(crate) struct Origin {
    nginx: Nginx,
    _folder: TempDir,
}

impl Content {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(folder.path().join(format!("v2/{REPOSITORY}/blobs")))
            .expect("our own directory");
        Self { folder }
    }

    /// Adds a blob of noise.
    pub(crate) fn add(&self, seed: &str, size_bytes: usize) -> Stored {
        let blobs = self.folder.path().join(format!("v2/{REPOSITORY}/blobs"));
        let unnamed = blobs.join("unnamed");
        let mut file = File::create(&unnamed).expect("our own directory");
        let mut hasher = Sha256::new();
        for from in (0..size_bytes).step_by(PIECE) {
            let piece = noise(&format!("{seed} {from}"), PIECE.min(size_bytes - from));
            hasher.update(&piece);
            file.write_all(&piece).expect("the disk has room");
        }
        let digest = digest(hasher);
        std::fs::rename(unnamed, blobs.join(&digest)).expect("our own directory");
        Stored { digest, size_bytes: size_bytes as u64 }
    }

    /// Serves it; with `rate` (as nginx writes it: `64m`) no faster to each connection.
    pub(crate) fn serve(&self, rate: Option<&str>) -> Origin {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let limit = rate.map_or_else(String::new, |rate| format!("limit_rate {rate};"));
        let http = SERVER
            .replace("FILES", &self.folder.path().display().to_string())
            .replace("LIMIT", &limit);
        let nginx = Nginx::start(folder.path(), &http, "http");
        Origin { nginx, _folder: folder }
    }
}

impl Origin {
    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.nginx.port)
    }

    /// Ends it, and gives how many GETs of blobs it has seen.
    pub(crate) fn fetches(mut self) -> usize {
        self.nginx.quit();
        let log = std::fs::read_to_string(self.nginx.root.join("access")).expect("its log");
        log.lines().filter(|line| line.starts_with("GET 20") && line.contains("/blobs/")).count()
    }
}

/// `sha256:…`.
pub(crate) fn digest(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

/// The path of a blob.
pub(crate) fn blob_path(digest: &str) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

const SERVER: &str = "  log_format few '$request_method $status $uri';
  access_log ROOT/access few;
  default_type application/octet-stream;
  server {
    listen 127.0.0.1:PORT reuseport;
    root FILES;
    location = /v2/ { default_type application/json; return 200 '{}'; }
    location /v2/ { LIMIT }
  }";
