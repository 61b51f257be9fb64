//! The checker finds what it is there for, and nothing else.

use super::{Answer, Decided, Decision, Event, History, Move};

fn answer(digest: &str, begun: u64, ended: u64) -> Answer {
    let (tag, digest) = ("t".to_owned(), digest.to_owned());
    Answer { tag, digest, begun, ended, is_by_digest: false }
}

fn event(kind: &str, digest: Option<&str>, why: &str, at: u64) -> Event {
    let (kind, why, digest) = (kind.to_owned(), why.to_owned(), digest.map(str::to_owned));
    Event { kind, tag: Some("t".to_owned()), digest, why, at }
}

fn decision(what: Decided, why: &str, begun: u64, ended: u64) -> Decision {
    Decision { what, why: why.to_owned(), begun, ended, is_acknowledged: true }
}

/// The upstream has `a`, later `b`, later `a`; the pin is `a`, and a person approves `b`.
fn lawful() -> History {
    let moved = |digest: &str, at| Move { tag: "t".to_owned(), digest: digest.to_owned(), at };
    let tag = Decided::OfTag("t".to_owned());
    History {
        moves: vec![moved("a", 1), moved("b", 20), moved("a", 40)],
        events: vec![
            event("pinned", Some("a"), "", 10),
            event("conflict", Some("b"), "", 25),
            event("approved", Some("b"), "1", 50),
        ],
        decisions: vec![decision(tag, "1", 45, 60)],
        answers: vec![
            answer("a", 5, 12),
            answer("a", 30, 31),
            answer("a", 48, 70),
            answer("b", 49, 55),
            answer("b", 70, 75),
        ],
    }
}

#[track_caller]
fn assert_found(change: impl FnOnce(&mut History), words: &str) {
    let mut history = lawful();
    change(&mut history);
    let found = history.violations();
    assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:#?}");
}

#[test]
fn a_lawful_history_has_no_violation() {
    assert_eq!(lawful().violations(), Vec::<String>::new());
}

#[test]
fn a_second_digest_between_two_events_is_found() {
    assert_found(|it| it.answers.push(answer("b", 30, 35)), "no pin in the ledger");
}

#[test]
fn an_answer_in_front_of_its_pin_is_found() {
    assert_found(|it| it.answers.push(answer("a", 5, 9)), "no pin in the ledger");
    // The same, seen from a ledger that has lost the pin.
    assert_found(|it| it.events[0].at = 13, "no pin in the ledger");
}

#[test]
fn the_old_pin_after_a_decision_or_after_another_client_had_the_new_one_is_found() {
    assert_found(|it| it.answers.push(answer("a", 61, 65)), "no pin in the ledger");
    assert_found(|it| it.answers.push(answer("a", 56, 58)), "no pin in the ledger");
}

#[test]
fn what_the_upstream_never_had_is_found() {
    let late = |it: &mut History| it.moves.remove(1).at = 99;
    let mut history = lawful();
    late(&mut history);
    let found = history.violations();
    assert!(found.iter().all(|it| it.contains("never had")) && found.len() == 4, "{found:#?}");
}

#[test]
fn a_second_first_sight_is_found() {
    let again = event("pinned", Some("b"), "", 80);
    assert_found(|it| it.events.push(again.clone()), "a second first sight");
    let mut history = lawful();
    history.events.extend([event("forgotten", None, "2", 79), again]);
    assert_eq!(history.violations(), Vec::<String>::new());
}

#[test]
fn an_acknowledged_decision_that_is_lost_is_found() {
    let lost = decision(Decided::OfTag("t".to_owned()), "3", 80, 81);
    assert_found(|it| it.decisions.push(lost.clone()), "acknowledged, and lost");
    let mut history = lawful();
    history.decisions.push(Decision { is_acknowledged: false, ..lost });
    assert_eq!(history.violations(), Vec::<String>::new());
}

#[test]
fn a_revoked_digest_that_is_given_is_found_by_tag_and_by_digest() {
    let revoked = |it: &mut History, undone: u64| {
        it.events.push(Event { tag: None, ..event("revoked", None, "4", 80) });
        it.decisions.push(decision(Decided::Revoked("b".to_owned()), "4", 79, 81));
        let undo = decision(Decided::Unrevoked("b".to_owned()), "5", undone, undone + 1);
        it.decisions.push(Decision { is_acknowledged: false, ..undo });
    };
    for is_by_digest in [false, true] {
        let given = Answer { is_by_digest, ..answer("b", 82, 90) };
        let add = |undone| {
            let given = given.clone();
            move |it: &mut History| {
                revoked(it, undone);
                it.answers.push(given);
            }
        };
        assert_found(add(95), "given though revoked");
        let mut history = lawful();
        add(85)(&mut history);
        assert_eq!(history.violations(), Vec::<String>::new());
    }
}
