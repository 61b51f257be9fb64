//! The token server gives what may be had, and no more.

use crate::support::fault::Fault;
use crate::support::http::{Answer, Call, get};
use crate::support::registry::ScriptedRegistry;
use crate::support::token::{SERVICE, TokenServer, basic};

fn ask(tokens: &TokenServer, scope: &str, user: Option<&str>) -> Answer {
    let url = format!("{}?service={SERVICE}&scope={scope}", tokens.realm());
    let call = Call::new("GET", &url);
    match user {
        None => call.send(),
        Some(password) => call.field("Authorization", &basic("reader", password)).send(),
    }
}

fn pull(registry: &ScriptedRegistry, repository: &str, token: &Answer) -> u16 {
    let url = format!("{}/v2/{repository}/manifests/v1", registry.url());
    let token = token.json()["token"].as_str().expect("a token").to_owned();
    Call::new("GET", &url).field("Authorization", &format!("Bearer {token}")).send().status
}

#[test]
fn a_token_opens_what_its_user_may_pull() {
    let tokens = TokenServer::start(None);
    tokens.add_user("reader", "correct", &["team/"]);
    tokens.allow_everybody("public/");
    let registry = ScriptedRegistry::start();
    for repository in ["team/app", "public/app", "other/app"] {
        registry.push_image(repository, "v1", "one");
    }
    registry.require_token(&tokens);

    let refused = get(&format!("{}/v2/team/app/manifests/v1", registry.url()));
    assert_eq!(refused.status, 401);
    let challenge = refused.field("WWW-Authenticate").expect("a challenge");
    assert!(challenge.contains(r#"scope="repository:team/app:pull""#), "{challenge}");

    let own = ask(&tokens, "repository%3Ateam%2Fapp%3Apull", Some("correct"));
    assert_eq!(pull(&registry, "team/app", &own), 200);
    assert_eq!(pull(&registry, "public/app", &own), 401);
    let other = ask(&tokens, "repository:other/app:pull", Some("correct"));
    assert_eq!(pull(&registry, "other/app", &other), 401);
    let nobodys = ask(&tokens, "repository:public/app:pull", None);
    assert_eq!(pull(&registry, "public/app", &nobodys), 200);
    assert_eq!(ask(&tokens, "repository:team/app:pull", Some("wrong")).status, 401);

    tokens.expire_tokens();
    assert_eq!(pull(&registry, "team/app", &own), 401);
    tokens.revoke("reader");
    assert_eq!(ask(&tokens, "repository:team/app:pull", Some("correct")).status, 401);
    assert_eq!(tokens.requests().len(), 5);
}

#[test]
fn a_token_server_fails_as_told() {
    let tokens = TokenServer::start(None);
    tokens.fault("GET /token", Fault::Status(500));
    assert_eq!(ask(&tokens, "repository:a:pull", None).status, 500);
    tokens.clear_faults();
    assert_eq!(ask(&tokens, "repository:a:pull", None).status, 200);
}

#[test]
fn basic_credentials_are_asked_for_and_checked() {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "v1", "one");
    registry.require_basic("reader", "correct");
    let url = format!("{}/v2/app/manifests/v1", registry.url());
    let call = |password: &str| {
        Call::new("GET", &url).field("Authorization", &basic("reader", password)).send().status
    };
    assert_eq!((get(&url).status, call("wrong"), call("correct")), (401, 401, 200));
}
