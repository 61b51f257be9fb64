//! An answer stands until anything that decides it changes, and not one request longer.

use super::asking::Origin;
use super::*;
use crate::config::{Credentials, UpstreamConfig};
use crate::event::{Draft, EventKind};
use crate::pin::TagState;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Stage {
    /// A pinned tag whose upstream was asked just now.
    async fn fresh() -> (Self, Content) {
        let stage = Self::new(Reaction::Hold);
        let content = stage.pin().await;
        stage.asked_now();
        // The first answer marks what the pin keeps, and what was answered before that is over.
        stage.pull.manifest(stage.request()).await.unwrap();
        (stage, content)
    }

    fn asked_now(&self) {
        self.pull.asked(&key()).at_ms.store(self.pull.now_ms(), Ordering::SeqCst);
    }

    fn by_digest(&self, digest: Digest) -> ManifestRequest {
        ManifestRequest { reference: ManifestReference::Digest(digest), ..self.request() }
    }

    async fn standing_of(&self, request: ManifestRequest) -> Option<Standing> {
        self.pull.manifest(request).await.unwrap().standing
    }

    async fn standing(&self) -> Option<Standing> {
        self.standing_of(self.request()).await
    }

    fn stands(&self, standing: &Standing) -> bool {
        self.pull.stands(standing, CLIENT)
    }

    async fn append(&self, kind: EventKind, observed: &Content) -> Arc<TagState> {
        let ledger = &self.pull.edges.ledger;
        let state = ledger.state(&key()).await.unwrap().unwrap();
        let draft = Draft { observed: Some(observed.clone()), ..Draft::new(kind, Some(key())) };
        ledger.append(draft, state.sequence, None).await.unwrap();
        ledger.state(&key()).await.unwrap().unwrap()
    }
}

fn other(content: &Content) -> Content {
    Content { digest: Digest::sha256([7; 32]), ..content.clone() }
}

#[tokio::test]
async fn a_pinned_and_fresh_tag_and_its_digest_stand() {
    let (stage, content) = Stage::fresh().await;
    let tag = stage.standing().await.unwrap();
    let digest = stage.standing_of(stage.by_digest(content.digest)).await.unwrap();
    assert!(stage.stands(&digest) && stage.stands(&tag));
    let hits = stage.pull.edges.metrics.cache_hits.with_label_values(&["manifest"]);
    let before = hits.get();
    assert!(stage.stands(&digest));
    assert_eq!(hits.get(), before + 1);
}

#[tokio::test]
async fn nothing_stands_after_a_change_of_ledger_settings_canary_or_what_is_kept() {
    let (stage, content) = Stage::fresh().await;
    let changed = async |what: &str, change: &dyn Fn()| {
        let standing = stage.standing().await.unwrap();
        assert!(stage.stands(&standing));
        change();
        assert!(!stage.stands(&standing), "{what}");
    };
    let canary = std::cell::RefCell::new(None);
    changed("a reload", &|| stage.pull.reload(settings(Reaction::Hold))).await;
    changed("a canary", &|| {
        *canary.borrow_mut() = stage.pull.place_canary(1, "0123456789abcdef").ok();
    })
    .await;
    changed("no canary", &|| drop(canary.take())).await;
    let manifest =
        StoredManifest { content: content.clone(), bytes: fixtures::image_json().into() };
    let before = stage.pull.edges.ledger.state(&key()).await.unwrap().unwrap();
    let (origin, pin) = (stage.request().origin(), before.pin.as_ref().unwrap());
    let keep = |of: &Origin| stage.pull.keep_pinned(of, &key(), pin, &manifest);
    changed("another pin's content", &|| {
        keep(&Origin { repository: "library/other".parse().unwrap(), ..origin.clone() });
    })
    .await;
    let standing = stage.standing().await.unwrap();
    keep(&origin);
    assert!(stage.stands(&standing), "nothing new");
    let standing = stage.standing().await.unwrap();
    stage.append(EventKind::Conflict, &other(&content)).await;
    assert!(!stage.stands(&standing), "a conflict");
}

#[tokio::test]
async fn what_is_stale_or_old_is_looked_at_again() {
    let (stage, _) = Stage::fresh().await;
    let standing = stage.standing().await.unwrap();
    stage.clock.1.fetch_add(59_999, Ordering::SeqCst);
    assert!(stage.stands(&standing));
    stage.clock.1.fetch_add(1, Ordering::SeqCst);
    assert!(!stage.stands(&standing), "a minute old");
    let standing = stage.standing().await.unwrap();
    assert!(stage.stands(&standing));
    stage.pull.asked(&key()).at_ms.store(0, Ordering::SeqCst);
    assert!(!stage.stands(&standing), "its upstream was never asked");
    stage.clock.1.fetch_add(3_600_000, Ordering::SeqCst);
    stage.asked_now();
    let standing = stage.standing().await.unwrap();
    let before = stage.pull.now_ms() - 3_600_000;
    stage.pull.asked(&key()).at_ms.store(before, Ordering::SeqCst);
    assert!(!stage.stands(&standing), "its upstream was asked an hour ago");
}

#[tokio::test]
async fn an_answer_with_something_against_it_rests_on_nothing() {
    for kind in [EventKind::Conflict, EventKind::Rejected] {
        let (stage, content) = Stage::fresh().await;
        let contested = stage.append(kind, &other(&content)).await;
        let manifest = StoredManifest { content, bytes: fixtures::image_json().into() };
        let epoch = stage.pull.epoch_of(&stage.request());
        let asked = stage.pull.asked(&key());
        let Way::Covered(rule) = stage.pull.decide(&key()) else { panic!("it is covered") };
        let digest = manifest.content.digest;
        assert!(epoch.is_some());
        let standing = stage.pull.standing_of_tag(epoch, &contested, &rule, &asked, digest);
        assert!(standing.is_none(), "{kind:?}");
    }
    let (stage, content) = Stage::fresh().await;
    let pinned = Some(other(&content).digest);
    let draft = Draft { pinned, ..Draft::new(EventKind::Revoked, None) };
    stage.pull.edges.ledger.append_global(draft).await.unwrap();
    assert!(stage.standing().await.is_none(), "anything is revoked");
}

#[tokio::test]
async fn what_one_clients_credentials_opened_stands_for_nobody() {
    let (stage, _) = Stage::fresh().await;
    let config = UpstreamConfig {
        credentials: Credentials::Client,
        ..UpstreamConfig::for_origin("https://registry.example".into())
    };
    let private = Upstreams::new(&[(Registry::docker_io(), config)].into()).unwrap();
    let settings = Settings { upstreams: private, ..settings(Reaction::Hold) };
    let public = stage.request();
    stage.pull.reload(settings);
    assert!(stage.pull.epoch_of(&stage.request()).is_none());
    assert!(stage.pull.epoch_of(&public).is_none(), "located before the reload");
}

#[tokio::test]
async fn a_digest_that_somebody_waits_for_goes_the_long_way() {
    let (stage, content) = Stage::fresh().await;
    let at = place(&key().registry, &key().repository);
    let standing = stage.standing_of(stage.by_digest(content.digest)).await.unwrap();
    stage.pull.memory.claims.insert((at, content.digest), key());
    assert!(!stage.stands(&standing), "a recorded tag's claim");
    stage.pull.memory.claims.invalidate_all();
    let observed = Some(content.digest);
    let refusal = Refusal { observed, ..Refusal::new(Reason::DigestChanged, "x") };
    stage.pull.arm("192.0.2.1".parse().unwrap(), &refusal.clone().of(&key()));
    let standing = stage.standing_of(stage.by_digest(content.digest)).await.unwrap();
    assert!(stage.stands(&standing), "another client was refused it");
    stage.pull.arm(CLIENT, &refusal.of(&key()));
    assert!(!stage.stands(&standing), "this client was refused it");
}

#[tokio::test]
async fn whoever_gets_a_digest_again_is_noted_as_having_it() {
    let (stage, content) = Stage::fresh().await;
    let standing = stage.standing().await.unwrap();
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    assert!(!stage.pull.is_given(client, content.digest));
    assert!(stage.pull.stands(&standing, client));
    assert!(stage.pull.is_given(client, content.digest));
    assert!(stage.stands(&standing), "and then another client");
    stage.pull.memory.tripwire.forget_given();
    for (moved_ms, noted) in [(29_999, false), (1, true)] {
        stage.clock.1.fetch_add(moved_ms, Ordering::SeqCst);
        assert!(stage.stands(&standing));
        assert_eq!(stage.pull.is_given(CLIENT, content.digest), noted, "{moved_ms} ms later");
    }
}
