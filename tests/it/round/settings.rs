//! How a client is set to immutag, by each way in.

use crate::support::clients::Home;
use crate::support::containerd::Containerd;
use crate::support::docker::Docker;
use crate::support::setup::Addresses;

use super::stage::TAG;

/// How a client is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// References name the direct listener.
    Direct,
    /// The settings that leave no other way. Docker's classic store and the `BuildKit` in it have
    /// none: nobody but a firewall or `HTTPS_PROXY` closes the way to Docker Hub.
    FailClosed,
    /// A plain mirror: the client falls back to the registry by itself.
    Mirror,
    /// A trap of containerd: its mirror is not asked for tags, only for content.
    Unresolved,
}

/// How a client is set, with addresses.
pub(super) struct Settings<'a> {
    /// The way; none: it knows nothing of immutag.
    pub(super) way: Option<Way>,
    /// The mirror listener, or what stands for it.
    pub(super) mirror: String,
    /// The direct listener.
    pub(super) direct: String,
    /// Whom it trusts.
    pub(super) ca_pem: &'a str,
}

impl Way {
    /// This way to an immutag.
    pub(super) fn settings(self, at: Addresses, ca_pem: &str) -> Settings<'_> {
        let (mirror, direct) = (at.mirror.to_string(), at.direct.to_string());
        Settings { way: Some(self), mirror, direct, ca_pem }
    }
}

impl Settings<'_> {
    /// The tag of a repository, as the client names it.
    pub(super) fn reference(&self, repository: &str) -> String {
        match self.way {
            Some(Way::Direct) => format!("{}/docker.io/{repository}:{TAG}", self.direct),
            _ => format!("docker.io/{repository}:{TAG}"),
        }
    }

    /// `registries.conf` of Podman, Buildah and skopeo.
    fn registries_conf(&self) -> String {
        let Self { mirror, direct, .. } = self;
        match self.way {
            None | Some(Way::Unresolved) => String::new(),
            Some(Way::Direct) => {
                format!("[[registry]]\nlocation = \"{direct}\"\ninsecure = true\n")
            }
            Some(Way::FailClosed) => format!(
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{direct}/docker.io\"\n\
                 insecure = true\n"
            ),
            Some(Way::Mirror) => format!(
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
                 [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
            ),
        }
    }

    /// containerd's `hosts.toml` for docker.io.
    fn hosts_toml(&self) -> String {
        let mirror = format!("http://{}", self.mirror);
        let server = match self.way {
            Some(Way::FailClosed) => mirror.as_str(),
            _ => "https://registry-1.docker.io",
        };
        let host = match self.way {
            Some(Way::FailClosed | Way::Mirror) => {
                format!("[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
            }
            Some(Way::Unresolved) => format!("[host.\"{mirror}\"]\ncapabilities = [\"pull\"]\n"),
            None | Some(Way::Direct) => String::new(),
        };
        format!("server = \"{server}\"\n\n{host}")
    }

    /// A fresh Docker daemon.
    pub(super) fn docker(&self) -> Docker {
        let mirror = format!("http://{}", self.mirror);
        match self.way {
            Some(Way::Mirror) => Docker::start(&[&mirror], self.ca_pem),
            _ => Docker::start(&[], self.ca_pem),
        }
    }

    /// A fresh containerd.
    pub(super) fn containerd(&self) -> Containerd {
        let containerd = Containerd::start(self.ca_pem);
        containerd.hosts("docker.io", &self.hosts_toml());
        containerd
    }

    /// A fresh home of Podman, Buildah and skopeo.
    pub(super) fn home(&self) -> Home {
        Home::new(&self.registries_conf()).trust(self.ca_pem)
    }
}
