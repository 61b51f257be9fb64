//! `credentials = "client"`: a cache hit is no permission.

use std::sync::Arc;
use std::time::Duration;

use crate::support::content::{Image, Index, OCI_MANIFEST};
use crate::support::http::{Answer, Call};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::{Addresses, Setup};
use crate::support::token::{TokenServer, basic};

const REGISTRY: &str = "private.example";
const PASSWORD: &str = "correct-horse-battery-staple";

/// A registry behind a token server, with a repository for each of two users.
struct Stage {
    tokens: Arc<TokenServer>,
    registry: ScriptedRegistry,
    image: Image,
}

impl Stage {
    fn new() -> Self {
        let tokens = TokenServer::start(None);
        tokens.add_user("user1", PASSWORD, &["team/"]);
        tokens.add_user("user2", "two", &["other/"]);
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("team/app", "1.0.0", "private");
        registry.put_referrers("team/app", image.digest(), &Index::of(vec![image.clone()]));
        registry.push_image("other/app", "1.0.0", "of the other");
        registry.require_token(&tokens);
        Self { tokens, registry, image }
    }

    fn setup(&self, reaction: &str) -> Setup {
        let realm = self.tokens.realm();
        let realm = realm.trim_start_matches("http://").trim_end_matches("/token");
        let lines = format!("credentials = \"client\"\nauth-hosts = [\"{realm}\"]\n");
        Setup::new().upstream_with(REGISTRY, &self.registry.url(), &lines).every_tag(reaction, "1h")
    }

    /// Everything that can be asked of the repository: method, path behind it, `Range`.
    fn questions(&self) -> Vec<(&'static str, String, Option<&'static str>)> {
        let manifest = |reference: &str| format!("manifests/{reference}");
        let digest = self.image.digest();
        let mut questions = vec![
            ("GET", "tags/list".to_owned(), None),
            ("GET", format!("referrers/{digest}"), None),
        ];
        for blob in [&self.image.config, &self.image.layers[0]] {
            let what = format!("blobs/{}", blob.digest);
            questions.push(("GET", what.clone(), Some("bytes=1-5")));
            questions.push(("HEAD", what.clone(), None));
            questions.push(("GET", what, None));
        }
        for method in ["HEAD", "GET"] {
            questions.push((method, manifest("1.0.0"), None));
            questions.push((method, manifest(digest), None));
        }
        questions
    }

    /// Asks everything as somebody, on the direct listener.
    fn ask_all(&self, at: Addresses, who: Option<&str>) -> Vec<(String, Answer)> {
        let ask = |(method, what, range): (&str, String, Option<&str>)| {
            let url = format!("http://{}/v2/{REGISTRY}/team/app/{what}", at.direct);
            let call = Call::new(method, &url).field("Accept", OCI_MANIFEST);
            let call = who.into_iter().fold(call, |call, who| call.field("Authorization", who));
            let call = range.into_iter().fold(call, |call, range| call.field("Range", range));
            (format!("{method} {what} {range:?}"), call.send())
        };
        self.questions().into_iter().map(ask).collect()
    }

    #[track_caller]
    fn assert_served(&self, at: Addresses, who: &str) {
        for (what, answer) in self.ask_all(at, Some(who)) {
            assert!(matches!(answer.status, 200 | 206), "{what}: {answer:?}");
        }
    }

    /// The same refusal whatever is asked for, and nothing that tells whether it exists.
    #[track_caller]
    fn assert_refused(&self, at: Addresses, who: Option<&str>) {
        for (what, answer) in self.ask_all(at, who) {
            assert_eq!(answer.status, 401, "{what} by {who:?}: {answer:?}");
            assert_eq!(answer.digest(), "", "{what} by {who:?}");
            let challenge = answer.field("WWW-Authenticate");
            assert_eq!(challenge, Some("Basic realm=\"immutag\""), "{what} by {who:?}");
            assert!(!answer.text().contains(self.image.digest()), "{what} by {who:?}: {answer:?}");
        }
    }
}

#[test]
fn what_one_user_made_warm_is_refused_to_everybody_else() {
    for reaction in ["record", "alert", "hold", "block"] {
        let stage = Stage::new();
        let mut immutag = stage.setup(reaction).secret(PASSWORD).start();
        let at = immutag.addresses();
        let user1 = basic("user1", PASSWORD);
        stage.assert_served(at, &user1);
        let other = format!("Bearer {}", stage.tokens.issue("other/app", "pull"));
        let foreign = TokenServer::start(None).issue("team/app", "pull");
        let strangers = [
            basic("user2", "two"),
            basic("user1", "wrong"),
            basic("", ""),
            other,
            format!("Bearer {foreign}"),
            "Bearer garbage".to_owned(),
            "Basic garbage".to_owned(),
        ];
        stage.assert_refused(at, None);
        for stranger in &strangers {
            stage.assert_refused(at, Some(stranger));
        }
        stage.assert_served(at, &user1);
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_mirror_takes_nobodys_credentials() {
    let stage = Stage::new();
    let immutag = stage.setup("hold").start();
    let user1 = basic("user1", PASSWORD);
    stage.assert_served(immutag.addresses(), &user1);
    for (method, what, _) in stage.questions() {
        let url = immutag.mirror(&format!("{REGISTRY}/team/app/{what}"));
        let answer = Call::new(method, &url).field("Authorization", &user1).send();
        assert_eq!(answer.status, 401, "{method} {what}: {answer:?}");
        assert_eq!(answer.field("WWW-Authenticate"), None);
    }
}

#[test]
fn a_user_whom_the_upstream_locked_out_is_locked_out_within_a_minute() {
    let stage = Stage::new();
    let immutag = InProcess::start(stage.setup("hold"));
    let at = immutag.addresses();
    let user1 = basic("user1", PASSWORD);
    stage.assert_served(at, &user1);
    stage.tokens.revoke("user1");
    immutag.clock.advance(Duration::from_secs(59));
    let blob = format!("blobs/{}", stage.image.config.digest);
    let url = format!("http://{}/v2/{REGISTRY}/team/app/{blob}", at.direct);
    let call = || Call::new("GET", &url).field("Authorization", &user1).send();
    // What is warm comes without a question to the upstream until the minute is over.
    let asked = stage.registry.requests().len();
    assert_eq!(call().status, 200);
    assert_eq!(stage.registry.requests().len(), asked);
    immutag.clock.advance(Duration::from_secs(1));
    assert_eq!(call().status, 401);
    stage.assert_refused(at, Some(&user1));
}

#[test]
fn a_pinned_tag_that_the_upstream_deleted_is_served_to_whom_it_was_readable() {
    let stage = Stage::new();
    let immutag = InProcess::start(stage.setup("hold"));
    let url =
        format!("http://{}/v2/{REGISTRY}/team/app/manifests/1.0.0", immutag.addresses().direct);
    let pull = |who: &str| {
        let call = Call::new("GET", &url).field("Accept", OCI_MANIFEST);
        call.field("Authorization", who).send()
    };
    let (user1, user2) = (basic("user1", PASSWORD), basic("user2", "two"));
    assert_eq!(pull(&user1).status, 200);
    // A younger pin would go with its tag.
    immutag.clock.advance(Duration::from_hours(73));
    stage.registry.delete_tag("team/app", "1.0.0");
    assert_eq!((pull(&user1).status, pull(&user2).status), (200, 401));
    // And when its manifest is gone too, nobody can be told apart any more.
    stage.registry.delete("team/app", stage.image.digest());
    immutag.clock.advance(Duration::from_mins(1));
    assert_eq!((pull(&user1).status, pull(&user2).status), (404, 401));
}

#[test]
fn ping_asks_for_a_login_and_then_takes_any() {
    let stage = Stage::new();
    let immutag = stage.setup("hold").start();
    let ping = |url: String, who: Option<&str>| {
        let call = Call::new("GET", &url);
        who.into_iter().fold(call, |call, who| call.field("Authorization", who)).send()
    };
    let asked = ping(immutag.direct(""), None);
    assert_eq!(asked.status, 401);
    assert_eq!(asked.field("WWW-Authenticate"), Some("Basic realm=\"immutag\""));
    assert_eq!(ping(immutag.direct(""), Some(&basic("user1", PASSWORD))).status, 200);
    let mirror = ping(immutag.mirror(""), None);
    assert_eq!((mirror.status, mirror.field("WWW-Authenticate")), (200, None));
    let version = Some("registry/2.0");
    assert_eq!(mirror.field("Docker-Distribution-Api-Version"), version);
    assert_eq!(asked.field("Docker-Distribution-Api-Version"), version);
}
