//! The servers that are measured.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::client::Place;
use crate::nginx::{Nginx, free_port, listens};
use crate::stage::support::immutag::Immutag;
use crate::stage::support::process::{Daemon, find};
use crate::stage::support::setup::Setup;
use crate::stage::support::tls::Authority;

/// In this order they are started, measured and printed; ratios are to the second.
pub(crate) const NAMES: [&str; 3] = ["immutag", "nginx", "docker-registry"];

/// Where [`NAMES`] has nginx.
pub(crate) const NGINX: usize = 1;

/// A running server with an empty cache of its own.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    port: u16,
    trust: Option<Arc<ClientConfig>>,
    running: Running,
    /// Dropped after the server that writes there.
    folder: Option<TempDir>,
}

enum Running {
    Docker(Daemon),
    Immutag(Box<Immutag>),
    Nginx(Nginx),
}

/// One certificate for all servers.
pub(crate) struct Tls {
    folder: TempDir,
    trust: Arc<ClientConfig>,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new();
        let identity = authority.issue(&["localhost", "127.0.0.1"]);
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("our own directory");
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&file, mode).expect("our own file");
        };
        write("server.pem", &identity.certificate_pem);
        write("server.key", &identity.key_pem);
        Self { folder, trust: authority.client() }
    }

    /// What clients trust.
    pub(crate) fn trust(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.trust)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }
}

impl Peer {
    /// All three before `upstream`.
    pub(crate) fn all(upstream: &str, tls: Option<&Tls>) -> Vec<Self> {
        (0..NAMES.len()).map(|index| Self::start(index, upstream, tls)).collect()
    }

    /// The one that [`NAMES`] has at `index`.
    pub(crate) fn start(index: usize, upstream: &str, tls: Option<&Tls>) -> Self {
        match NAMES[index] {
            "immutag" => start_immutag(upstream, tls),
            "nginx" => start_nginx(upstream, tls),
            _ => start_docker_registry(upstream, tls),
        }
    }

    /// An immutag of this setup, under a name for it.
    pub(crate) fn immutag(
        name: &'static str,
        setup: Setup,
        trust: Option<Arc<ClientConfig>>,
    ) -> Self {
        let immutag = setup.start();
        let port = immutag.addresses().mirror.port();
        Self { name, port, trust, running: Running::Immutag(Box::new(immutag)), folder: None }
    }

    /// Its first process.
    pub(crate) fn id(&self) -> u32 {
        match &self.running {
            Running::Docker(process) => process.id(),
            Running::Immutag(process) => process.id(),
            Running::Nginx(process) => process.id(),
        }
    }

    /// Where clients go.
    pub(crate) fn place(&self) -> Place {
        Place { host: format!("127.0.0.1:{}", self.port), trust: self.trust.clone() }
    }

    /// `http://127.0.0.1:port`, or `https`.
    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", scheme(self.trust.is_some()), self.port)
    }

    /// Ends it, and waits until it has ended; what it has stored stays.
    pub(crate) fn stop(&mut self) {
        match &mut self.running {
            Running::Docker(process) => {
                process.signal(rustix::process::Signal::KILL);
                process.wait();
            }
            Running::Immutag(process) => {
                process.terminate();
            }
            Running::Nginx(process) => process.quit(),
        }
    }

    /// Starts it after [`Peer::stop`], and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        match &mut self.running {
            Running::Docker(process) => {
                let folder = self.folder.as_ref().expect("it has one");
                *process = launch_docker_registry(folder.path());
                process.wait_until("docker-registry listens", |_| listens("http", self.port));
            }
            Running::Immutag(process) => process.restart(),
            Running::Nginx(process) => process.start_again(),
        }
    }
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

fn start_immutag(upstream: &str, tls: Option<&Tls>) -> Peer {
    let mut setup = Setup::new().docker_io(upstream).every_tag("hold", "1h");
    if let Some(tls) = tls {
        let (certificate, key) = (tls.certificate(), tls.key());
        let (certificate, key) = (certificate.display(), key.display());
        setup = setup
            .mirror(&format!("tls = {{ cert-file = \"{certificate}\", key-file = \"{key}\" }}"));
    }
    Peer::immutag("immutag", setup, tls.map(Tls::trust))
}

fn start_nginx(upstream: &str, tls: Option<&Tls>) -> Peer {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (listen, certificate) = tls.map_or_else(Default::default, |tls| {
        let (certificate, key) = (tls.certificate(), tls.key());
        let (certificate, key) = (certificate.display(), key.display());
        let lines = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; \
             ssl_session_cache shared:s:10m;"
        );
        ("ssl", lines)
    });
    let http = PROXY_CACHE
        .replace("UPSTREAM", upstream)
        .replace("LISTEN", listen)
        .replace("CERTIFICATE", &certificate);
    let nginx = Nginx::start(folder.path(), &http, scheme(tls.is_some()));
    Peer {
        name: "nginx",
        port: nginx.port,
        trust: tls.map(|tls| Arc::clone(&tls.trust)),
        running: Running::Nginx(nginx),
        folder: Some(folder),
    }
}

fn start_docker_registry(upstream: &str, tls: Option<&Tls>) -> Peer {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let port = free_port();
    let certificate = tls.map_or_else(String::new, |tls| {
        let (certificate, key) = (tls.certificate(), tls.key());
        format!(", tls: {{ certificate: {}, key: {} }}", certificate.display(), key.display())
    });
    let conf = format!(
        "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
         storage: {{ filesystem: {{ rootdirectory: {root} }}, cache: {{ blobdescriptor: inmemory }} }}\n\
         http: {{ addr: \"127.0.0.1:{port}\"{certificate} }}\nproxy: {{ remoteurl: \"{upstream}\" }}\n",
        root = folder.path().join("data").display()
    );
    std::fs::write(folder.path().join("config.yml"), conf).expect("our own directory");
    let mut process = launch_docker_registry(folder.path());
    process.wait_until("docker-registry listens", |_| listens(scheme(tls.is_some()), port));
    Peer {
        name: "docker-registry",
        port,
        trust: tls.map(|tls| Arc::clone(&tls.trust)),
        running: Running::Docker(process),
        folder: Some(folder),
    }
}

fn launch_docker_registry(folder: &Path) -> Daemon {
    let file = folder.join("config.yml");
    let mut command = Command::new(find("docker-registry").expect("docker-registry was found"));
    Daemon::start(command.arg("serve").arg(&file), &folder.join("log"))
}

/// Content by digest stays; what a tag says is asked again, in the background, after 10 s.
const PROXY_CACHE: &str = "  access_log off;
  proxy_cache_path ROOT/cache levels=1:2 keys_zone=c:64m inactive=365d use_temp_path=off;
  proxy_cache c; proxy_cache_lock on; proxy_cache_lock_age 1h; proxy_cache_lock_timeout 1h;
  proxy_cache_use_stale updating; proxy_cache_background_update on;
  proxy_http_version 1.1; proxy_set_header Connection \"\";
  CERTIFICATE
  server {
    listen 127.0.0.1:PORT LISTEN reuseport;
    location ~ /(blobs|manifests)/sha256: { proxy_cache_valid 200 365d; proxy_pass UPSTREAM; }
    location / { proxy_cache_valid 200 10s; proxy_pass UPSTREAM; }
  }";
