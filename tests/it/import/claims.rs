//! What becomes of a claim when the upstream answers.

use super::{REGISTRY, claim, decide, import, kinds, under};
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// Nobody has content for it.
const NOWHERE: &str = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

fn pull(immutag: &Immutag) -> Answer {
    immutag.direct_manifest(REGISTRY, "app", "1.0.0")
}

#[test]
fn a_claim_becomes_the_pin_when_the_upstream_answers_it() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = under(&registry, "hold");
    claim(&immutag, a.digest());
    let list = || immutag.cli(&["ledger", "list", "--table"]).ok().stdout;
    assert!(list().contains("PROVISIONAL: imported"), "{}", list());
    assert_eq!(pull(&immutag).digest(), a.digest());
    assert!(list().contains("imported"), "{}", list());
    assert!(!list().contains("PROVISIONAL"), "{}", list());
    assert_eq!(kinds(&immutag), ["imported", "confirmed"]);
    registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull(&immutag).digest(), a.digest(), "and it holds");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_child_of_the_answer_and_an_images_config_confirm_it_and_the_answer_is_the_pin() {
    for whose in ["a child", "a child's config", "an image's config"] {
        let registry = ScriptedRegistry::start();
        let (tag, claimed) = if whose == "an image's config" {
            let image = registry.push_image("app", "1.0.0", "a");
            (image.digest().to_owned(), image.config.digest.clone())
        } else {
            let index = registry.push_index("app", "1.0.0", "a", &["amd64", "arm64"]);
            let child = &index.images[1];
            let config = child.config.digest.clone();
            let claimed = if whose == "a child" { child.digest().to_owned() } else { config };
            (index.digest().to_owned(), claimed)
        };
        let immutag = under(&registry, "block");
        claim(&immutag, &claimed);
        let answer = pull(&immutag);
        assert_eq!((answer.status, answer.digest()), (200, tag.as_str()), "{whose}");
        assert_eq!(kinds(&immutag), ["imported", "confirmed"], "{whose}");
    }
}

#[test]
fn an_answer_that_is_not_what_was_imported_reaches_no_client_under_hold_and_block() {
    for reaction in ["hold", "block"] {
        let registry = ScriptedRegistry::start();
        let b = registry.push_image("app", "1.0.0", "b");
        let immutag = under(&registry, reaction);
        claim(&immutag, NOWHERE);
        let refused = pull(&immutag);
        assert_eq!(refused.status, 403, "{}", refused.text());
        let detail = refused.json()["errors"][0]["detail"].clone();
        assert_eq!(detail["reason"], "DIGEST_CHANGED");
        assert_eq!((&detail["pinned"], &detail["observed"]), (&NOWHERE.into(), &b.digest().into()));
        assert!(detail["help"].as_str().unwrap().contains("ledger approve"), "{detail}");
        let mirror = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
        assert_eq!(accepting(Call::new("HEAD", &mirror)).send().status, 300, "the block's form");
        assert_eq!(kinds(&immutag), ["imported", "conflict"]);
        registry.fault("* manifests/", Fault::Status(500));
        let head = accepting(Call::new("HEAD", &mirror)).send();
        assert_eq!(head.status, 300, "trouble there opens no way round");
        registry.clear_faults();
        let open = immutag.cli(&["ledger", "list", "--conflicts", "--table"]).ok().stdout;
        assert!(open.contains("CONFLICT") && open.contains("PROVISIONAL"), "{open}");
        decide(&immutag, "approve", &["--digest", NOWHERE]).failed_with("was imported for");
        decide(&immutag, "approve", &["--digest", b.digest()]).ok();
        assert_eq!(pull(&immutag).digest(), b.digest());
        assert_eq!(kinds(&immutag), ["imported", "conflict", "approved"]);
    }
}

#[test]
fn a_contested_claim_is_a_conflict_for_who_watches_too() {
    let registry = ScriptedRegistry::start();
    let b = registry.push_image("app", "1.0.0", "b");
    let immutag = under(&registry, "hold");
    claim(&immutag, NOWHERE);
    for _ in 0..2 {
        let ran = immutag.cli(&["audit", "now", "--json"]);
        assert_eq!(ran.status.code(), Some(3), "{ran:#?}");
        let found: serde_json::Value =
            serde_json::from_str(ran.stdout.lines().next().unwrap()).expect("JSON lines");
        assert_eq!(found["outcome"], "conflict", "{found}");
        assert_eq!((&found["pinned"], &found["observed"]), (&NOWHERE.into(), &b.digest().into()));
    }
    assert!(!immutag.log().contains("could not be compared"), "{}", immutag.log());
}

#[test]
fn a_contested_claim_is_asked_for_once_per_recheck() {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "1.0.0", "b");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("block", "1h");
    let immutag = setup.start();
    claim(&immutag, NOWHERE);
    assert_eq!(pull(&immutag).status, 403);
    let asked = registry.count("GET app/manifests/1.0.0");
    for _ in 0..5 {
        assert_eq!(pull(&immutag).status, 403);
    }
    assert_eq!(registry.count("GET app/manifests/1.0.0"), asked);
    decide(&immutag, "forget", &[]).ok();
    assert_eq!(pull(&immutag).status, 200, "a decision holds at once");
}

#[test]
fn what_was_imported_is_held_where_the_upstream_still_has_it_by_digest() {
    for reaction in ["hold", "block"] {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1.0.0", "a");
        registry.push_image("app", "1.0.0", "b");
        let immutag = under(&registry, reaction);
        claim(&immutag, a.digest());
        let answer = pull(&immutag);
        match reaction {
            "hold" => assert_eq!(answer.digest(), a.digest()),
            _ => assert_eq!(answer.json()["errors"][0]["detail"]["pinned"], a.digest()),
        }
        assert_eq!(kinds(&immutag), ["imported", "confirmed", "conflict"]);
    }
}

#[test]
fn under_alert_the_tag_follows_and_the_conflict_is_told() {
    let registry = ScriptedRegistry::start();
    let b = registry.push_image("app", "1.0.0", "b");
    let immutag = under(&registry, "alert");
    claim(&immutag, NOWHERE);
    let answer = pull(&immutag);
    assert_eq!(answer.digest(), b.digest());
    assert!(answer.field("Warning").is_some(), "{answer:?}");
    assert_eq!(kinds(&immutag), ["imported", "conflict", "followed"]);
}

#[test]
fn a_claim_outlives_the_deletion_of_its_tag() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    registry.delete_tag("app", "1.0.0");
    let immutag = under(&registry, "hold");
    claim(&immutag, NOWHERE);
    let mirror = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    assert_eq!(accepting(Call::new("HEAD", &mirror)).send().status, 300, "not on to the registry");
    registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull(&immutag).status, 403, "the claim is still there");
    decide(&immutag, "forget", &[]).ok();
    claim(&immutag, a.digest());
    registry.delete_tag("app", "1.0.0");
    assert_eq!(pull(&immutag).digest(), a.digest());
    let kinds = kinds(&immutag);
    assert_eq!(kinds[kinds.len() - 2..], ["confirmed", "deleted"]);
}

#[test]
fn a_claim_about_a_recorded_tag_has_no_effect_until_a_rule_covers_it() {
    let registry = ScriptedRegistry::start();
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("record", "");
    let mut immutag = setup.start();
    let b = registry.push_image("app", "1.0.0", "b");
    let list = format!("{REGISTRY}/app:1.0.0@{NOWHERE}\n");
    let ran = import(&immutag, &list, &["--table"]).ok();
    assert!(ran.stdout.contains("no effect before a rule covers it"), "{ran:?}");
    assert_eq!(pull(&immutag).digest(), b.digest());
    immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    immutag.restart_with(|setup| setup.without_rules().every_tag("block", "0s"));
    assert_eq!(pull(&immutag).status, 403, "what was served is no proof against the import");
    assert_eq!(kinds(&immutag), ["imported", "observed", "conflict"]);
}

#[test]
fn what_is_revoked_confirms_nothing() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = under(&registry, "hold");
    claim(&immutag, a.digest());
    immutag.cli(&["ledger", "revoke", a.digest(), "--reason", "hostile"]).ok();
    assert_eq!(pull(&immutag).status, 403);
    assert_eq!(kinds(&immutag), ["imported"]);
    immutag.cli(&["ledger", "revoke", a.digest(), "--undo", "--reason", "it was not"]).ok();
    assert_eq!(pull(&immutag).digest(), a.digest());
}

#[test]
fn a_young_deleted_tag_is_opened_by_approving_its_pin_once() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = under(&registry, "hold");
    assert_eq!(pull(&immutag).digest(), a.digest());
    registry.delete_tag("app", "1.0.0");
    crate::support::wait::eventually("the deletion is seen", || pull(&immutag).status == 404);
    let gone = immutag.cli(&["ledger", "list", "--deleted", "--table"]).ok().stdout;
    assert!(gone.contains("deleted upstream since") && gone.contains("REFUSED"), "{gone}");
    assert!(pull(&immutag).text().contains("ledger approve"), "{}", pull(&immutag).text());
    let said = decide(&immutag, "approve", &["--digest", a.digest()]).ok().stdout;
    assert!(said.contains("\"changed\":true"), "{said}");
    assert_eq!(pull(&immutag).digest(), a.digest());
    let again = decide(&immutag, "approve", &["--digest", a.digest()]).ok().stdout;
    assert!(again.contains("\"changed\":false"), "{again}");
    assert_eq!(kinds(&immutag), ["pinned", "deleted", "approved"]);
}

#[test]
fn a_hostile_first_pin_is_cured_in_one_command_with_the_server_down() {
    let registry = ScriptedRegistry::start();
    let hostile = registry.push_image("app", "1.0.0", "hostile");
    let mut immutag = under(&registry, "hold");
    assert_eq!(pull(&immutag).digest(), hostile.digest());
    let genuine = registry.push_image("app", "1.0.0", "genuine");
    pull(&immutag);
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    immutag.terminate();
    let cure = ["--digest", genuine.digest(), "--revoke", hostile.digest()];
    let said = decide(&immutag, "approve", &cure).ok().stdout;
    assert!(said.contains("is revoked"), "{said}");
    // Again, and nothing changes; the other way round is refused.
    assert!(decide(&immutag, "approve", &cure).ok().stdout.contains("\"changed\":false"));
    decide(&immutag, "approve", &["--digest", hostile.digest()]).failed_with("is revoked");
    immutag.restart();
    assert_eq!(pull(&immutag).digest(), genuine.digest());
    let by_digest = immutag.direct_manifest(REGISTRY, "app", hostile.digest());
    assert_eq!(by_digest.json()["errors"][0]["detail"]["reason"], "DIGEST_REVOKED");
    assert_eq!(kinds(&immutag), ["pinned", "conflict", "approved"]);
    let events = immutag.cli(&["ledger", "export", "--format", "events"]).ok().stdout;
    let revoked = events.lines().find(|line| line.contains("\"kind\":\"revoked\"")).unwrap();
    assert!(revoked.contains("\"why\":\"ticket 7\"") && !revoked.contains("\"who\":\"\""));
}
