//! containerd's `config.toml`, by version and by what is there.

use super::super::options::fixtures::options;
use super::*;

const HOSTS_DIR: &str = "/etc/containerd/certs.d";

fn found(version: Option<&str>) -> Found {
    let version = version.map(|version| version.parse().unwrap());
    Found { version, store: None, by: version.map(|_| "--version") }
}

fn merged(existing: &str) -> Result<String, String> {
    merge(existing, &config_toml(None, HOSTS_DIR))
}

fn config_path(text: &str, plugin: &str) -> Option<String> {
    let parsed: toml::Table = text.parse().unwrap();
    let registry = parsed.get("plugins")?.get(plugin)?.get("registry")?;
    Some(registry.get("config_path")?.as_str().unwrap().to_owned())
}

#[test]
fn each_version_gets_the_plugin_that_it_knows() {
    for (version, format, plugin) in [
        (Some("1.6"), 2, PLUGINS[0]),
        (Some("1.7.27"), 2, PLUGINS[0]),
        (Some("2.0"), 3, PLUGINS[1]),
        (Some("2.2.1"), 3, PLUGINS[1]),
        (None, 3, PLUGINS[1]),
    ] {
        let setting = setting(&options(&[]), &found(version)).unwrap();
        let config = setting.files.last().unwrap();
        let parsed: toml::Table = config.content.parse().unwrap();
        assert_eq!(parsed["version"].as_integer(), Some(format), "{version:?}");
        assert_eq!(config_path(&config.content, plugin).as_deref(), Some(HOSTS_DIR));
        let note = &setting.notes[0];
        assert_eq!(note.about, About::Version);
        assert_eq!(note.text.contains("assumed"), version.is_none(), "{note:?}");
    }
    let refusal = setting(&options(&[]), &found(Some("1.4.9"))).unwrap_err();
    assert!(refusal.to_string().contains("always adds the registry itself"), "{refusal}");
}

#[test]
fn one_key_is_set_and_everything_else_stays_as_it_is() {
    let existing = "# mine\nversion = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    \
                    sandbox_image = \"pause\" # pinned\n    \
                    [plugins.\"io.containerd.grpc.v1.cri\".registry]\n      \
                    config_path = \"\" # none\n\n[debug]\n  level = \"info\"\n";
    let merged = merged(existing).unwrap();
    insta::assert_snapshot!(merged, @r#"
    # mine
    version = 2

    [plugins]
      [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "pause" # pinned
        [plugins."io.containerd.grpc.v1.cri".registry]
          config_path = "/etc/containerd/certs.d" # none

    [debug]
      level = "info"
    "#);
    assert_eq!(super::merge(&merged, &config_toml(None, HOSTS_DIR)).unwrap(), merged);
}

#[test]
fn the_table_is_added_where_there_is_none() {
    for (existing, plugin) in [
        ("version = 2\n", PLUGINS[0]),
        ("version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'x'\n", PLUGINS[1]),
        ("version = 2\nplugins = { \"io.containerd.grpc.v1.cri\" = { a = 1 } }\n", PLUGINS[0]),
        ("# empty\n", PLUGINS[1]),
    ] {
        let merged = merged(existing).unwrap();
        assert_eq!(config_path(&merged, plugin).as_deref(), Some(HOSTS_DIR), "{merged}");
        assert!(merged.starts_with(existing.lines().next().unwrap()), "{merged}");
    }
}

#[test]
fn a_list_of_paths_that_newer_versions_read_as_one_becomes_one() {
    let existing = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n\
                    config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n";
    let merged = merged(existing).unwrap();
    assert_eq!(config_path(&merged, PLUGINS[1]).as_deref(), Some(HOSTS_DIR));
}

#[test]
fn a_runtime_without_the_plugin_is_left_alone() {
    let existing = "version = 2\ndisabled_plugins = [\"cri\"]\n";
    assert_eq!(merged(existing).unwrap(), existing);
}

#[test]
fn what_would_be_lost_or_keep_containerd_from_starting_is_refused_in_words() {
    let registry = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry";
    for (existing, words) in [
        ("version = 2\n[plugins".to_owned(), "TOML parse error"),
        ("root = \"/x\"\n".to_owned(), "no `version = 2`"),
        ("version = 1\n".to_owned(), "no `version = 2`"),
        ("version = 2\nplugins = 3\n".to_owned(), "`plugins` is no table"),
        (format!("{registry}]\nconfig_path = \"/my/certs.d\"\n"), "--hosts-dir /my/certs.d"),
        (format!("{registry}.mirrors.\"docker.io\"]\nendpoint = []\n"), "registry.mirrors"),
        (format!("{registry}.configs.\"a\".tls]\nca_file = \"\"\n"), "registry.configs"),
    ] {
        let refusal = merged(&existing).unwrap_err();
        assert!(refusal.contains(words), "{existing}: {refusal}");
    }
}
