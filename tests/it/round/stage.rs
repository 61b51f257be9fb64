//! Docker Hub, immutag before it, and what clients have from them.

use std::fmt::{self, Display};

use crate::support::apart;
use crate::support::content::{Image, Index};
use crate::support::docker_registry::DockerRegistry;
use crate::support::immutag::Immutag;
use crate::support::setup::Setup;
use crate::support::tls::Authority;

use super::client::{Client, Got, Running};
use super::settings::Way;

/// Where Docker Hub is. It is no loopback address: Docker takes those for trustworthy without TLS.
pub(super) const ADDRESS: &str = "10.77.0.10";
/// Its names.
const NAMES: [&str; 4] = ["registry-1.docker.io", "docker.io", "index.docker.io", "auth.docker.io"];
/// The tag that moves, in the repository of each reaction.
pub(super) const TAG: &str = "1.0.0";

/// What each image is there for; the first is most machines'.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// How much of a client's words is printed.
const TOLD: usize = 200;

/// A repository of Docker Hub; the last part of its name is the reaction to its tag's moves.
pub(super) type Repository = &'static str;

/// Docker Hub, and immutag before it.
pub(super) struct Stage {
    pub(super) authority: Authority,
    pub(super) hub: DockerRegistry,
    pub(super) immutag: Immutag,
}

/// Whose content a client has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What the tag was when immutag first saw it.
    First,
    /// What the tag was moved to.
    Moved,
    /// None; the client's words.
    Refused(String),
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Refused(words) = self else { return write!(formatter, "{self:?}") };
        let told = words.lines().rfind(|line| line.contains("immutag: ")).unwrap_or(words);
        let told: String = told.trim().chars().take(TOLD).collect();
        write!(formatter, "Refused: {told} ...")
    }
}

/// Plays `body` in a world in which Docker Hub's names lead to [`ADDRESS`], if these programs and
/// that world are to be had.
#[track_caller]
pub(super) fn play<T: Fn()>(test: &T, clients: &[Client], body: impl FnOnce()) {
    let mut programs = vec!["docker-registry"];
    programs.extend(clients.iter().flat_map(|client| client.programs()));
    if crate::support::process::have(&programs) {
        apart::apart(test, &[(ADDRESS, &NAMES)], body);
    }
}

impl Stage {
    /// With a rule for each reaction, and the upstream asked each time.
    pub(super) fn new() -> Self {
        Self::with(|setup| setup)
    }

    /// The same with a changed setup.
    pub(super) fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        Self::asking(&format!("https://{}", NAMES[0]), change)
    }

    /// The same with an immutag that asks somebody else at `url` for what clients find at Docker
    /// Hub.
    pub(super) fn asking(url: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let authority = Authority::new();
        let hub = DockerRegistry::start_at(&authority, ADDRESS, NAMES[0]);
        let setup = Setup::new();
        let ca_file = setup.ca_file(&authority.ca_pem);
        let rule = |reaction| {
            format!(
                "[[rule]]\nrepository = \"*/{reaction}\"\non-conflict = \"{reaction}\"\n\
                 recheck = \"0s\"\n"
            )
        };
        let rules: String = ["alert", "hold", "block"].map(rule).concat();
        let setup = setup.upstream_with("docker.io", url, &ca_file).rules(&rules);
        let immutag = change(setup).start();
        Self { authority, hub, immutag }
    }

    /// What the tag of a repository is at first.
    pub(super) fn first(repository: Repository) -> Index {
        Index::new(&format!("{repository}, as released"), &ARCHITECTURES)
    }

    /// What it is moved to.
    pub(super) fn moved(repository: Repository) -> Index {
        Index::new(&format!("{repository}, by a thief"), &ARCHITECTURES)
    }

    /// Docker Hub gets the first image of each repository.
    pub(super) fn release(&self, repositories: &[Repository]) {
        for repository in repositories {
            self.hub.put_index(repository, TAG, &Self::first(repository));
        }
    }

    /// Docker Hub's tags are overwritten.
    pub(super) fn overwrite(&self, repositories: &[Repository]) {
        for repository in repositories {
            self.hub.put_index(repository, TAG, &Self::moved(repository));
        }
    }

    /// A fresh client that comes by `way`.
    #[track_caller]
    pub(super) fn client(&self, client: Client, way: Way) -> Running<'_> {
        client.start(way.settings(self.immutag.addresses(), &self.authority.ca_pem))
    }

    /// What a fresh client gets that pulls by `way`.
    #[track_caller]
    pub(super) fn pull(&self, client: Client, way: Way, repository: Repository) -> Outcome {
        judge(&self.client(client, way).pull(repository), repository)
    }

    /// The lines of Docker Hub's log that tell of anybody but immutag and this test, which does
    /// not say who it is.
    pub(super) fn strangers(&self) -> Vec<String> {
        let log = self.hub.log();
        let agent = |line: &str| {
            let rest = line.split_once(" http.request.useragent=")?.1;
            rest.split(' ').next().map(str::to_owned)
        };
        let is_strange = |agent: &String| !agent.is_empty() && !agent.starts_with("immutag/");
        log.lines()
            .filter(|line| agent(line).is_some_and(|it| is_strange(&it)))
            .map(str::to_owned)
            .collect()
    }

    /// Nobody came to Docker Hub but immutag.
    #[track_caller]
    pub(super) fn assert_nobody_went_round(&self) {
        let log = self.hub.log();
        assert!(log.contains("useragent=immutag/"), "the registry logs who asks: {log}");
        let strangers = self.strangers();
        assert!(strangers.is_empty(), "somebody went round immutag: {strangers:#?}");
        let counted = self.immutag.metric("immutag_possible_bypass_total", "");
        assert!(counted.abs() < f64::EPSILON, "{counted} possible bypasses");
    }
}

/// Tells by digests whose content a client has that had none before the pull.
#[track_caller]
pub(super) fn judge(got: &Got, repository: Repository) -> Outcome {
    let Got { digests, is_success, words } = got;
    assert_eq!(*is_success, !digests.is_empty(), "{got:#?}");
    if digests.is_empty() {
        return Outcome::Refused(words.clone());
    }
    let (first, moved) = (Stage::first(repository), Stage::moved(repository));
    match (names(digests, &first), names(digests, &moved)) {
        (true, false) => Outcome::First,
        (false, true) => Outcome::Moved,
        _ => panic!("neither image, or both: {digests}"),
    }
}

/// Whether these digests are of this index: its own, or any of its images' or their content's.
pub(super) fn names(digests: &str, index: &Index) -> bool {
    let blobs = |image: &Image| {
        let parts = image.layers.iter().chain([&image.config, &image.manifest.blob]);
        parts.map(|blob| blob.digest.clone()).collect::<Vec<_>>()
    };
    let mut all = index.images.iter().flat_map(blobs).chain([index.digest().to_owned()]);
    all.any(|digest| digests.contains(&digest))
}
