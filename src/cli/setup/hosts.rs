//! `hosts.toml`: what containerd, and Docker with the containerd store, read for each registry.

use toml_edit::{DocumentMut, Item, TableLike};

use super::options::{Options, Pushes, Scope, Target};
use super::setting::{About, MARK, Merge, Refusal, Setting};
use super::toml_tables::not_toml;
use crate::cli::clients::hosts_folder;

/// Adds a `hosts.toml` for each registry, and what is to be known about them.
///
/// Each has a `server` and a `[host]` table: without the first containerd adds the registry
/// itself, without the second 1.6, and 1.7 before 1.7.32, reject the file and go on without it.
pub(super) fn add(options: &Options, setting: &mut Setting) -> Result<(), Refusal> {
    let mirror = options.mirror()?;
    for target in &options.targets {
        for name in target.scope.names("_default") {
            let path = format!("{}/{}/hosts.toml", options.hosts_dir, hosts_folder(name));
            let content = hosts_toml(options, target, name, setting.subject)?;
            setting.file(path, content, Merge::Hosts);
        }
    }
    options.put_ca(mirror, setting);
    note(options, setting);
    Ok(())
}

fn note(options: &Options, setting: &mut Setting) {
    let names = options.names();
    setting.note(
        About::Closed,
        format!("{names}: pulled through immutag or not at all, also while it is down"),
    );
    options.note_unnamed(setting);
    if options.covers_every_registry() {
        let text = format!(
            "a registry that has a directory of its own in {} goes by that one",
            options.hosts_dir
        );
        setting.note(About::Open, text);
    }
    setting.note(
        About::Open,
        "a `hosts.toml` that is no valid TOML, or that loses its `server` line or the `resolve` \
         of its [host] table, is a silent bypass",
    );
    let pushes = match options.pushes {
        Pushes::Direct if options.covers_every_registry() => {
            "to the registry itself for what is named; a registry that is not named takes none, \
             for immutag is its only server"
        }
        Pushes::Direct => "to the registry itself, as before; immutag takes none",
        Pushes::Refused => "nowhere: the client refuses them, for immutag takes none",
    };
    setting.note(About::Pushes, pushes);
    if options.pushes == Pushes::Direct {
        setting.note(
            About::Then,
            "`*.crt` and `*.cert` files beside a hosts.toml are not read: where pushes need such, \
             name them in it (`ca`, `client`)",
        );
    }
}

fn hosts_toml(
    options: &Options,
    target: &Target,
    name: &str,
    subject: &str,
) -> Result<String, Refusal> {
    let mirror = options.mirror()?;
    let ca = |indent: &str| match options.ca_path(mirror) {
        Some(path) => format!("{indent}ca = \"{path}\"\n"),
        None => String::new(),
    };
    let server = match (&target.origin, options.pushes) {
        (Some(origin), Pushes::Direct) => {
            format!("server = \"{origin}\"\ncapabilities = [\"push\"]\n")
        }
        _ => {
            format!("server = \"{mirror}\"\ncapabilities = [\"pull\", \"resolve\"]\n{}", ca(""))
        }
    };
    let about = match target.scope {
        Scope::Every => "every registry without a directory of its own".to_owned(),
        Scope::Named(_) => name.to_owned(),
    };
    Ok(format!(
        "# {MARK} {subject}`: {about} is pulled through immutag only.\n\
         {server}\n[host.\"{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n{}",
        ca("  ")
    ))
}

/// Why a `hosts.toml` that is there may not be replaced, if so: it says more than where to pull
/// from, or it cannot be read.
pub(super) fn objection(existing: &str) -> Option<String> {
    let document: DocumentMut = match existing.parse() {
        Ok(document) => document,
        Err(error) => return Some(not_toml(&error)),
    };
    let hosts = document.get("host").and_then(Item::as_table_like);
    let hosts = hosts.into_iter().flat_map(TableLike::iter);
    let tables = hosts.filter_map(|(_, host)| host.as_table_like());
    let tables = tables.chain([document.as_table() as &dyn TableLike]);
    let keys = tables.flat_map(|table| table.iter().map(|(key, _)| key.to_owned()));
    let private = keys.filter(|key| ["client", "header"].contains(&key.as_str()));
    private.into_iter().next().map(|key| {
        format!("it has `{key}`, which would be lost: move it away, and put that back by hand")
    })
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    fn files(options: &Options) -> Setting {
        let mut setting = Setting::new("containerd");
        add(options, &mut setting).unwrap();
        setting
    }

    /// What containerd makes of it: the servers for one use, in order, as its own code reads the
    /// file. A root without capabilities has all of them.
    fn asked_for(capability: &str, content: &str) -> Vec<String> {
        let parsed: toml::Table = content.parse().unwrap();
        let able = |table: &toml::Table| match table.get("capabilities") {
            None => true,
            Some(list) => list.as_array().unwrap().iter().any(|it| it.as_str() == Some(capability)),
        };
        let hosts = parsed["host"].as_table().unwrap();
        let hosts = hosts.iter().filter(|(_, host)| able(host.as_table().unwrap()));
        let mut servers: Vec<_> = hosts.map(|(name, _)| name.clone()).collect();
        if able(&parsed) {
            servers.push(parsed["server"].as_str().unwrap().to_owned());
        }
        servers
    }

    #[test]
    fn the_file_for_docker_io() {
        let setting = files(&options(&[]));
        assert_eq!(setting.files[0].path, "/etc/containerd/certs.d/docker.io/hosts.toml");
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup containerd`: docker.io is pulled through immutag only.
        server = "https://registry-1.docker.io"
        capabilities = ["push"]

        [host."http://127.0.0.1:5050"]
          capabilities = ["pull", "resolve"]
        "#);
    }

    #[test]
    fn a_private_ca_is_named_only_where_there_is_tls() {
        let mut options = private_options(&[]);
        options.pushes = Pushes::Refused;
        let setting = files(&options);
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup containerd`: docker.io is pulled through immutag only.
        server = "https://proxy.example:5050"
        capabilities = ["pull", "resolve"]
        ca = "/etc/immutag/ca.crt"

        [host."https://proxy.example:5050"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/immutag/ca.crt"
        "#);
        let last = setting.files.last().unwrap();
        assert_eq!((last.path.as_str(), last.merge), ("/etc/immutag/ca.crt", Merge::Certificates));
        options.endpoints.mirror.as_mut().unwrap().is_tls = false;
        let plain = files(&options);
        assert!(plain.files.iter().all(|file| !file.content.contains("ca =")), "{plain:?}");
    }

    #[test]
    fn only_immutag_is_asked_for_tags_and_content_and_pushes_go_where_they_are_said_to() {
        let more = ["ghcr.io", "registry.example:5000", "*"];
        for (pushes, origin) in [(Pushes::Direct, Some("https://ghcr.io")), (Pushes::Refused, None)]
        {
            let mut options = options(&more);
            options.pushes = pushes;
            let setting = files(&options);
            for file in &setting.files {
                for capability in ["pull", "resolve"] {
                    let asked = asked_for(capability, &file.content);
                    let only = asked.iter().all(|server| server == "http://127.0.0.1:5050");
                    assert!(only && !asked.is_empty(), "{file:?}");
                }
            }
            let ghcr = setting.files.iter().find(|file| file.path.contains("/ghcr.io/")).unwrap();
            let pushed: Vec<_> = origin.into_iter().map(str::to_owned).collect();
            assert_eq!(asked_for("push", &ghcr.content), pushed);
        }
    }

    #[test]
    fn every_name_of_a_registry_has_the_directory_that_is_looked_for_first() {
        let setting = files(&options(&["registry.example:5000", "*"]));
        let paths: Vec<_> = setting.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/etc/containerd/certs.d/docker.io/hosts.toml",
                "/etc/containerd/certs.d/registry-1.docker.io/hosts.toml",
                "/etc/containerd/certs.d/registry.example_5000_/hosts.toml",
                "/etc/containerd/certs.d/_default/hosts.toml",
            ]
        );
    }

    #[test]
    fn a_file_with_more_than_mirrors_is_not_replaced() {
        for (existing, word) in [
            ("server = \"https://a\"\n[host.\"https://b\"]\n  capabilities = [\"pull\"]\n", None),
            ("", None),
            ("server = \n", Some("no TOML")),
            ("[host.\"https://b\"]\nclient = \"/key.pem\"\n", Some("`client`")),
            ("[host.\"https://b\".header]\nx-token = \"1\"\n", Some("`header`")),
            ("header = { a = \"b\" }\n", Some("`header`")),
        ] {
            let objection = objection(existing);
            match word {
                None => assert_eq!(objection, None, "{existing}"),
                Some(word) => assert!(objection.unwrap().contains(word), "{existing}"),
            }
        }
    }
}
