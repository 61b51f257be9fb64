//! The stage: Debian's registry with `team/app:1.0.0` at image A, and the ways that lead to it.

use std::sync::Arc;

use crate::support::clients::Home;
use crate::support::content::Image;
use crate::support::docker_registry::DockerRegistry;
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::setup::Setup;
use crate::support::tls::Authority;
use crate::support::token::TokenServer;

/// The name that references carry, where they do not carry docker.io.
pub(super) const REGISTRY: &str = "registry.example";
/// The repository on this stage.
pub(super) const REPOSITORY: &str = "team/app";

/// The password of `reader`, who may pull `team/`; everybody may pull `public/`.
pub(super) const PASSWORD: &str = "correct-horse-battery-staple";

/// Debian's registry and what stands before it.
pub(super) struct Upstream {
    pub(super) registry: DockerRegistry,
    lock: Option<Lock>,
}

/// TLS and tokens.
struct Lock {
    authority: Authority,
    tokens: Arc<TokenServer>,
}

/// How a client comes to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The mirror of docker.io: its paths carry no registry.
    Mirror,
    /// The mirror of another registry, with the registry's name as a path prefix.
    MirrorByPrefix,
    /// A reference that names the direct listener and then the registry.
    DirectByReference,
    /// A `location` that leads the registry's references to the direct listener.
    DirectByLocation,
}

impl Way {
    pub(super) const ALL: [Self; 4] =
        [Self::Mirror, Self::MirrorByPrefix, Self::DirectByReference, Self::DirectByLocation];
}

/// Whether the clients and the registry are here.
pub(super) fn is_set() -> bool {
    have(&["docker-registry", "podman", "skopeo"])
}

impl Upstream {
    /// A plain one, open to everybody.
    pub(super) fn plain() -> Self {
        Self { registry: DockerRegistry::start(), lock: None }
    }

    /// One behind TLS that wants a token.
    pub(super) fn locked() -> Self {
        let authority = Authority::new();
        let tokens = TokenServer::start(Some(authority.issue(&["127.0.0.1"]).server()));
        tokens.add_user("reader", PASSWORD, &["team/"]);
        tokens.allow_everybody("public/");
        let registry = DockerRegistry::start_with_tokens(&authority, &tokens);
        Self { registry, lock: Some(Lock { authority, tokens }) }
    }

    /// Puts image A there under the tag.
    pub(super) fn push(&self, tag: &str, seed: &str) -> Image {
        self.registry.push_image(REPOSITORY, tag, seed)
    }

    /// An immutag that knows it as `registry.example` and as docker.io, with one rule.
    pub(super) fn immutag(&self, reaction: &str, recheck: &str) -> Immutag {
        let setup = Setup::new();
        let own = self.own_credentials(&setup);
        self.setup(setup, &own).every_tag(reaction, recheck).start()
    }

    /// The same, asked with the credentials of whoever comes to the direct listener.
    pub(super) fn immutag_for_logins(&self, reaction: &str) -> Immutag {
        let setup = self.setup(Setup::new(), "credentials = \"client\"\n");
        setup.every_tag(reaction, "0s").start()
    }

    fn own_credentials(&self, setup: &Setup) -> String {
        if self.lock.is_none() {
            return String::new();
        }
        setup.own_credentials("reader", PASSWORD)
    }

    fn setup(&self, setup: Setup, credentials: &str) -> Setup {
        let lines = self.lock.as_ref().map_or_else(String::new, |lock| {
            let ca = setup.ca_file(&lock.authority.ca_pem);
            let realm = lock.tokens.realm();
            let realm = realm.trim_start_matches("https://").trim_end_matches("/token");
            format!("{ca}auth-hosts = [\"{realm}\"]\n{credentials}")
        });
        let url = self.registry.url();
        setup
            .upstream_with(REGISTRY, url, &lines)
            .upstream_with("docker.io", url, &lines)
            .secret(PASSWORD)
    }

    /// A home whose clients come by `way`, and fall back to the registry itself where the way has
    /// a fallback.
    pub(super) fn home(&self, immutag: &Immutag, way: Way) -> Home {
        let (mirror, direct) = (immutag.addresses().mirror, immutag.addresses().direct);
        let plain = "insecure = true\n";
        let fallback = if self.lock.is_none() { plain } else { "" };
        let host = self.registry.host();
        let mirrored = |name: &str, at: String| {
            format!(
                "[[registry]]\nprefix = \"{name}\"\nlocation = \"{host}\"\n{fallback}\
                 [[registry.mirror]]\nlocation = \"{at}\"\n{plain}"
            )
        };
        let home = Home::new(&match way {
            Way::Mirror => mirrored("docker.io", mirror.to_string()),
            Way::MirrorByPrefix => mirrored(REGISTRY, format!("{mirror}/{REGISTRY}")),
            Way::DirectByReference => format!("[[registry]]\nlocation = \"{direct}\"\n{plain}"),
            Way::DirectByLocation => format!(
                "[[registry]]\nprefix = \"{REGISTRY}\"\nlocation = \"{direct}/{REGISTRY}\"\n{plain}"
            ),
        });
        match &self.lock {
            None => home,
            Some(lock) => {
                home.log_in(host, "reader", PASSWORD);
                home.trust(&lock.authority.ca_pem)
            }
        }
    }

    /// The tag as a client names it that comes by `way`.
    pub(super) fn reference(immutag: &Immutag, way: Way, tag: &str) -> String {
        let name = match way {
            Way::Mirror => "docker.io".to_owned(),
            Way::MirrorByPrefix | Way::DirectByLocation => REGISTRY.to_owned(),
            Way::DirectByReference => format!("{}/{REGISTRY}", immutag.addresses().direct),
        };
        format!("{name}/{REPOSITORY}:{tag}")
    }

    /// No client came to the registry but immutag.
    #[track_caller]
    pub(super) fn assert_only_immutag_came(&self) {
        let strangers = self.strangers();
        assert!(strangers.is_empty(), "somebody went round immutag: {strangers:#?}");
    }

    /// The lines of the registry's log that tell of other clients.
    pub(super) fn strangers(&self) -> Vec<String> {
        let log = self.registry.log();
        assert!(log.contains("immutag/"), "the registry logs who asks: {log}");
        let stranger = |line: &&str| line.contains("skopeo/") || line.contains("containers/");
        log.lines().filter(stranger).map(str::to_owned).collect()
    }
}
