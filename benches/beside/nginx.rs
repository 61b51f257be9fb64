//! Starting nginx, as a peer and as the upstream.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::support::http::Call;
use crate::stage::support::process::{Daemon, find};

/// A running nginx; it ends, its workers too, when it is dropped.
pub(crate) struct Nginx {
    master: Daemon,
    /// Where it listens.
    pub(crate) port: u16,
    /// Its own directory.
    pub(crate) root: PathBuf,
    scheme: &'static str,
}

impl Nginx {
    /// Starts it in `root` with this `server` block, which may say `PORT` and `ROOT`, and what
    /// belongs beside it.
    pub(crate) fn start(root: &Path, http: &str, scheme: &'static str) -> Self {
        std::fs::create_dir_all(root).expect("our own directory");
        let port = free_port();
        let text = TEMPLATE.replace("HTTP", http);
        let text =
            text.replace("PORT", &port.to_string()).replace("ROOT", &root.display().to_string());
        std::fs::write(root.join("nginx.conf"), text).expect("our own directory");
        Self { master: launch(root, scheme, port), port, root: root.to_owned(), scheme }
    }

    /// Starts it again, with what it has stored, after it has quit.
    pub(crate) fn start_again(&mut self) {
        self.master = launch(&self.root, self.scheme, self.port);
    }

    /// Its first process; the workers are children of it.
    pub(crate) fn id(&self) -> u32 {
        self.master.id()
    }

    /// Ends it after the requests that are under way.
    pub(crate) fn quit(&mut self) {
        self.master.signal(rustix::process::Signal::QUIT);
        self.master.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.master.is_alive() {
            // Killed, it would leave its workers behind.
            self.master.signal(rustix::process::Signal::TERM);
            self.master.wait();
        }
    }
}

fn launch(root: &Path, scheme: &str, port: u16) -> Daemon {
    let mut command = Command::new(find("nginx").expect("nginx was found"));
    command.arg("-c").arg(root.join("nginx.conf"));
    let mut master = Daemon::start(&mut command, &root.join("log"));
    master.wait_until("nginx listens", |_| listens(scheme, port));
    master
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it is bound").port()
}

/// Whether something answers there, or at least listens where TLS is spoken.
pub(crate) fn listens(scheme: &str, port: u16) -> bool {
    if scheme == "https" {
        return std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    }
    Call::new("GET", &format!("http://127.0.0.1:{port}/v2/")).try_send().is_ok()
}

const TEMPLATE: &str = "daemon off; worker_processes 2; pid ROOT/pid; error_log ROOT/error.log;
user root;
worker_rlimit_nofile 65536;
events { worker_connections 4096; }
http {
  sendfile on; tcp_nopush on;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  open_file_cache max=10000;
  client_body_temp_path ROOT/body; proxy_temp_path ROOT/temp;
  fastcgi_temp_path ROOT/f; uwsgi_temp_path ROOT/u; scgi_temp_path ROOT/s;
HTTP
}
";
