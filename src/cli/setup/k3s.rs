//! k3s and RKE2: `registries.yaml`, and the option that takes the registry itself from the list.

use super::options::Options;
use super::setting::{About, MARK, Merge, Refusal, Setting};
use crate::cli::clients::Endpoint;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    K3s,
    Rke2,
}

impl Distribution {
    const fn name(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }

    const fn service(self) -> &'static str {
        match self {
            Self::K3s => "k3s, or k3s-agent",
            Self::Rke2 => "rke2-server, or rke2-agent",
        }
    }
}

/// The settings for a node of k3s or RKE2.
pub(super) fn setting(distribution: Distribution, options: &Options) -> Result<Setting, Refusal> {
    let name = distribution.name();
    let mirror = options.mirror()?;
    let names = options.targets.iter().flat_map(|target| target.scope.names("*"));
    let mirrors: Vec<String> = names.map(|name| mirrored(name, mirror)).collect();
    let configs = options.ca_path(mirror).map(|path| {
        let authority = &mirror.authority;
        format!("configs:\n  \"{authority}\":\n    tls:\n      ca_file: \"{path}\"\n")
    });
    let configs = configs.unwrap_or_default();
    let content = format!("# {MARK} {name}`.\nmirrors:\n{}{configs}", mirrors.concat());
    let mut setting = Setting::new(name);
    let folder = format!("/etc/rancher/{name}");
    setting.file(format!("{folder}/registries.yaml"), content, Merge::Own);
    let flag = format!("# {MARK} {name}`.\ndisable-default-registry-endpoint: true\n");
    setting.file(format!("{folder}/config.yaml.d/immutag.yaml"), flag, Merge::Own);
    options.put_ca(mirror, &mut setting);
    note(distribution, options, &mut setting);
    Ok(setting)
}

fn mirrored(name: &str, mirror: &Endpoint) -> String {
    format!("  \"{name}\":\n    endpoint:\n      - \"{mirror}\"\n")
}

fn note(distribution: Distribution, options: &Options, setting: &mut Setting) {
    let names = options.names();
    setting.note(
        About::Closed,
        format!("{names}: pulled through immutag or not at all, also while it is down"),
    );
    options.note_unnamed(setting);
    setting.note(
        About::Version,
        "v1.26.13, v1.27.10, v1.28.6, v1.29.1 or later, assumed: older ones do not know \
         disable-default-registry-endpoint, and always add the registry itself",
    );
    setting.note(
        About::Open,
        "without disable-default-registry-endpoint (another config file may set it to false) the \
         registry is asked while immutag is down",
    );
    setting.note(
        About::Open,
        "with embedded-registry: true a node asks the others first, who give the tag as they hold \
         it",
    );
    setting.note(About::Pushes, "nodes do not push");
    let service = distribution.service();
    setting.note(
        About::Then,
        format!("do this on each node, servers and agents, and restart {service}"),
    );
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    #[test]
    fn the_files_of_a_k3s_node() {
        let setting = setting(Distribution::K3s, &options(&["registry.example:5000"])).unwrap();
        let paths: Vec<_> = setting.files.iter().map(|file| file.path.as_str()).collect();
        let expected =
            ["/etc/rancher/k3s/registries.yaml", "/etc/rancher/k3s/config.yaml.d/immutag.yaml"];
        assert_eq!(paths, expected);
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup k3s`.
        mirrors:
          "docker.io":
            endpoint:
              - "http://127.0.0.1:5050"
          "registry-1.docker.io":
            endpoint:
              - "http://127.0.0.1:5050"
          "registry.example:5000":
            endpoint:
              - "http://127.0.0.1:5050"
        "#);
        insta::assert_snapshot!(setting.files[1].content, @r"
        # Written by `immutag setup k3s`.
        disable-default-registry-endpoint: true
        ");
    }

    #[test]
    fn the_files_of_an_rke2_node_with_every_registry_and_a_private_ca() {
        let setting = setting(Distribution::Rke2, &private_options(&["*"])).unwrap();
        assert_eq!(setting.files[0].path, "/etc/rancher/rke2/registries.yaml");
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup rke2`.
        mirrors:
          "docker.io":
            endpoint:
              - "https://proxy.example:5050"
          "registry-1.docker.io":
            endpoint:
              - "https://proxy.example:5050"
          "*":
            endpoint:
              - "https://proxy.example:5050"
        configs:
          "proxy.example:5050":
            tls:
              ca_file: "/etc/immutag/ca.crt"
        "#);
        assert_eq!(setting.files[2].path, "/etc/immutag/ca.crt");
    }
}
