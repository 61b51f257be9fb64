//! The registries that are known without configuration.

use crate::config::UpstreamConfig;
use crate::oci::Registry;

/// A registry that is known without configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The registry's name as references carry it; a label `*` stands for any one label.
    pub pattern: &'static str,
    /// The host that answers, if it is not the name itself.
    pub host: Option<&'static str>,
    /// The hosts, besides its own, that hand out its tokens.
    pub auth_hosts: &'static [&'static str],
}

/// All registries that are known without configuration.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        pattern: "docker.io",
        host: Some("registry-1.docker.io"),
        auth_hosts: &["auth.docker.io"],
    },
    known("ghcr.io", &[]),
    known("quay.io", &[]),
    known("gcr.io", &[]),
    known("*.gcr.io", &[]),
    known("*.pkg.dev", &[]),
    known("registry.k8s.io", &[]),
    known("mcr.microsoft.com", &[]),
    known("public.ecr.aws", &[]),
    known("*.dkr.ecr.*.amazonaws.com", &[]),
    known("*.azurecr.io", &[]),
    known("nvcr.io", &[]),
    known("registry.gitlab.com", &["gitlab.com"]),
    known("lscr.io", &["ghcr.io"]),
    known("docker.elastic.co", &["docker-auth.elastic.co"]),
    known("registry.redhat.io", &[]),
    known("registry.access.redhat.com", &[]),
    known("cgr.dev", &[]),
];

const fn known(pattern: &'static str, auth_hosts: &'static [&'static str]) -> BuiltIn {
    BuiltIn { pattern, host: None, auth_hosts }
}

impl BuiltIn {
    /// The entry that knows this registry, if any.
    pub fn find(registry: &Registry) -> Option<&'static Self> {
        BUILT_IN.iter().find(|known| matches(known.pattern, registry.as_str()))
    }

    /// The configuration of an upstream that the user says nothing about: anonymous, public.
    pub fn config(&self, registry: &Registry) -> UpstreamConfig {
        UpstreamConfig::for_origin(format!("https://{}", self.host.unwrap_or(registry.as_str())))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let labels = name.split('.');
    pattern.split('.').count() == labels.clone().count()
        && !name.contains([':', '['])
        && pattern.split('.').zip(labels).all(|(want, label)| want == "*" || want == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_labels_only() {
        for (name, pattern) in [
            ("docker.io", Some("docker.io")),
            ("index.docker.io", Some("docker.io")),
            ("DOCKER.IO:443", Some("docker.io")),
            ("gcr.io", Some("gcr.io")),
            ("eu.gcr.io", Some("*.gcr.io")),
            ("us-docker.pkg.dev", Some("*.pkg.dev")),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", Some("*.dkr.ecr.*.amazonaws.com")),
            ("me.azurecr.io", Some("*.azurecr.io")),
            ("pkg.dev", None),
            ("a.b.pkg.dev", None),
            ("evilpkg.dev", None),
            ("us-docker.pkg.dev.evil.example", None),
            ("us-docker.pkg.dev:5000", None),
            ("1.dkr.ecr.a.b.amazonaws.com", None),
            ("docker.io:80", None),
            ("localhost:2375", None),
            ("169.254.169.254", None),
        ] {
            let found = BuiltIn::find(&name.parse().unwrap());
            assert_eq!(found.map(|known| known.pattern), pattern, "{name}");
        }
    }
}
