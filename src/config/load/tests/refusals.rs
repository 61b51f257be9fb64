//! What is refused, and in which words (faults O-01).

use super::*;

/// Checks that each line of `expected` begins the problem at its place.
fn assert_problems(world: &World, expected: &[&str]) {
    let problems = world.problems();
    let lines: Vec<_> = problems.lines().collect();
    let agrees = lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, start)| line.starts_with(start));
    assert!(agrees, "expected\n{}\ngot\n{problems}", expected.join("\n"));
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    let world = World::with(
        r#"stale-if-eror = "1h"
offline = "yes"
drain = 30
[[listener]]
kind = "transparent"
[cache]
max-sise = "1GiB"
min-free = "lots"
no-such-key-at-all = "90d"
[[rule]]
repository = "a["
on-conflict = "hold"
[[rule]]
tag = { regex = "(" }
on-conflict = "hodl"
[[rule]]
accept-after = "7d"
on-conflict = "block"
[upstream."a.example"]
url = "http://a.example"
[upstream."a.example.".x]
"#,
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:1:1: stale-if-eror: there is no such key; did you mean \"stale-if-error\"?",
            "immutag.toml:2:11: offline: invalid type: string \"yes\", expected a boolean",
            "immutag.toml:3:9: drain: the number 30 needs a unit, for example \"30s\"",
            "immutag.toml:4:1: listener 1: address: it is missing",
            "immutag.toml:5:8: listener 1: kind: unknown variant \"transparent\", expected \"direct\" or",
            "immutag.toml:7:1: cache.max-sise: there is no such key; did you mean \"max-size\"?",
            "immutag.toml:8:12: cache.min-free: a size is a number with a unit",
            "immutag.toml:9:1: cache.no-such-key-at-all: there is no such key; known here: max-size, min-free, durable",
            "immutag.toml:11:14: rule 1: repository: \"a[\" is no glob: unclosed character class",
            "immutag.toml:15:15: rule 2: on-conflict: unknown variant \"hodl\", expected one of",
            "immutag.toml:17:16: rule 3: accept-after: only on-conflict = \"hold\" waits",
            "immutag.toml:20:7: upstream.\"a.example\".url: http is neither private nor authentic",
            "immutag.toml:21:11: upstream.\"a.example.\": it is named as references name it",
            "immutag.toml:21:24: upstream.\"a.example.\".x: there is no such key",
        ],
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_every_place() {
    let world = World::with("offline = = true\n[cache\nmax-size = 1\n")
        .variable("IMMUTAG__RULE", "[[rule]\n");
    assert_problems(
        &world,
        &[
            "immutag.toml:1:11: this is not TOML: ",
            "immutag.toml:1:13: this is not TOML: ",
            "immutag.toml:2:7: this is not TOML: unclosed table",
            "IMMUTAG__RULE:1:8: this is not TOML: ",
        ],
    );
    let world = World::new();
    fs::write(world.directory.path().join(DEFAULT_FILE), b"data-dir = \"\xff\"").unwrap();
    assert_problems(&world, &["immutag.toml: the configuration file is not UTF-8"]);
    let world = World::with("offline = true\noffline = false");
    assert_problems(&world, &["immutag.toml:2:1: this is not TOML: duplicate key"]);
}

#[test]
fn unknown_and_wrong_variables_are_refused_by_their_name() {
    let world = World::new()
        .variable("IMMUTAG__CACHE__MAX_SISE", "1GiB")
        .variable("IMMUTAG__CACHE__MIN_FREE", "lots")
        .variable("IMMUTAG__OFFLINE", "maybe")
        .variable("IMMUTAG__", "x")
        .variable("IMMUTAG__TLS__CERT_FILE", "x");
    assert_problems(
        &world,
        &[
            "IMMUTAG__: \"\": there is no such key",
            "IMMUTAG__CACHE__MAX_SISE: cache.max-sise: there is no such key; did you mean",
            "IMMUTAG__CACHE__MIN_FREE: cache.min-free: a size is a number",
            "IMMUTAG__OFFLINE: offline: invalid type: string \"maybe\"",
            "IMMUTAG__TLS__CERT_FILE: tls: there is no such key",
        ],
    );
    let world = World::new()
        .variable("IMMUTAG__UPSTREAM__GHCR_IO__URL", "https://x.example")
        .variable("IMMUTAG__RULE", "offline = true");
    assert_problems(
        &world,
        &[
            "IMMUTAG__RULE: it must hold [[rule]] tables, only",
            "IMMUTAG__UPSTREAM__GHCR_IO__URL: give the whole table as TOML in IMMUTAG__UPSTREAM",
        ],
    );
}

#[test]
fn rules_that_conflict_or_say_nothing_are_refused() {
    let world = World::with(
        r#"[[rule]]
registry = "docker.io"
on-conflict = "hold"
[[rule]]
registry = "docker.io"
repository = "alpine"
on-conflict = "block"
[[rule]]
[[rule]]
tag = {}
on-conflict = "hold"
[[rule]]
tag = { glob = "a", suffix = ["b"] }
on-conflict = "hold"
[[rule]]
tag = { suffix = [] }
on-conflict = "hold"
[[rule]]
tag = { regex = '(\w{100}){100}' }
on-conflict = "hold"
[[rule]]
tag = { glob = "x" }
on-conflict = "record"
settle = "1d"
[[rule]]
tag = { glob = "y" }
on-conflict = "hold"
accept-after = 0
"#,
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:4:1: rule 2: it never decides: rule 1 (immutag.toml:1) comes first",
            "immutag.toml:8:1: rule 3: on-conflict: it is missing",
            "immutag.toml:10:7: rule 4: tag: give exactly one of",
            "immutag.toml:13:7: rule 5: tag: give exactly one of",
            "immutag.toml:16:18: rule 6: tag.suffix: give one ending or more",
            "immutag.toml:19:17: rule 7: tag.regex: the regular expression is too large",
            "immutag.toml:24:10: rule 8: settle: it does nothing under on-conflict = \"record\"",
            "immutag.toml:28:16: rule 9: accept-after: 0 would follow at once",
        ],
    );
}

#[test]
fn listeners_that_cannot_both_be_are_refused() {
    let world = World::with(
        r#"[[listener]]
address = "127.0.0.1:5052"
kind = "mirror"
[[listener]]
address = "0.0.0.0:5052"
kind = "direct"
default-upstream = "docker.io"
allow-from = ["10.0.0.7/8", "x"]
[[listener]]
address = "localhost:5050"
kind = "mirror"
default-upstream = "docker.io."
"#,
    );
    assert_problems(
        &world,
        &[
            "admin.address: 127.0.0.1:5052 is taken by listener 1: address",
            "immutag.toml:5:11: listener 2: address: 0.0.0.0:5052 is taken by listener 1",
            "immutag.toml:7:20: listener 2: default-upstream: only a mirror listener has one",
            "immutag.toml:8:15: listener 2: allow-from 1: \"10.0.0.7/8\" has bits after its prefix",
            "immutag.toml:8:29: listener 2: allow-from 2: \"x\" is no network",
            "immutag.toml:10:11: listener 3: address: invalid socket address syntax",
            "immutag.toml:12:20: listener 3: default-upstream: \"docker.io.\": a registry is",
        ],
    );
    assert_problems(&World::with("listener = []"), &["immutag.toml:1:12: listener: without"]);
}

#[test]
fn our_credentials_are_not_for_everybody_by_accident() {
    let text = |more: &str| {
        format!(
            "[[listener]]\naddress = \"0.0.0.0:5050\"\nkind = \"mirror\"\n{more}\n\
             [upstream.\"a.example\"]\ncredentials = \"own\"\nusername = \"u\"\n\
             password-file = \"password\"\n"
        )
    };
    let world = |more: &str| World::with(&text(more)).file("password", "x", 0o600);
    assert_problems(&world(""), &["immutag.toml:1:1: listener 1: whoever reaches 0.0.0.0:5050"]);
    assert!(world("allow-from = [\"10.0.0.0/8\"]").load().is_ok());
    assert!(world("share-private = true").load().is_ok());
}

#[test]
fn files_of_secrets_must_be_there_private_and_full() {
    let text = r#"[upstream."a.example"]
credentials = "own"
username = "u"
password-file = "open"
[upstream."b.example"]
credentials = "own"
username = "u"
password-file = "missing"
[upstream."c.example"]
credentials = "own"
username = "u"
password-file = "empty"
[upstream."d.example"]
credentials = "own"
docker-config = "config.json"
[upstream."e.example"]
credentials = "own"
username = "u"
[upstream."f.example"]
username = "u"
[upstream."g.example"]
credentials = "own"
username = "u"
password-file = "."
"#;
    let world = World::with(text).file("open", "canary", 0o644).file("empty", "\n", 0o600).file(
        "config.json",
        "{\"auths\": {\"other\": {\"auth\": \"Y2FuYXJ5OnBhc3M=\"}}}",
        0o600,
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:4:17: upstream.\"a.example\".password-file: open holds a secret and has \
             mode 0644, so that others may use it: chmod 600 it",
            "immutag.toml:8:17: upstream.\"b.example\".password-file: missing cannot be read: ",
            "immutag.toml:12:17: upstream.\"c.example\".password-file: empty: the password is empty",
            "immutag.toml:15:17: upstream.\"d.example\".docker-config: config.json: there are no",
            "immutag.toml:17:15: upstream.\"e.example\".credentials: credentials = \"own\" wants",
            "immutag.toml:20:12: upstream.\"f.example\".username: it is used only with",
            "immutag.toml:24:17: upstream.\"g.example\".password-file: ",
        ],
    );
    assert!(!world.problems().contains("canary"));
}

#[test]
fn no_message_quotes_a_secret() {
    let world = World::with(
        "[upstream.\"a.example\"]\ncredentials = \"own\"\nusername = \"u\"\npassword = \"canary\"\n\
         url = \"https://user:canary@a.example\"\nproxy = \"http://user:canary@p.example:1\"\n\
         [upstream.\"b.example\"]\npassword = 424242\n",
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:4:12: upstream.\"a.example\".password: a password does not belong in",
            "immutag.toml:5:7: upstream.\"a.example\".url: an origin is https://host[:port]",
            "immutag.toml:6:9: upstream.\"a.example\".proxy: a proxy is http://host:port",
            "immutag.toml:8:12: upstream.\"b.example\".password: it must be a string",
        ],
    );
    let problems = world.problems();
    assert!(!problems.contains("canary") && !problems.contains("424242"), "{problems}");
}

#[test]
fn upstreams_that_the_guard_would_refuse_are_told_beforehand() {
    let world = World::with(
        r#"[upstream."10.0.0.7:5000"]
[upstream."a.example"]
url = "https://[::1]:5000"
[upstream."b.example"]
url = "https://b.example/v2"
connect-timeout = 0
ca-file = "missing.pem"
auth-hosts = ["https://auth"]
[upstream."docker.io"]
[upstream."index.docker.io"]
"#,
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:1:1: upstream.\"10.0.0.7:5000\": 10.0.0.7 is a private address",
            "immutag.toml:3:7: upstream.\"a.example\".url: ::1 is a private address",
            "immutag.toml:5:7: upstream.\"b.example\".url: an origin is",
            "immutag.toml:6:19: upstream.\"b.example\".connect-timeout: it must be more than 0",
            "immutag.toml:7:11: upstream.\"b.example\".ca-file: missing.pem cannot be read",
            "immutag.toml:8:15: upstream.\"b.example\".auth-hosts 1: \"https://auth\" is no host",
            "immutag.toml:10:1: upstream.\"index.docker.io\": docker.io is there already",
        ],
    );
}

#[test]
fn a_listener_s_certificate_is_looked_at_before_a_client_sees_it() {
    let (certificate, key) = crate::config::certificate::tests::pair(2020, 4000);
    let (expired, its_key) = crate::config::certificate::tests::pair(2020, 2024);
    let listener = |tls: &str| {
        let head = "[[listener]]\naddress = \"127.0.0.1:1\"\nkind = \"mirror\"\n";
        let world = World::with(&format!("{head}tls = {tls}\n"));
        let world = world.file("a.pem", &certificate, 0o644).file("a.key", &key, 0o600);
        world.file("old.pem", &expired, 0o644).file("old.key", &its_key, 0o644)
    };
    for (tls, problem) in [
        (r#"{ cert-file = "a.pem" }"#, ":7: listener 1: tls: it wants both"),
        (r#"{ cert-file = "a.pem", key = "a.key" }"#, ":7: listener 1: tls: it wants both"),
        (
            r#"{ cert-file = "b.pem", key-file = "a.key" }"#,
            ":21: listener 1: tls.cert-file: b.pem cannot be read: No such file",
        ),
        (
            r#"{ cert-file = "old.pem", key-file = "a.key" }"#,
            ":21: listener 1: tls.cert-file: old.pem: the certificate expired at 2024-01-01",
        ),
        (
            r#"{ cert-file = "a.pem", key-file = "old.key" }"#,
            ":41: listener 1: tls.key-file: old.key holds a secret and has mode 0644",
        ),
        (
            r#"{ cert-file = "a.pem", key-file = "a.pem" }"#,
            ":41: listener 1: tls.key-file: a.pem holds a secret and has mode 0644",
        ),
    ] {
        let problems = listener(tls).problems();
        assert!(problems.starts_with(&format!("immutag.toml:4{problem}")), "{tls}: {problems}");
    }
    let config = listener(r#"{ cert-file = "a.pem", key-file = "a.key" }"#).loaded();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert!(tls.cert_file.is_absolute() && tls.cert_file.ends_with("a.pem"));
    assert_eq!(config.listeners[0].scheme(), "https");
}

#[test]
fn a_listener_has_time_and_room_for_clients() {
    let world = World::with(
        r#"[[listener]]
address = "127.0.0.1:1"
kind = "mirror"
head-timeout = "0s"
max-connections = 0
max-connections-per-client = -1
"#,
    );
    assert_problems(
        &world,
        &[
            "immutag.toml:4:16: listener 1: head-timeout: with 0, no client could",
            "immutag.toml:5:19: listener 1: max-connections: with 0, no client could",
            "immutag.toml:6:30: listener 1: max-connections-per-client: ",
        ],
    );
}
