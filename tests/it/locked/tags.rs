//! Tags that are in the lock file, and tags that are not.

use super::{
    REGISTRY, ask, assert_refused, assert_required, assert_serves, job, lock, locked, wait_for_pull,
};
use crate::support::content::{Image, Index};
use crate::support::fault::Fault;
use crate::support::http::{Call, head};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn a_tag_that_is_not_in_the_lock_file_is_refused_and_nobody_is_asked_for_it() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    registry.push_image("app", "2", "b");
    registry.push_image("other", "1", "c");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    for path in ["app/manifests/2", "other/manifests/1", "app/manifests/latest"] {
        assert_required(&immutag, path);
    }
    let words = ask(&immutag, "HEAD", "app/manifests/2").reason;
    assert!(
        words.contains("registry.example/app:2 is not in the lock file images.lock"),
        "{words}"
    );
    assert!(words.contains("immutag lock --add registry.example/app:2"), "{words}");
    assert_eq!(registry.requests().len(), 0, "{:?}", registry.requests());
    let listed = immutag.cli(&["ledger", "list", "--json"]).ok().stdout;
    assert!(listed.contains("\"tag\":\"1\"") && !listed.contains("\"tag\":\"2\""), "{listed}");
    wait_for_pull(&immutag, &["PIN_REQUIRED", "app:2"]);
    assert!(immutag.metric("immutag_refusals_total", "PIN_REQUIRED") >= 12.0);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_locked_tag_that_moved_upstream_is_served_as_it_was_locked_and_the_conflict_is_told() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let moved = registry.push_image("app", "1", "b");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    let warned = ask(&immutag, "GET", "app/manifests/1");
    let warning = warned.field("warning").expect("a warning");
    assert!(warning.contains(moved.digest()), "{warning}");
    assert_required(&immutag, &format!("app/manifests/{}", moved.digest()));
    immutag.assert_alive_and_clean();
}

#[test]
fn a_locked_digest_that_is_gone_upstream_is_refused_and_nothing_else_is_served_for_it() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    registry.push_image("app", "1", "b");
    registry.delete("app", app.digest());
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_refused(&immutag, "app/manifests/1", "DIGEST_CHANGED");
    let words = ask(&immutag, "HEAD", "app/manifests/1").reason;
    assert!(words.contains("the lock file images.lock holds registry.example/app:1"), "{words}");
    assert!(words.contains("immutag lock --update=registry.example/app:1"), "{words}");
    // Nor where the tag is gone, too.
    registry.delete_tag("app", "1");
    immutag.restart();
    assert_refused(&immutag, "app/manifests/1", "PINNED_CONTENT_GONE");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_locked_tag_that_was_deleted_upstream_is_served_by_its_digest() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    registry.delete_tag("app", "1");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn an_index_that_wraps_the_locked_image_is_not_served_for_it() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let wrapping = Index::of(vec![app.clone(), Image::for_architecture("evil", "arm64")]);
    registry.put_index("app", &wrapping);
    registry.retag("app", "1", wrapping.digest());
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    assert_required(&immutag, &format!("app/manifests/{}", wrapping.digest()));
    assert_required(&immutag, &format!("app/manifests/{}", wrapping.images[1].digest()));
    immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    immutag.assert_alive_and_clean();
}

#[test]
fn an_image_with_the_locked_config_is_not_served_for_it() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", &app.config.digest)]));
    assert_refused(&immutag, "app/manifests/1", "DIGEST_CHANGED");
    immutag.assert_alive_and_clean();
}

#[test]
fn while_the_upstream_fails_a_locked_tag_is_closed_on_a_mirror_and_served_if_it_is_here() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    registry.fault("* app/", Fault::Status(500));
    let refused = ask(&immutag, "HEAD", "app/manifests/1");
    assert_eq!(refused.status, 300, "{}", refused.reason);
    assert!(refused.reason.contains("PINNED_CONTENT_GONE"), "{}", refused.reason);
    registry.clear_faults();
    immutag.restart();
    assert_serves(&immutag, "app", "1", &app);
    // The next job has the cache of this one, and an upstream that fails.
    registry.fault("* app/", Fault::Status(500));
    immutag.restart();
    assert_serves(&immutag, "app", "1", &app);
    immutag.restart_with(|setup| setup.top("offline = true"));
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_persons_approval_does_not_move_a_locked_tag() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let other = registry.push_image("app", "1", "b");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    let decide = |words: &[&str], digest: &str| {
        let arguments = ["ledger", words[0], "registry.example/app:1", "--digest", digest];
        immutag.cli(&[&arguments[..], &["--reason", "ticket"]].concat()).ok();
    };
    decide(&["approve"], other.digest());
    assert_refused(&immutag, "app/manifests/1", "DIGEST_CHANGED");
    let words = ask(&immutag, "HEAD", "app/manifests/1").reason;
    assert!(words.contains("but the ledger has"), "{words}");
    assert_required(&immutag, &format!("app/manifests/{}", other.digest()));
    decide(&["approve"], app.digest());
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_locked_tag_that_a_person_lets_the_ledger_forget_is_no_first_sight() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    registry.push_image("app", "1", "b");
    immutag.cli(&["ledger", "forget", "registry.example/app:1", "--reason", "ticket"]).ok();
    assert_serves(&immutag, "app", "1", &app);
    immutag.cli(&["ledger", "forget", "registry.example/app:1", "--reason", "ticket"]).ok();
    immutag.cli(&["ledger", "audit", "--now"]);
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_locked_digest_that_is_revoked_is_refused() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    immutag.cli(&["ledger", "revoke", app.digest(), "--reason", "ticket"]).ok();
    assert_refused(&immutag, "app/manifests/1", "DIGEST_REVOKED");
    assert_refused(&immutag, &format!("app/manifests/{}", app.digest()), "DIGEST_REVOKED");
    immutag.assert_alive_and_clean();
}

#[test]
fn without_locked_mode_the_lock_file_holds_its_own_and_the_rules_decide_the_rest() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let other = registry.push_image("other", "latest", "c");
    registry.push_image("app", "1", "b");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("record", "0s");
    let mut immutag = job(setup, &lock(&[("app:1", app.digest())])).start();
    assert_serves(&immutag, "app", "1", &app);
    assert_serves(&immutag, "other", "latest", &other);
    immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    // Neither pull nor watch records the locked tag.
    immutag.signal(rustix::process::Signal::HUP);
    immutag.wait_for_log("were read again");
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn an_unknown_registry_is_closed_in_locked_mode() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    for ns in ["elsewhere.example", "elsewhere.example."] {
        let url = immutag.mirror(&format!("app/manifests/1?ns={ns}"));
        let answer = head(&url);
        assert_eq!(answer.status, 300, "{ns}: {}", answer.reason);
        assert!(answer.reason.contains("PIN_REQUIRED"), "{}", answer.reason);
    }
    let direct = Call::new("GET", &immutag.direct("nowhere.example/app/manifests/1")).send();
    assert_eq!(direct.status, 403, "{}", direct.text());
    assert_eq!(direct.field("immutag-reason"), Some("PIN_REQUIRED"));
    for name in ["elsewhere.example", "nowhere.example"] {
        wait_for_pull(&immutag, &["PIN_REQUIRED", name]);
    }
    immutag.assert_alive_and_clean();
}

#[test]
fn warming_keeps_to_the_lock_file() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    registry.push_image("app", "2", "b");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    immutag.cli(&["cache", "warm", "registry.example/app:1"]).ok();
    let refused = immutag.cli(&["cache", "warm", "registry.example/app:2"]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("lock file images.lock"), "{}", refused.stderr);
    assert_eq!(registry.count("* /v2/app/manifests/2"), 0);
    immutag.assert_alive_and_clean();
}
