//! The tags were seen first while they were hostile.

use super::alerts::{Alert, print_seconds};
use super::{ALICE, BOB, DELETED, FAVOURITE, Incident, REBUILT, TAGS, image, reference};

const WHY: &str = "first seen while the account was stolen";

/// The pins are accused by the clean-up, and one command for each ends it.
pub(super) fn play() {
    let mut it = Incident::new();
    for tag in TAGS {
        it.push("hostile", tag);
    }
    it.everybody_pulls("hostile");
    // Nobody pulls any more, and the publisher is back.
    let cleaned = TAGS.map(|tag| match tag {
        _ if DELETED.contains(&tag) => (tag, it.delete_hostile(tag)),
        REBUILT => (tag, it.push("rebuilt", tag)),
        _ => (tag, it.push("genuine", tag)),
    });
    let told = it.alerts(TAGS.len());
    print_seconds("the clean-up", &cleaned.into(), &told);
    for alert in &told {
        if DELETED.contains(&alert.tag()) {
            assert_eq!(alert.kind(), "deleted");
            it.assert_refused(alert.tag(), "deleted");
            it.assert_history(alert.tag(), &["pinned hostile", "deleted"]);
            it.follow(alert, "deny the recorded one everywhere, since it is hostile", WHY);
        } else {
            assert_accused(&mut it, alert);
        }
    }
    assert_restored(&mut it);
    it.assert_over(|tag| if tag == REBUILT { "rebuilt" } else { "genuine" });
}

/// The alert says that the pin may be the hostile one, who has it, and what ends it.
fn assert_accused(it: &mut Incident, alert: &Alert) {
    it.assert_seen_elsewhere(alert);
    let tag = alert.tag();
    let now = if tag == REBUILT { "rebuilt" } else { "genuine" };
    let hostile = image("hostile", tag);
    assert_eq!((alert.kind(), alert.text("severity")), ("conflict", "critical"));
    assert_eq!(alert.event["data"]["pin-is-young"], true);
    assert_eq!(alert.text("pinned"), hostile.digest());
    assert_eq!(alert.text("observed"), image(now, tag).digest());
    let clients = [ALICE, BOB].map(|client| client.to_string());
    let clients = if tag == FAVOURITE { &clients[..] } else { &clients[..1] };
    assert_eq!(alert.clients(hostile.digest()), clients, "{tag}");
    // Held, as it was first seen: which of both is the hostile one, only a person knows.
    it.assert_gets("hostile", tag);
    it.follow(alert, "see what changed", "");
    let pulls = it.types(&["pulls", "--digest", hostile.digest(), "--table"]).ok().stdout;
    assert!(clients.iter().all(|client| pulls.contains(client)), "{pulls}");

    it.follow(alert, "take the new one, since the recorded one is hostile", WHY);
    it.assert_gets(now, tag);
    it.assert_refused(hostile.digest(), "revoked");
    it.assert_history(
        tag,
        &["pinned hostile", &format!("conflict {now}"), &format!("approved {now}")],
    );
}

/// What was deleted comes back, and is the conflict then.
fn assert_restored(it: &mut Incident) {
    let decisions = it.alerts(TAGS.len() * 2 - DELETED.len());
    let of = |kind: &str| decisions.iter().filter(|alert| alert.kind() == kind).count();
    assert_eq!((of("approved"), of("revoked")), (TAGS.len() - DELETED.len(), TAGS.len()));
    for tag in DELETED {
        it.push("genuine", tag);
    }
    it.audits_now(3);
    for alert in it.alerts(DELETED.len()) {
        let tag = alert.tag();
        it.assert_refused(tag, "revoked");
        it.follow(&alert, "take the new one, since the recorded one is hostile", WHY);
        it.assert_gets("genuine", tag);
        it.types(&["ledger", "history", &reference(tag), "--table"]);
        it.assert_history(
            tag,
            &["pinned hostile", "deleted", "conflict genuine", "approved genuine"],
        );
    }
}
