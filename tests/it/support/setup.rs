//! What an immutag under test is started with.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::immutag::Immutag;
use super::process::Ran;

/// A configuration to be; every test has its own ports and its own data directory.
pub(crate) struct Setup {
    pub(super) folder: Arc<TempDir>,
    addresses: Addresses,
    pub(super) data_dir: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) arguments: Vec<String>,
    pub(super) secrets: Vec<String>,
    top: String,
    mirror: String,
    direct: String,
    rules: String,
    upstreams: String,
    tables: String,
}

/// Where the listeners are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) mirror: SocketAddr,
    pub(crate) direct: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Setup {
    /// A mirror, a direct and an admin listener, no upstream, no rules but the built-in ones.
    pub(crate) fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let data_dir = folder.path().join("data");
        let [mirror, direct, admin] = free_addresses();
        Self {
            folder,
            data_dir,
            addresses: Addresses { mirror, direct, admin },
            environment: BTreeMap::new(),
            arguments: Vec::new(),
            secrets: Vec::new(),
            top: String::new(),
            mirror: String::new(),
            direct: String::new(),
            rules: String::new(),
            upstreams: String::new(),
            tables: String::new(),
        }
    }

    /// `name` is at `url` on this machine; plain http and loopback addresses are allowed for it.
    pub(crate) fn upstream(self, name: &str, url: &str) -> Self {
        self.upstream_with(name, url, "")
    }

    /// The same with more lines of TOML.
    pub(crate) fn upstream_with(mut self, name: &str, url: &str, lines: &str) -> Self {
        let plain = if url.starts_with("http://") { "plain-http = true\n" } else { "" };
        let table = format!("[upstream.\"{name}\"]\nurl = \"{url}\"\nallow-private = true\n");
        self.upstreams.extend([&table, plain, lines, "\n\n"]);
        self
    }

    /// `docker.io`, which the mirror asks when no registry is named, is at `url`.
    pub(crate) fn docker_io(self, url: &str) -> Self {
        self.upstream("docker.io", url)
    }

    /// Rules, as TOML (`[[rule]]` tables).
    pub(crate) fn rules(mut self, toml: &str) -> Self {
        self.rules += toml;
        self.rules.push('\n');
        self
    }

    /// These rules instead of all before.
    pub(crate) fn only_rules(mut self, toml: &str) -> Self {
        self.rules.clear();
        self.rules(toml)
    }

    /// One rule for every tag: this reaction, asked again after `recheck` (`"0s"`: each time).
    pub(crate) fn every_tag(self, on_conflict: &str, recheck: &str) -> Self {
        let rule = format!("[[rule]]\non-conflict = \"{on_conflict}\"\n");
        // Under `record` the upstream is asked each time anyway.
        let recheck = format!("recheck = \"{recheck}\"\n");
        self.rules(&if on_conflict == "record" { rule } else { rule + &recheck })
    }

    /// The same without its rules.
    pub(crate) fn without_rules(mut self) -> Self {
        self.rules.clear();
        self
    }

    /// Lines at the top of the file (`stale-if-error = "0s"`).
    pub(crate) fn top(mut self, toml: &str) -> Self {
        self.top += toml;
        self.top.push('\n');
        self
    }

    /// More lines for the mirror listener.
    pub(crate) fn mirror(mut self, toml: &str) -> Self {
        self.mirror += toml;
        self.mirror.push('\n');
        self
    }

    /// More lines for the direct listener.
    pub(crate) fn direct(mut self, toml: &str) -> Self {
        self.direct += toml;
        self.direct.push('\n');
        self
    }

    /// More tables (`[cache]`).
    pub(crate) fn tables(mut self, toml: &str) -> Self {
        self.tables += toml;
        self.tables.push('\n');
        self
    }

    /// An environment variable of the program.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// One more argument of `serve`.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Another data directory (a small file system, say).
    pub(crate) fn data_dir(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.data_dir);
        self
    }

    /// This must never stand in a log, a metric or an error.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// Writes a file beside the configuration, readable for its owner alone.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).expect("a file in our own directory");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, mode).expect("our own file");
        file
    }

    /// Where its listeners will be.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The lines of an upstream that is asked with our own credentials.
    pub(crate) fn own_credentials(&self, username: &str, password: &str) -> String {
        let file = self.file("password", password);
        let file = file.display();
        format!("credentials = \"own\"\nusername = \"{username}\"\npassword-file = \"{file}\"\n")
    }

    /// The line of an upstream whose certificates are this authority's.
    pub(crate) fn ca_file(&self, ca_pem: &str) -> String {
        format!("ca-file = \"{}\"\n", self.file("ca.pem", ca_pem).display())
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data_dir
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Immutag {
        Immutag::start(self)
    }

    /// Starts it and returns how it refuses to.
    #[track_caller]
    pub(crate) fn refuse_to_start(self) -> Ran {
        super::immutag::refuse_to_start(&self)
    }

    /// Runs a command with it, to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        super::immutag::run_with(self, arguments)
    }

    /// The configuration file's text.
    pub(crate) fn toml(&self) -> String {
        let Addresses { mirror, direct, admin } = self.addresses;
        let Self { top, rules, upstreams, tables, .. } = self;
        let (of_mirror, of_direct) = (&self.mirror, &self.direct);
        // Registries count what they are asked for: nobody asks who is not told to by the test.
        let quiet = if tables.contains("[audit]") { "" } else { "[audit]\ninterval = \"0s\"\n" };
        format!(
            "{top}\n[[listener]]\naddress = \"{mirror}\"\nkind = \"mirror\"\n{of_mirror}\n\
             [[listener]]\naddress = \"{direct}\"\nkind = \"direct\"\n{of_direct}\n\
             [admin]\naddress = \"{admin}\"\n\n{rules}\n{upstreams}\n{tables}\n\
             {quiet}"
        )
    }
}

/// Free addresses outside the range from which the system takes ports for outgoing connections,
/// so that a restart finds them free again.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    std::array::from_fn(|_| {
        loop {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = 10_000 + start.wrapping_add(step) % 20_000;
            let port = u16::try_from(port).expect("below 30,000");
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if TcpListener::bind(address).is_ok() {
                return address;
            }
        }
    })
}
