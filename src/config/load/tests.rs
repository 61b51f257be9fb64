use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::config::{Credentials, ListenerKind};
use crate::units::DiskSize;

mod example;
mod refusals;
mod webhooks;

/// A directory with files, an environment, and what loading gives.
struct World {
    directory: TempDir,
    sources: Sources,
}

impl World {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let environment = vec![("HOME".to_owned(), "/people/ann".to_owned())];
        let working_dir = directory.path().to_owned();
        let sources = Sources { environment, working_dir, ..Sources::default() };
        Self { directory, sources }
    }

    fn with(text: &str) -> Self {
        Self::new().file(DEFAULT_FILE, text, 0o644)
    }

    fn file(self, name: &str, text: &str, mode: u32) -> Self {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(self.sources.clone())
    }

    fn loaded(&self) -> Config {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The problems, one per line, without the temporary directory's name.
    fn problems(&self) -> String {
        let directory = format!("{}/", self.directory.path().display());
        let error = self.load().expect_err("it should be refused");
        let lines: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(&directory, "")
    }
}

#[test]
fn without_any_configuration_the_defaults_hold() {
    let config = World::new().loaded();
    assert_eq!(config.data_dir, Path::new("/people/ann/.local/state/immutag"));
    let listeners: Vec<_> =
        config.listeners.iter().map(|it| (it.address.to_string(), it.kind)).collect();
    assert_eq!(
        listeners,
        [
            ("127.0.0.1:5050".to_owned(), ListenerKind::Mirror),
            ("127.0.0.1:5051".to_owned(), ListenerKind::Direct)
        ]
    );
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:5052");
    assert_eq!(config.policy.rules.len(), 6);
    assert!(config.upstreams.is_empty());
}

#[test]
fn the_data_directory_has_an_order_of_places() {
    let mut world = World::new().variable("XDG_STATE_HOME", "/state");
    assert_eq!(world.loaded().data_dir, Path::new("/state/immutag"));
    world.sources.is_root = true;
    assert_eq!(world.loaded().data_dir, Path::new("/var/lib/immutag"));
    let mut world = world.file(DEFAULT_FILE, "data-dir = \"data\"", 0o644);
    assert_eq!(world.loaded().data_dir, world.directory.path().join("data"));
    world.sources.data_dir = Some("/elsewhere".into());
    assert_eq!(world.loaded().data_dir, Path::new("/elsewhere"));

    let mut world = World::new();
    world.sources.environment.clear();
    assert!(world.problems().starts_with("data-dir: there is no home directory"));
}

#[test]
fn the_file_is_the_named_one_and_only_the_default_one_may_be_missing() {
    let mut world = World::with("offline = false")
        .file("other.toml", "offline = true", 0o644)
        .variable("IMMUTAG_CONFIG", "other.toml");
    assert!(world.loaded().offline);
    world.sources.path = Some(DEFAULT_FILE.into());
    assert!(!world.loaded().offline);
    world.sources.path = Some("missing.toml".into());
    assert!(world.problems().starts_with("missing.toml: the configuration file cannot be read: "));
}

#[test]
fn every_part_of_a_configuration_arrives() {
    let config = World::with(
        r#"
stale-if-error = 0
drain = "1m"
[[listener]]
address = "0.0.0.0:0"
kind = "mirror"
default-upstream = "GHCR.io"
allow-from = ["10.0.0.0/8"]
[admin]
hosts = ["Metrics.example"]
[ledger]
expect = "0123456789abcdef0123456789abcdef"
[cache]
max-size = 1000
[[rule]]
registry = "docker.io"
tag = { regex = 'v\d+' }
on-conflict = "hold"
accept-after = "3d"
settle = "1h"
recheck = "5m"
include-referrers = true
[upstream."Registry.example:5000"]
url = "http://10.0.0.7:5000/"
plain-http = true
allow-private = true
proxy = ""
auth-hosts = ["auth.example"]
header-timeout = "5s"
[upstream."docker.io"]
credentials = "client"
"#,
    )
    .loaded();
    assert_eq!(config.stale_if_error, Duration::ZERO);
    assert_eq!(config.drain, Duration::from_mins(1));
    let listener = &config.listeners[0];
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(listener.default_upstream.as_str(), "ghcr.io");
    assert_eq!(listener.allow_from, [("10.0.0.0".parse().unwrap(), 8)]);
    assert_eq!(config.admin.hosts, ["metrics.example"]);
    assert_eq!(config.cache.max_size, DiskSize::Bytes(1000));
    let rule = &config.policy.rules[0];
    assert_eq!(rule.name, "rule 1 (immutag.toml:15)");
    assert_eq!(rule.accept_after, Some(Duration::from_hours(72)));
    assert_eq!(rule.recheck, Duration::from_mins(5));
    assert!(rule.include_referrers);
    let upstream = &config.upstreams[&"registry.example:5000".parse().unwrap()];
    assert_eq!(upstream.url, "http://10.0.0.7:5000");
    assert_eq!(upstream.proxy.as_deref(), Some(""));
    assert_eq!(upstream.header_timeout, Duration::from_secs(5));
    let hub = &config.upstreams[&"docker.io".parse().unwrap()];
    assert_eq!(hub.url, "https://registry-1.docker.io");
    assert_eq!(hub.credentials, Credentials::Client);
}

#[test]
fn a_lock_file_and_the_ledgers_place_arrive_and_the_command_line_goes_before_them() {
    let world =
        World::with("[ledger]\nstore = \"memory\"\n[lock]\nfile = \"a.lock\"\nlocked = true\n");
    let config = world.loaded();
    let lock = config.lock.unwrap();
    assert_eq!(config.ledger, LedgerKind::Memory);
    assert!(lock.is_locked && lock.file.is_absolute() && lock.file.ends_with("a.lock"));
    let sources = Sources {
        ledger: Some(LedgerKind::File),
        lock: Some("b.lock".into()),
        ..world.sources.clone()
    };
    let config = load(sources).unwrap();
    assert_eq!(config.ledger, LedgerKind::File);
    assert!(config.lock.unwrap().file.ends_with("b.lock"));
    let world = World::with(
        "[ledger]\nstore = \"memory\"\nexpect = \"0123456789abcdef0123456789abcdef\"\n[lock]\n\
         locked = true\n",
    );
    let problems = world.problems();
    assert!(problems.contains("3:10: ledger.expect: a ledger in memory"), "{problems}");
    assert!(problems.contains("5:10: lock.locked: locked mode refuses"), "{problems}");
}

#[test]
fn environment_variables_go_before_the_file() {
    let config = World::with(
        "offline = false\n[cache]\nmax-size = \"1GiB\"\nmin-free = \"3GiB\"\n\
         [[rule]]\nregistry = \"ghcr.io\"\non-conflict = \"hold\"\n\
         [upstream.\"a.example\"]\nurl = \"https://old.example\"\n[upstream.\"b.example\"]\n",
    )
    .variable("IMMUTAG__OFFLINE", "true")
    .variable("IMMUTAG__CACHE__MAX_SIZE", "2GiB")
    .variable("IMMUTAG__STALE_IF_ERROR", "0")
    .variable("IMMUTAG__ADMIN__HOSTS", "[\"metrics.example\"]")
    .variable("IMMUTAG__ADMIN__ADDRESS", "127.0.0.1:0")
    .variable("IMMUTAG__LEDGER__EXPECT", "01234567890123456789012345678901")
    .variable("IMMUTAG__RULE", "[[rule]]\nregistry = \"quay.io\"\non-conflict = \"block\"")
    .variable("IMMUTAG__UPSTREAM", "[upstream.\"a.example\"]\nurl = \"https://new.example\"")
    .variable("IMMUTAG__LISTENER", "[{ address = \"127.0.0.1:0\", kind = \"direct\" }]")
    .variable("IMMUTAG_SERVICE_PORT", "tcp://10.0.0.1:5050")
    .loaded();
    assert!(config.offline);
    assert_eq!(config.cache.max_size, DiskSize::Bytes(2 << 30));
    assert_eq!(config.cache.min_free, DiskSize::Bytes(3 << 30));
    assert_eq!(config.stale_if_error, Duration::ZERO);
    assert_eq!(config.admin.hosts, ["metrics.example"]);
    let names: Vec<_> = config.policy.rules.iter().map(|rule| rule.name.as_str()).take(2).collect();
    assert_eq!(names, ["rule 1 (IMMUTAG__RULE:1)", "rule 2 (immutag.toml:5)"]);
    let urls: Vec<_> = config.upstreams.values().map(|it| it.url.as_str()).collect();
    assert_eq!(urls, ["https://new.example", "https://b.example"]);
    assert_eq!(config.listeners.len(), 1);
}

#[test]
fn own_credentials_come_from_files_variables_and_docker() {
    let docker = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "aHVidXNlcjpodWJwYXNz"},
        "c.example": {"username": "cuser", "password": "cpass"}}}"#;
    let world = World::with(
        "[upstream.\"a.example\"]\ncredentials = \"own\"\nusername = \"u\"\n\
         password-file = \"password\"\n\
         [upstream.\"docker.io\"]\ncredentials = \"own\"\ndocker-config = \"config.json\"\n\
         [upstream.\"c.example\"]\ncredentials = \"own\"\ndocker-config = \"config.json\"\n",
    )
    .file("password", "s3cret-canary\n", 0o600)
    .file("config.json", docker, 0o600)
    .variable(
        "IMMUTAG__UPSTREAM",
        "[upstream.\"b.example\"]\ncredentials = \"own\"\nusername = \"v\"\npassword = \"canary\"",
    );
    let config = world.loaded();
    let own: Vec<_> = config
        .upstreams
        .values()
        .map(|upstream| match &upstream.credentials {
            Credentials::Own { username, password } => (username.as_str(), password.expose()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [("u", "s3cret-canary"), ("v", "canary"), ("cuser", "cpass"), ("hubuser", "hubpass")];
    assert_eq!(own, expected);
    let shown = format!("{config:?}");
    assert!(!shown.contains("canary") && !shown.contains("pass\""), "{shown}");
}

#[test]
fn without_the_built_in_rules_the_users_stand_alone() {
    let config = World::with("builtin-rules = false").loaded();
    assert!(config.policy.rules.is_empty());
}

proptest! {
    #[test]
    fn no_text_and_no_variable_panics(
        text in r#"(\[{0,2}(rule|cache|upstream|listener|x)(\."a\.b")?\]{0,2}\n|(tag|url|address|max-size|x) = ?["'{a1=\[\]}]{0,4}\n|é){0,8}"#,
        name in "IMMUTAG__[A-Z_]{0,12}",
        key in "(RULE|UPSTREAM|LISTENER|OFFLINE|CACHE__MAX_SIZE)",
    ) {
        let world = World::with(&text)
            .variable(&name, &text)
            .variable(&format!("IMMUTAG__{key}"), &text);
        if let Err(error) = world.load() {
            prop_assert!(!error.problems.is_empty());
            prop_assert!(error.to_string().contains("the configuration has"));
        }
    }
}
