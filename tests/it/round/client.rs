//! Each client as people run it: its settings by each way in, a pull, and what it then has.

use std::fmt::{self, Display};

use crate::support::clients::Home;
use crate::support::containerd::{self, Containerd};
use crate::support::content::sha256;
use crate::support::docker::{self, Docker};
use crate::support::process::Ran;
use crate::support::setup::Addresses;

use super::stage::TAG;

/// A client of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    BuildKit,
    Buildah,
    Containerd,
    Docker,
    Podman,
    Skopeo,
}

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

/// What a client has after a pull.
#[derive(Clone, Debug)]
pub(super) enum Got {
    /// An image, by the digests that the client reports.
    Content(String),
    /// None, and what it said.
    Nothing(String),
}

impl Way {
    /// This way to an immutag.
    pub(super) fn settings(self, at: Addresses, ca_pem: &str) -> Settings<'_> {
        let (mirror, direct) = (at.mirror.to_string(), at.direct.to_string());
        Settings { way: Some(self), mirror, direct, ca_pem }
    }
}

impl Settings<'_> {
    fn reference(&self, repository: &str) -> String {
        match self.way {
            Some(Way::Direct) => format!("{}/docker.io/{repository}:{TAG}", self.direct),
            _ => format!("docker.io/{repository}:{TAG}"),
        }
    }

    /// `registries.conf` of Podman, Buildah and skopeo.
    fn registries_conf(&self) -> String {
        let Self { mirror, direct, .. } = self;
        match self.way {
            None => String::new(),
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
            _ => String::new(),
        };
        format!("server = \"{server}\"\n\n{host}")
    }

    fn docker(&self) -> Docker {
        let mirror = format!("http://{}", self.mirror);
        match self.way {
            Some(Way::Mirror) => Docker::start(&[&mirror], self.ca_pem),
            _ => Docker::start(&[], self.ca_pem),
        }
    }

    fn home(&self) -> Home {
        Home::new(&self.registries_conf()).trust(self.ca_pem)
    }
}

impl Client {
    pub(super) const ALL: [Self; 6] =
        [Self::BuildKit, Self::Buildah, Self::Containerd, Self::Docker, Self::Podman, Self::Skopeo];

    /// The ways in that it has.
    pub(super) fn ways(self) -> &'static [Way] {
        match self {
            Self::BuildKit | Self::Docker => &[Way::Direct, Way::Mirror],
            _ => &[Way::Direct, Way::FailClosed, Way::Mirror],
        }
    }

    /// The programs that it takes.
    pub(super) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::BuildKit | Self::Docker => &docker::PROGRAMS,
            Self::Buildah => &["buildah"],
            Self::Containerd => &containerd::PROGRAMS,
            Self::Podman => &["podman"],
            Self::Skopeo => &["skopeo"],
        }
    }

    /// Pulls the tag with a fresh client that never had anything.
    #[track_caller]
    pub(super) fn pull(self, settings: &Settings<'_>, repository: &str) -> Got {
        let reference = settings.reference(repository);
        match self {
            Self::BuildKit => build_kit(&settings.docker(), &reference),
            Self::Buildah => buildah(&settings.home(), &reference),
            Self::Containerd => containerd(settings, &reference),
            Self::Docker => docker(&settings.docker(), &reference),
            Self::Podman => podman(&settings.home(), &reference),
            Self::Skopeo => skopeo(&settings.home(), &reference),
        }
    }
}

impl Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", format!("{self:?}").to_lowercase())
    }
}

fn docker(docker: &Docker, reference: &str) -> Got {
    let pulled = docker.docker(&["pull", reference]);
    let format = "{{.Id}} {{.RepoDigests}} {{.RootFS.Layers}}";
    has(pulled, &docker.docker(&["image", "inspect", "--format", format, reference]))
}

/// What was built has the layers of what it was built from.
fn build_kit(docker: &Docker, reference: &str) -> Got {
    let built = docker.build_from(reference);
    has(built, &docker.docker(&["image", "inspect", "--format", "{{.RootFS.Layers}}", "built"]))
}

fn containerd(settings: &Settings<'_>, reference: &str) -> Got {
    let containerd = Containerd::start(settings.ca_pem);
    containerd.hosts("docker.io", &settings.hosts_toml());
    let plain: &[&str] = if settings.way == Some(Way::Direct) { &["--plain-http"] } else { &[] };
    let pulled = containerd.pull(reference, plain);
    let listed = containerd.ctr(&["images", "ls", &format!("name=={reference}")]).ok();
    has(pulled, &Ran { stdout: listed.stdout.lines().skip(1).collect(), ..listed })
}

fn podman(home: &Home, reference: &str) -> Got {
    let pulled = home.podman_pull(reference);
    has(pulled, &home.podman(&["image", "inspect", "--format", "{{.Digest}} {{.Id}}", reference]))
}

fn buildah(home: &Home, reference: &str) -> Got {
    let pulled = home.buildah_pull(reference);
    let format = "{{.FromImageDigest}} {{.FromImageID}}";
    has(pulled, &home.buildah(&["inspect", "--type", "image", "--format", format, reference]))
}

/// skopeo keeps nothing: the manifest that it copied last is what it got.
///
/// Behind a mirror its `copy` stops at the tombstone's config, a 404, without a word of ours; its
/// `inspect` says why.
fn skopeo(home: &Home, reference: &str) -> Got {
    let to = home.path().join("copied");
    let (from, dir) = (format!("docker://{reference}"), format!("dir:{}", to.display()));
    let copied = home.skopeo(&["copy", "--preserve-digests", &from, &dir]);
    match std::fs::read(to.join("manifest.json")) {
        Ok(manifest) if copied.status.success() => Got::Content(sha256(&manifest)),
        _ => Got::Nothing(said(&copied) + &said(&home.skopeo(&["inspect", "--no-tags", &from]))),
    }
}

/// What counts is what a client has, whatever it says: nothing after a success, or something after
/// a failure, is no pull that these tests know.
#[track_caller]
fn has(pulled: Ran, report: &Ran) -> Got {
    let has_content = report.status.success() && !report.stdout.trim().is_empty();
    assert_eq!(pulled.status.success(), has_content, "{pulled:#?} {report:#?}");
    if has_content { Got::Content(report.stdout.clone()) } else { Got::Nothing(said(&pulled)) }
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}
