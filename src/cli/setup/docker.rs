//! Docker: `registry-mirrors` for the classic image store, which nothing closes, and `hosts.toml`
//! for the containerd store, which is fail-closed. Source: moby's `daemon/hosts.go`.

use serde_json::json;

use super::hosts;
use super::options::Options;
use super::setting::{About, Merge, Refusal, Setting};
use super::version::Found;
use crate::cli::clients::{DockerStore, Version};

/// What Docker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Either, for nobody knows the store: each store reads its own.
    Both,
    HostsToml,
    RegistryMirrors,
}

/// The settings for Docker.
pub(super) fn setting(options: &Options, found: &Found) -> Result<Setting, Refusal> {
    let mut setting = Setting::new("docker");
    let reads = reads(found);
    note_version(found, reads, &mut setting);
    if reads == Reads::RegistryMirrors && !options.covers_docker_io() {
        return Err(Refusal::Useless(
            "Docker's classic store has mirrors for docker.io only: pull from other registries by \
             explicit references to the direct listener"
                .to_owned(),
        ));
    }
    if reads != Reads::HostsToml && options.covers_docker_io() {
        add_mirror(options, reads, &mut setting)?;
    }
    if reads != Reads::RegistryMirrors {
        hosts::add(options, &mut setting)?;
    }
    setting.note(
        About::Open,
        "`docker build` follows these settings only with the default builder: others have a \
         buildkitd.toml of their own (`immutag setup buildkit`)",
    );
    Ok(setting)
}

fn reads(found: &Found) -> Reads {
    let is_old = found.version.is_some_and(|version| version < Version::DOCKER_READS_HOSTS);
    match found.store {
        Some(DockerStore::Containerd) if !is_old => Reads::HostsToml,
        None if !is_old => Reads::Both,
        _ => Reads::RegistryMirrors,
    }
}

fn note_version(found: &Found, reads: Reads, setting: &mut Setting) {
    let version = match (found.version, found.by) {
        (Some(version), Some(by)) => format!("Docker {version} ({by})"),
        _ => "Docker 28 or later, assumed: no version was given or found; --version says which"
            .to_owned(),
    };
    let store = match (found.store, reads) {
        (Some(DockerStore::Classic), _) => "with the classic store",
        (Some(DockerStore::Containerd), Reads::RegistryMirrors) => {
            "with the containerd store, which reads hosts.toml from 28 on only"
        }
        (Some(DockerStore::Containerd), _) => "with the containerd store",
        (None, Reads::RegistryMirrors) => "of either store",
        (None, _) => {
            "of a store that is not known: these are the settings for both, and what is \
                      closed is so with the containerd store only; --store says which"
        }
    };
    setting.note(About::Version, format!("{version}, {store}"));
}

fn add_mirror(options: &Options, reads: Reads, setting: &mut Setting) -> Result<(), Refusal> {
    let mirror = options.mirror()?;
    let mut daemon = json!({ "registry-mirrors": [mirror.to_string()] });
    let direct = options.endpoints.direct.as_ref();
    if let Some(direct) = direct.filter(|it| !it.is_tls && !it.is_loopback()) {
        daemon["insecure-registries"] = json!([direct.authority]);
    }
    let content = format!("{daemon:#}\n");
    setting.file("/etc/docker/daemon.json", content, Merge::JsonLists);
    for endpoint in [Some(mirror), direct].into_iter().flatten() {
        let path = format!("/etc/docker/certs.d/{}/ca.crt", endpoint.authority);
        options.put_ca_at(path, endpoint, setting);
    }
    note_mirror(options, reads, setting);
    Ok(())
}

fn note_mirror(options: &Options, reads: Reads, setting: &mut Setting) {
    let classic = if reads == Reads::Both { "classic store: " } else { "" };
    let open = |text: &str| format!("{classic}{text}");
    setting.note(
        About::Open,
        open(
            "no fail-closed setting exists. While immutag is down, or when a blob fails, the \
             daemon asks Docker Hub. hold and block hold while immutag runs; `immutag setup \
             egress` closes the rest",
        ),
    );
    let direct = options.endpoints.direct.as_ref();
    let reference = direct.map(|direct| format!("{}/ghcr.io/owner/image:1.2.3", direct.authority));
    let reference = reference.as_deref().unwrap_or("<direct listener>/ghcr.io/owner/image:1.2.3");
    setting.note(
        About::Open,
        open(&format!(
            "mirrors serve docker.io only: pull from other registries by explicit references, as \
             {reference}"
        )),
    );
    if reads == Reads::RegistryMirrors {
        setting.note(About::Pushes, "to the registry itself, as before; immutag takes none");
    }
    setting.note(
        About::Then,
        "restart Docker if daemon.json changed (`systemctl restart docker`); it does not start \
         when the same key is also an option of dockerd's command line",
    );
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    fn found(version: Option<&str>, store: Option<DockerStore>) -> Found {
        let version = version.map(|version| version.parse().unwrap());
        Found { version, store, by: version.map(|_| "--version") }
    }

    fn paths(setting: &Setting) -> Vec<&str> {
        setting.files.iter().map(|file| file.path.as_str()).collect()
    }

    fn docker_options(mut options: Options) -> Options {
        options.hosts_dir = "/etc/docker/certs.d".to_owned();
        options
    }

    #[test]
    fn each_store_gets_what_it_reads_and_an_unknown_one_gets_both() {
        let daemon = "/etc/docker/daemon.json";
        let hosts = "/etc/docker/certs.d/docker.io/hosts.toml";
        for (version, store, expected) in [
            (Some("20.10.24"), None, (true, false)),
            (Some("20.10.24"), Some(DockerStore::Classic), (true, false)),
            (Some("27.5"), Some(DockerStore::Containerd), (true, false)),
            (Some("28.0"), Some(DockerStore::Classic), (true, false)),
            (Some("28.0"), Some(DockerStore::Containerd), (false, true)),
            (Some("29.1"), None, (true, true)),
            (None, None, (true, true)),
        ] {
            let setting = setting(&docker_options(options(&[])), &found(version, store)).unwrap();
            let paths = paths(&setting);
            let written = (paths.contains(&daemon), paths.contains(&hosts));
            assert_eq!(written, expected, "{version:?} {store:?}");
            let says_open = setting.notes.iter().any(|note| note.text.contains("no fail-closed"));
            assert_eq!(says_open, expected.0, "{version:?} {store:?}");
        }
    }

    #[test]
    fn the_classic_store_has_mirrors_for_docker_io_only() {
        let mut options = docker_options(options(&["ghcr.io"]));
        options.targets.remove(0);
        let refusal = setting(&options, &found(Some("27.0"), None)).unwrap_err();
        assert!(refusal.to_string().contains("docker.io only"), "{refusal}");
        let either = setting(&options, &found(None, None)).unwrap();
        assert_eq!(paths(&either), ["/etc/docker/certs.d/ghcr.io/hosts.toml"]);
    }

    #[test]
    fn the_classic_store_on_this_host() {
        let found = found(Some("20.10.24"), Some(DockerStore::Classic));
        let setting = setting(&docker_options(options(&["ghcr.io"])), &found).unwrap();
        assert_eq!(paths(&setting), ["/etc/docker/daemon.json"]);
        insta::assert_snapshot!(setting.files[0].content, @r#"
        {
          "registry-mirrors": [
            "http://127.0.0.1:5050"
          ]
        }
        "#);
    }

    #[test]
    fn the_classic_store_of_another_host() {
        let found = found(None, Some(DockerStore::Classic));
        let private = setting(&docker_options(private_options(&[])), &found).unwrap();
        let expected = [
            "/etc/docker/daemon.json",
            "/etc/docker/certs.d/proxy.example:5050/ca.crt",
            "/etc/docker/certs.d/proxy.example:5051/ca.crt",
        ];
        assert_eq!(paths(&private), expected);
        let mut plain = docker_options(private_options(&[]));
        for endpoint in [&mut plain.endpoints.mirror, &mut plain.endpoints.direct] {
            endpoint.as_mut().unwrap().is_tls = false;
        }
        let plain = setting(&plain, &found).unwrap();
        let daemon: serde_json::Value = serde_json::from_str(&plain.files[0].content).unwrap();
        assert_eq!(daemon["insecure-registries"], json!(["proxy.example:5051"]));
        assert_eq!(paths(&plain), ["/etc/docker/daemon.json"]);
    }
}
