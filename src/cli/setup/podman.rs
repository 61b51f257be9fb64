//! Podman, Buildah, skopeo and CRI-O: one drop-in that says where a registry is. A location has no
//! fallback, which a `[[registry.mirror]]` has. Source: containers-registries.conf(5).

use super::options::{Options, names_of};
use super::setting::{About, MARK, Merge, Refusal, Setting};
use crate::cli::clients::{ClientKind, Endpoint};
use crate::oci::Registry;

/// The settings for Podman and its kin, or for CRI-O.
pub(super) fn setting(client: ClientKind, options: &Options) -> Result<Setting, Refusal> {
    let direct = options.direct()?;
    let name = client.name();
    let mut content = format!("# {MARK} {name}`. No [[registry.mirror]]: that falls back.\n");
    for registry in options.named(name)? {
        content.push_str(&tables(registry, direct));
    }
    let mut setting = Setting::new(name);
    setting.file("/etc/containers/registries.conf.d/immutag.conf", content, Merge::Own);
    let path = format!("/etc/containers/certs.d/{}/ca.crt", direct.authority);
    options.put_ca_at(path, direct, &mut setting);
    note(client, options, direct, &mut setting);
    Ok(setting)
}

fn tables(registry: &Registry, direct: &Endpoint) -> String {
    let insecure = if direct.is_tls { "" } else { "insecure = true\n" };
    let table = |name: &str| {
        let location = format!("{}/{registry}", direct.authority);
        format!("\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{location}\"\n{insecure}")
    };
    names_of(registry).into_iter().map(table).collect()
}

fn note(client: ClientKind, options: &Options, direct: &Endpoint, setting: &mut Setting) {
    let names = options.names();
    setting.note(
        About::Closed,
        format!("{names}: pulled through immutag or not at all, also while it is down"),
    );
    options.note_unnamed(setting);
    setting.note(
        About::Open,
        "a [[registry]] with a longer prefix (`docker.io/library`), one with the same prefix in a \
         later file of registries.conf.d, a user's own ~/.config/containers/registries.conf and \
         $CONTAINERS_REGISTRIES_CONF go before this",
    );
    setting.note(
        About::Open,
        "tag lists and searches go to the registry itself; what they name is pulled through \
         immutag all the same",
    );
    let mut pushes =
        "to the registry itself, for a location is for pulls only; immutag takes none".to_owned();
    if !direct.is_tls {
        pushes.push_str(
            ". `insecure = true` counts for them too: their TLS is not checked. With TLS on the \
             direct listener it is not needed",
        );
    }
    setting.note(About::Pushes, pushes);
    let then = match client {
        ClientKind::Crio => "reload CRI-O: `systemctl reload crio`",
        _ => "nothing is to be restarted, except a running `podman system service`",
    };
    setting.note(About::Then, then);
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    #[test]
    fn the_drop_in_on_this_host() {
        let setting = setting(ClientKind::Podman, &options(&["registry.example:5000"])).unwrap();
        assert_eq!(setting.files.len(), 1);
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup podman`. No [[registry.mirror]]: that falls back.

        [[registry]]
        prefix = "docker.io"
        location = "127.0.0.1:5051/docker.io"
        insecure = true

        [[registry]]
        prefix = "registry-1.docker.io"
        location = "127.0.0.1:5051/docker.io"
        insecure = true

        [[registry]]
        prefix = "registry.example:5000"
        location = "127.0.0.1:5051/registry.example:5000"
        insecure = true
        "#);
    }

    #[test]
    fn with_tls_nothing_is_insecure_and_the_ca_is_where_the_client_looks_for_it() {
        let setting = setting(ClientKind::Crio, &private_options(&[])).unwrap();
        let parsed: toml::Table = setting.files[0].content.parse().unwrap();
        for table in parsed["registry"].as_array().unwrap() {
            assert_eq!(table["location"].as_str(), Some("proxy.example:5051/docker.io"));
            assert!(table.get("insecure").is_none() && table.get("mirror").is_none());
        }
        assert_eq!(setting.files[1].path, "/etc/containers/certs.d/proxy.example:5051/ca.crt");
        assert!(setting.notes.iter().any(|note| note.text.contains("reload crio")));
        assert!(!setting.notes.iter().any(|note| note.text.contains("not checked")));
    }

    #[test]
    fn every_registry_cannot_be_said() {
        let refusal = setting(ClientKind::Podman, &options(&["*"])).unwrap_err();
        assert_eq!(refusal, Refusal::LacksWildcard { client: "podman" });
    }

    #[test]
    fn a_direct_listener_is_needed() {
        let mut options = options(&[]);
        options.endpoints.direct = None;
        let refusal = setting(ClientKind::Podman, &options).unwrap_err();
        assert!(refusal.to_string().contains("--direct URL"), "{refusal}");
    }
}
