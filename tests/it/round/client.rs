//! Each client as people run it: a pull, and what it then has.

use std::fmt::{self, Display};

use crate::support::clients::Home;
use crate::support::containerd::{self, Containerd};
use crate::support::content::sha256;
use crate::support::docker::{self, Docker};
use crate::support::process::Ran;

use super::settings::{Settings, Way};

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

/// What a client has after a pull, and what it said.
#[derive(Clone, Debug)]
pub(super) struct Got {
    /// The digests of its image, as it reports them; empty: it has none.
    pub(super) digests: String,
    /// Whether it says that the pull went well.
    pub(super) is_success: bool,
    /// Its words.
    pub(super) words: String,
}

/// A client that keeps what it has pulled.
pub(super) struct Running<'a> {
    client: Client,
    settings: Settings<'a>,
    state: State,
}

enum State {
    Containerd(Containerd),
    Docker(Docker),
    Home(Home),
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

    /// A fresh one that never had anything.
    #[track_caller]
    pub(super) fn start(self, settings: Settings<'_>) -> Running<'_> {
        let state = match self {
            Self::BuildKit | Self::Docker => State::Docker(settings.docker()),
            Self::Containerd => State::Containerd(settings.containerd()),
            Self::Buildah | Self::Podman | Self::Skopeo => State::Home(settings.home()),
        };
        Running { client: self, settings, state }
    }
}

impl Running<'_> {
    /// Pulls the tag of a repository.
    #[track_caller]
    pub(super) fn pull(&self, repository: &str) -> Got {
        let reference = &self.settings.reference(repository);
        match (&self.state, self.client) {
            (State::Containerd(containerd), _) => {
                let is_plain = self.settings.way == Some(Way::Direct);
                by_containerd(containerd, is_plain, reference)
            }
            (State::Docker(docker), Client::BuildKit) => by_build_kit(docker, reference),
            (State::Docker(docker), _) => by_docker(docker, reference),
            (State::Home(home), Client::Buildah) => by_buildah(home, reference),
            (State::Home(home), Client::Podman) => by_podman(home, reference),
            (State::Home(home), _) => by_skopeo(home, reference),
        }
    }
}

impl Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", format!("{self:?}").to_lowercase())
    }
}

fn by_docker(docker: &Docker, reference: &str) -> Got {
    let pulled = docker.docker(&["pull", reference]);
    let format = "{{.Id}} {{.RepoDigests}} {{.RootFS.Layers}}";
    got(&pulled, &docker.docker(&["image", "inspect", "--format", format, reference]))
}

/// What was built has the layers of what it was built from.
fn by_build_kit(docker: &Docker, reference: &str) -> Got {
    let built = docker.build_from(reference);
    got(&built, &docker.docker(&["image", "inspect", "--format", "{{.RootFS.Layers}}", "built"]))
}

fn by_containerd(containerd: &Containerd, is_plain: bool, reference: &str) -> Got {
    let plain: &[&str] = if is_plain { &["--plain-http"] } else { &[] };
    let pulled = containerd.pull(reference, plain);
    let listed = containerd.ctr(&["images", "ls", &format!("name=={reference}")]).ok();
    // Below its headings.
    got(&pulled, &Ran { stdout: listed.stdout.lines().skip(1).collect(), ..listed })
}

fn by_podman(home: &Home, reference: &str) -> Got {
    let pulled = home.podman_pull(reference);
    let format = "{{.Digest}} {{.Id}}";
    got(&pulled, &home.podman(&["image", "inspect", "--format", format, reference]))
}

fn by_buildah(home: &Home, reference: &str) -> Got {
    let pulled = home.buildah_pull(reference);
    let format = "{{.FromImageDigest}} {{.FromImageID}}";
    got(&pulled, &home.buildah(&["inspect", "--type", "image", "--format", format, reference]))
}

/// skopeo keeps nothing: what counts is the manifest that it copied into a fresh folder.
///
/// Behind a mirror its `copy` stops at the tombstone's config, a 404, without a word of ours; its
/// `inspect` says why.
fn by_skopeo(home: &Home, reference: &str) -> Got {
    let to = tempfile::tempdir_in(home.path()).expect("a temporary directory");
    let from = format!("docker://{reference}");
    let dir = format!("dir:{}", to.path().display());
    let copied = home.skopeo(&["copy", "--preserve-digests", &from, &dir]);
    let manifest = std::fs::read(to.path().join("manifest.json"));
    let is_success = copied.status.success();
    let mut words = said(&copied);
    if !is_success {
        words += &said(&home.skopeo(&["inspect", "--no-tags", &from]));
    }
    // The folder gets its manifest last.
    Got { digests: manifest.map_or_else(|_| String::new(), |it| sha256(&it)), is_success, words }
}

fn got(pulled: &Ran, report: &Ran) -> Got {
    let digests =
        if report.status.success() { report.stdout.trim().to_owned() } else { String::new() };
    Got { digests, is_success: pulled.status.success(), words: said(pulled) }
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}
