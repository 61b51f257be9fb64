//! The tags were pinned before the attack.

use std::collections::BTreeMap;

use super::alerts::print_seconds;
use super::{ALICE, BOB, DELETED, FAVOURITE, Incident, REBUILT, TAGS, image, reference};

/// The tags are told of by the audit, and stay genuine.
pub(super) fn play() {
    let mut it = Incident::new();
    it.everybody_pulls("genuine");
    // Nobody pulls any more.
    let pushed: BTreeMap<_, _> = TAGS.map(|tag| (tag, it.push("hostile", tag))).into();
    assert_told(&mut it, &pushed);
    assert_denied(&mut it);
    assert_cleaned_up(&mut it);
    it.assert_over(|tag| if tag == REBUILT { "rebuilt" } else { "genuine" });
}

/// Every tag is told once, with who has which digest, and clients notice nothing.
fn assert_told(it: &mut Incident, pushed: &BTreeMap<&str, std::time::Instant>) {
    let alerts = it.alerts(TAGS.len());
    print_seconds("the push", pushed, &alerts);
    for alert in &alerts {
        it.assert_seen_elsewhere(alert);
        let tag = alert.tag();
        let (genuine, hostile) = (image("genuine", tag), image("hostile", tag));
        assert_eq!((alert.kind(), alert.text("severity")), ("conflict", "critical"));
        assert_eq!(alert.text("pinned"), genuine.digest());
        assert_eq!(alert.text("observed"), hostile.digest());
        assert!(alert.text("text").ends_with("Clients get the recorded one."), "{}", alert.event);
        assert!(alert.event["data"]["reasons"].to_string().contains("on top"), "{}", alert.event);
        let clients = [ALICE, BOB].map(|client| client.to_string());
        let clients = if tag == FAVOURITE { &clients[..] } else { &clients[..1] };
        assert_eq!(alert.clients(genuine.digest()), clients, "{tag}");
        assert!(alert.clients(hostile.digest()).is_empty(), "{tag}: nobody has the hostile one");
        it.assert_history(tag, &["pinned genuine", "conflict hostile"]);
        let answer = it.pull(ALICE, tag);
        assert_eq!(answer.digest(), genuine.digest());
        assert!(answer.field("Warning").is_some_and(|it| it.contains("is held at")), "{answer:?}");
    }
    let favourite = alerts.iter().find(|alert| alert.tag() == FAVOURITE).expect("each is told");
    it.types(&["ledger", "list", "--conflicts", "--table"]);
    it.follow(favourite, "look", "");
    let diff = it.follow(favourite, "see what changed", "");
    assert!(diff.contains("/collector"), "{diff}");
    it.types(&["ledger", "history", &reference(FAVOURITE), "--table"]);
    it.types(&["pulls", "--ref", &reference(FAVOURITE), "--table"]);
    for alert in &alerts {
        it.follow(alert, "deny the new one everywhere", "stolen account");
    }
}

/// What is hostile goes nowhere any more, whatever the tags do.
fn assert_denied(it: &mut Incident) {
    let told = it.alerts(TAGS.len());
    assert!(told.iter().all(|alert| alert.kind() == "revoked"));
    for tag in TAGS {
        it.assert_refused(image("hostile", tag).digest(), "revoked");
        it.assert_gets("genuine", tag);
    }
}

/// The publisher deletes two tags; then all are back, and one of them is another image.
fn assert_cleaned_up(it: &mut Incident) {
    for tag in DELETED {
        it.delete_hostile(tag);
    }
    it.audits_now(3);
    let told = it.alerts(DELETED.len());
    assert!(told.iter().all(|alert| alert.kind() == "deleted"));
    for tag in DELETED {
        it.assert_refused(tag, "deleted");
    }
    for tag in TAGS {
        it.push(if tag == REBUILT { "rebuilt" } else { "genuine" }, tag);
    }
    it.audits_now(3);
    for alert in it.alerts(TAGS.len()) {
        let tag = alert.tag().to_owned();
        let mut expected = vec!["pinned genuine", "conflict hostile"];
        expected.extend(DELETED.contains(&&*tag).then_some("deleted"));
        if tag == REBUILT {
            expected.push("conflict rebuilt");
            it.assert_history(&tag, &expected);
            it.follow(&alert, "take the new one", "the publisher's advisory names it");
            expected.push("approved rebuilt");
        } else {
            assert_eq!(alert.kind(), "healed");
            expected.push("healed genuine");
        }
        it.assert_history(&tag, &expected);
    }
    assert_eq!(it.alerts(1)[0].kind(), "approved");
    it.types(&["ledger", "history", &reference("alpine"), "--table"]);
}
