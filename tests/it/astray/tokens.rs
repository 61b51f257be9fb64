//! S-07 (realms), S-08, S-10: for a token we go where the configuration says, and nowhere else.

use super::{Canary, refusal};
use crate::support::fault::Fault;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tls::Authority;
use crate::support::token::TokenServer;

const REGISTRY: &str = "registry.example";
const PASSWORD: &str = "hunter-two-and-a-half";

/// An upstream that is asked with our own credentials.
fn own(setup: Setup, url: &str, lines: &str) -> Setup {
    let own = setup.own_credentials("reader", PASSWORD) + lines;
    setup.upstream_with(REGISTRY, url, &own).secret(PASSWORD)
}

fn challenged_by(challenge: &str) -> (u16, String) {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "latest", "a");
    registry.fault("* manifests/latest", Fault::Challenge(challenge.to_owned()));
    let mut immutag = own(Setup::new(), &registry.url(), "").start();
    let answer = immutag.direct_manifest(REGISTRY, "app", "latest");
    immutag.assert_alive_and_clean();
    let (status, reason, _) = refusal(&answer);
    (status, reason)
}

#[test]
fn a_realm_that_is_not_the_upstreams_gets_nothing() {
    let canary = Canary::new();
    for scheme in ["http", "https"] {
        for host in ["127.0.0.1", "localhost", "reader@127.0.0.1"] {
            let realm = format!("{scheme}://{host}:{}/token", canary.port());
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
            assert_eq!(challenged_by(&challenge), (502, "REALM_NOT_ALLOWED".to_owned()), "{realm}");
        }
    }
    canary.assert_silent();
}

#[test]
fn odd_challenges_end_within_bounds() {
    let canary = Canary::new();
    let realm = format!("http://127.0.0.1:{}/token", canary.port());
    let many = vec![format!("Bearer realm=\"{realm}\""); 50].join(", ");
    let denied = (401, "UPSTREAM_AUTH".to_owned());
    let elsewhere = (502, "REALM_NOT_ALLOWED".to_owned());
    let cases = [
        (many.as_str(), &elsewhere),
        ("Bearer realm=\"http://127.0.0.1", &denied),
        ("Bearer service=\"s\"", &denied),
        ("Bearer realm=\"http://a/\",realm=\"http://b/\"", &denied),
        ("Negotiate, Digest realm=\"x\"", &denied),
        ("", &denied),
    ];
    for (challenge, expected) in cases {
        assert_eq!(&challenged_by(challenge), expected, "{challenge}");
    }
    let huge = format!("Bearer realm=\"http://127.0.0.1/{}\"", "a".repeat(1 << 20));
    assert_eq!(challenged_by(&huge), (502, "UPSTREAM_INVALID".to_owned()));
    canary.assert_silent();
}

#[test]
fn a_token_is_asked_for_before_a_password_is_shown() {
    let tokens = TokenServer::start(None);
    tokens.add_user("reader", PASSWORD, &["app"]);
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "latest", "a");
    registry.require_token(&tokens);
    let mixed = format!("Basic realm=\"x\", {}", tokens.challenge(Some("app")));
    registry.fault_times("* manifests/latest", Fault::Challenge(mixed), 1);
    let host = tokens.realm().trim_start_matches("http://").trim_end_matches("/token").to_owned();
    let lines = format!("auth-hosts = [\"{host}\"]\n");
    let mut immutag = own(Setup::new(), &registry.url(), &lines).start();
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", "latest").digest(), image.digest());
    let basic = registry.requests().into_iter().filter(|request| {
        request.fields.get("Authorization").is_some_and(|text| text.starts_with("Basic"))
    });
    assert_eq!(basic.count(), 0, "the password went to the registry");
    assert_eq!(tokens.requests().len(), 1);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_realm_is_checked_as_strictly_as_a_registry() {
    let authority = Authority::new();
    let registry_tls = authority.issue(&["127.0.0.1"]).server();
    for (identity, words) in [
        (Authority::new().issue(&["127.0.0.1"]), "certificate is not valid"),
        (authority.issue(&["other.example"]), "another name"),
    ] {
        let tokens = TokenServer::start(Some(identity.server()));
        tokens.add_user("reader", PASSWORD, &["app"]);
        let registry = ScriptedRegistry::start_with(Some(registry_tls.clone()));
        registry.push_image("app", "latest", "a");
        registry.require_token(&tokens);
        let setup = Setup::new();
        let ca = setup.ca_file(&authority.ca_pem);
        let host = tokens.realm();
        let host = host.trim_start_matches("https://").trim_end_matches("/token");
        let lines = format!("{ca}auth-hosts = [\"{host}\"]\n");
        let mut immutag = own(setup, &registry.url(), &lines).start();
        let answer = immutag.direct_manifest(REGISTRY, "app", "latest");
        let expected = (502, "UPSTREAM_UNAVAILABLE".to_owned(), "TLS".to_owned());
        assert_eq!(refusal(&answer), expected, "{answer:?}");
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(tokens.requests().len(), 0, "no password over an unproven connection");
        immutag.assert_alive_and_clean();
    }
}
