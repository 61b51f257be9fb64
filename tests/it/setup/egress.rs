//! The rules of `immutag setup egress nftables`, loaded, in network namespaces of this test's own.
//!
//! Three of them: an outside with a registry; a host with immutag, other users, and the rules; and
//! a container behind the host.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::Root;
use crate::support::clients::Home;
use crate::support::docker_registry::DockerRegistry;
use crate::support::process::{Daemon, Ran, find, have, run};

/// immutag's user, and another.
const IMMUTAG: &str = "65532";
const OTHER: &str = "65533";

/// Where the registry is. Nobody has the second (RFC 3849); the first looks public, for immutag
/// asks no address that is reserved, and is so within these namespaces only.
const OUTSIDE: [&str; 2] = ["11.11.11.2", "2001:db8::2"];

/// Rules of somebody else.
const TRACKING: &str = "add table inet other; add chain inet other output { type filter hook \
                        output priority 0; }; add rule inet other output ct state established counter";

/// Connections to containers come from port 443.
const FROM_443: &str = "add table ip nat; add chain ip nat post { type nat hook postrouting \
                        priority srcnat; }; add rule ip nat post tcp dport 443 snat to \
                        11.11.11.2:443";

/// A network namespace, gone when it is dropped.
struct Namespace(String);

impl Namespace {
    /// `None` where this machine lets nobody make one.
    fn new(name: &str) -> Option<Self> {
        let name = format!("immutag-{}-{name}", std::process::id());
        let added = run(Command::new(find("ip")?).args(["netns", "add", &name]));
        if !added.status.success() {
            return skipped(&added);
        }
        let namespace = Self(name);
        namespace.ip(&["link", "set", "lo", "up"]);
        Some(namespace)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find("ip").expect("`have` was asked first"));
        command.args(["netns", "exec", &self.0]);
        command.arg(find(program).unwrap_or_else(|| PathBuf::from(program)));
        command
    }

    /// The same as another user.
    fn command_as(&self, user: &str, program: &str) -> Command {
        let mut command = self.command("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        command.arg(find(program).unwrap_or_else(|| PathBuf::from(program)));
        command
    }

    #[track_caller]
    fn ip(&self, arguments: &[&str]) {
        let ip = find("ip").expect("`have` was asked first");
        run(Command::new(ip).args(["-n", &self.0]).args(arguments)).ok();
    }

    /// Tries to reach the port over `tcp` or `udp` as a user.
    #[track_caller]
    fn reach(&self, user: &str, protocol: &str, address: &str) -> Ran {
        let script = format!("exec 3<>/dev/{protocol}/{address}/443 && echo a >&3 && echo reached");
        run(self.command_as(user, "bash").args(["-c", &script]))
    }

    #[track_caller]
    fn reaches(&self, user: &str, address: &str) {
        assert_eq!(self.reach(user, "tcp", address).ok().stdout, "reached\n", "{address}");
    }

    /// The refusal comes at once; without one the connection would be tried for minutes.
    #[track_caller]
    fn is_refused(&self, user: &str, address: &str) {
        self.reach(user, "tcp", address).failed_with("Connection refused");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// All that takes part. Processes end before the namespaces do.
struct Stage {
    _registry: Daemon,
    immutag: Daemon,
    rules: PathBuf,
    container: Namespace,
    host: Namespace,
    outside: Namespace,
    root: Root,
    folder: TempDir,
}

impl Stage {
    /// `None` where programs or permission are missing here.
    fn new() -> Option<Self> {
        if !have(&["docker-registry", "ip", "nft", "setpriv", "skopeo"]) {
            return None;
        }
        let [outside, host, container] = ["o", "h", "c"].map(Namespace::new);
        let (outside, host, container) = (outside?, host?, container?);
        connect(
            &host,
            "out",
            &["11.11.11.1/24", "2001:db8::1/64"],
            &outside,
            &["11.11.11.2/24", "2001:db8::2/64"],
        );
        connect(&host, "in", &["172.30.0.1/24"], &container, &["172.30.0.2/24"]);
        container.ip(&["route", "add", "default", "via", "172.30.0.1"]);
        outside.ip(&["route", "add", "172.30.0.0/24", "via", "11.11.11.1"]);
        run(host.command("bash").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])).ok();
        // As on most hosts, somebody tracks connections before the rules come.
        let tracked = run(host.command("nft").arg(TRACKING));
        if !tracked.status.success() {
            return skipped(&tracked);
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        open_to_all(folder.path());
        let registry = start_registry(&outside, folder.path());
        let immutag = start_immutag(&host, folder.path());
        let root = Root::new();
        root.told(&["egress", "nftables", "--user", IMMUTAG, "--write"]);
        let rules = root.at("/etc/immutag/egress.nft");
        Some(Self { _registry: registry, immutag, rules, container, host, outside, root, folder })
    }

    fn nft(&self, arguments: &[&str]) -> Ran {
        run(self.host.command("nft").args(arguments)).ok()
    }

    fn load(&self) {
        self.nft(&["-f", self.rules.to_str().expect("a plain path")]);
    }

    /// Puts an image into the registry outside, as immutag's user would.
    fn push(&self, tag: &str) -> String {
        let registry = DockerRegistry::start();
        let image = registry.push_image("app", tag, tag);
        let home = Home::plain(&[registry.host()]);
        let folder = format!("dir:{}", home.path().join("image").display());
        home.skopeo(&["copy", &format!("docker://{}/app:{tag}", registry.host()), &folder]).ok();
        let to = format!("docker://{}:443/app:{tag}", OUTSIDE[0]);
        let mut skopeo = self.outside.command("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--preserve-digests"]);
        skopeo.args(["--dest-tls-verify=false", &folder, &to]);
        run(skopeo.env("HOME", home.path())).ok();
        image.digest().to_owned()
    }

    /// What a client in a namespace pulls through immutag.
    fn pull(&self, from: &Namespace, immutag: &str, tag: &str) -> String {
        let reference = format!("docker://{immutag}:5051/registry.example/app:{tag}");
        let mut skopeo = from.command_as(OTHER, "skopeo");
        skopeo.args(["--insecure-policy", "inspect", "--no-tags", "--tls-verify=false"]);
        skopeo.args(["--format", "{{.Digest}}", &reference]).env("HOME", self.folder.path());
        // Else it looks below /run/containers, where root's podman lets nobody look.
        skopeo.env("XDG_RUNTIME_DIR", self.folder.path());
        run(&mut skopeo).ok().stdout.trim().to_owned()
    }

    /// A connection of another user to the registry, from before `between`: what it gets after it.
    fn keeps_a_connection(&self, between: impl FnOnce()) -> String {
        let script = format!(
            "exec 3<>/dev/tcp/{}/443 && echo open && read -r < go; \
             printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3",
            OUTSIDE[0]
        );
        let folder = tempfile::tempdir_in(self.folder.path()).expect("a temporary directory");
        open_to_all(folder.path());
        let go = folder.path().join("go");
        run(Command::new("mkfifo").args(["-m", "666"]).arg(&go)).ok();
        let mut command = self.host.command_as(OTHER, "bash");
        command.args(["-c", &script]).current_dir(folder.path());
        let mut client = Daemon::start(&mut command, &folder.path().join("log"));
        client.wait_until("the connection is open", |client| client.log().contains("open\n"));
        between();
        fs::File::options()
            .write(true)
            .open(&go)
            .and_then(|mut go| go.write_all(b"\n"))
            .expect("somebody reads it");
        client.wait();
        client.log()
    }
}

#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
fn skipped<T>(ran: &Ran) -> Option<T> {
    let test = std::thread::current();
    eprintln!("SKIPPED {}: {}", test.name().unwrap_or("a test"), ran.stderr.trim());
    None
}

/// A cable between two namespaces.
fn connect(a: &Namespace, name: &str, of_a: &[&str], b: &Namespace, of_b: &[&str]) {
    a.ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &b.0]);
    for (namespace, link, addresses) in [(a, name, of_a), (b, "eth0", of_b)] {
        for address in addresses {
            let is_ipv6 = address.contains(':');
            // No search for duplicates of an address that nobody else can have.
            let last: &[&str] = if is_ipv6 { &["nodad"] } else { &[] };
            namespace.ip(&[&["addr", "add", address, "dev", link], last].concat());
        }
        namespace.ip(&["link", "set", link, "up"]);
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("our own folder");
}

fn start_registry(outside: &Namespace, folder: &Path) -> Daemon {
    let config = folder.join("registry.yml");
    let data = folder.join("registry").display().to_string();
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp:\n  addr: ':443'\n"
    );
    fs::write(&config, text).expect("a file in our own directory");
    let mut command = outside.command("docker-registry");
    command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
    let mut registry = Daemon::start(&mut command, &folder.join("registry.log"));
    registry.wait_until("the registry listens", |it| it.log().contains("listening on "));
    registry
}

fn start_immutag(host: &Namespace, folder: &Path) -> Daemon {
    let program = folder.join("immutag");
    fs::copy(env!("CARGO_BIN_EXE_immutag"), &program).expect("a copy of the program");
    let config = folder.join("immutag.toml");
    let data = folder.join("data");
    let text = format!(
        "[[listener]]\naddress = \"0.0.0.0:5050\"\nkind = \"mirror\"\n\n\
         [[listener]]\naddress = \"0.0.0.0:5051\"\nkind = \"direct\"\n\n\
         [upstream.\"registry.example\"]\nurl = \"http://{}:443\"\nplain-http = true\n\
         allow-private = true\n",
        OUTSIDE[0]
    );
    fs::write(&config, text).expect("a file in our own directory");
    fs::create_dir(&data).expect("our own folder");
    open_to_all(&data);
    let mut command = host.command_as(IMMUTAG, program.to_str().expect("a plain path"));
    command.arg("serve").arg("--config").arg(&config).arg("--data-dir").arg(&data);
    let mut immutag = Daemon::start(&mut command, &folder.join("immutag.log"));
    immutag.wait_until("immutag listens", |_| {
        let script = "exec 3<>/dev/tcp/127.0.0.1/5051";
        run(host.command("bash").args(["-c", script])).status.success()
    });
    immutag
}

#[test]
fn under_the_rules_only_immutag_reaches_a_registry_and_pulls_go_on() {
    let Some(mut stage) = Stage::new() else { return };
    let (first, second) = (stage.push("1.0.0"), stage.push("2.0.0"));
    let Stage { host, container, .. } = &stage;
    for address in OUTSIDE {
        host.reaches(OTHER, address);
    }
    container.reaches(OTHER, OUTSIDE[0]);
    assert!(stage.keeps_a_connection(|| ()).contains("HTTP/1.0 200"), "the test sees an answer");

    // A connection that was open before is no way out, either.
    let answer = stage.keeps_a_connection(|| stage.load());
    assert!(!answer.contains("HTTP/1.0"), "{answer}");
    for address in OUTSIDE {
        host.is_refused(OTHER, address);
        host.is_refused("0", address);
        host.reaches(IMMUTAG, address);
    }
    container.is_refused(IMMUTAG, OUTSIDE[0]);
    // QUIC: a datagram is refused to its sender, too.
    host.reach(OTHER, "udp", OUTSIDE[0]).failed_with("write error");
    host.reach(IMMUTAG, "udp", OUTSIDE[0]).ok();

    // What was never pulled before: immutag asks the registry for it.
    assert_eq!(stage.pull(host, "127.0.0.1", "1.0.0"), first);
    assert_eq!(stage.pull(container, "172.30.0.1", "2.0.0"), second);

    // Loaded again it replaces itself, and what undoes it is what it says.
    stage.load();
    host.is_refused(OTHER, OUTSIDE[0]);
    let text = fs::read_to_string(&stage.rules).expect("the rules");
    let undo = text.lines().find_map(|line| line.strip_prefix("# Undo it with: nft ")).unwrap();
    stage.nft(&undo.split(' ').collect::<Vec<_>>());
    let left = stage.nft(&["list", "ruleset"]).stdout;
    assert!(left.contains("table inet other") && !left.contains("immutag"), "{left}");
    host.reaches(OTHER, OUTSIDE[0]);
    assert!(stage.immutag.is_alive());
}

#[test]
fn an_immutag_in_a_container_gets_out_by_its_address() {
    let Some(stage) = Stage::new() else { return };
    stage.load();
    stage.container.is_refused(OTHER, OUTSIDE[0]);
    // Who asks a service here from such a port is answered.
    run(stage.outside.command("nft").arg(FROM_443)).ok();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let _service = start_registry(&stage.container, folder.path());
    stage.outside.reaches(OTHER, "172.30.0.2");
    let rules = ["egress", "nftables", "--user", IMMUTAG, "--from", "172.30.0.2", "--write"];
    stage.root.told(&rules);
    stage.load();
    stage.container.reaches(OTHER, OUTSIDE[0]);
    stage.host.is_refused(OTHER, OUTSIDE[0]);
    // The registry's network is opened, and only that.
    let rules = ["egress", "nftables", "--user", IMMUTAG, "--allow", "11.11.11.0/24", "--write"];
    stage.root.told(&rules);
    stage.load();
    stage.host.reaches(OTHER, OUTSIDE[0]);
    stage.host.is_refused(OTHER, OUTSIDE[1]);
}
