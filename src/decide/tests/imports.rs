//! Lists against a ledger in memory.

use super::*;

fn claimed(tag: &str, letter: char) -> Claimed {
    Claimed { key: key(tag), digest: digest(letter), is_config: false, place: 1 }
}

impl Desk {
    async fn import(&self, claims: &[Claimed], skips_conflicts: bool) -> Imported {
        let order = ImportOrder { reason: reason(), is_dry_run: false, skips_conflicts };
        import(&*self.ledger, claims, order, "alice").await.unwrap()
    }
}

#[tokio::test]
async fn a_list_is_imported_once_and_carries_who_and_why() {
    let desk = Desk::with_conflicts("").await;
    let list = [claimed("1", 'c'), claimed("2", 'd'), claimed("3.19.1", 'a')];
    let order = ImportOrder { reason: reason(), is_dry_run: true, skips_conflicts: false };
    let before = desk.ledger.status().sequence;
    let dry = import(&*desk.ledger, &list, order, "alice").await.unwrap();
    assert_eq!((dry.is_written, dry.new, dry.known), (false, 2, 1));
    assert_eq!(desk.ledger.status().sequence, before);
    let imported = desk.import(&list, false).await;
    assert_eq!((imported.is_written, imported.new, imported.known), (true, 2, 1));
    let event = desk.ledger.history(&key("1")).await.unwrap().pop().unwrap();
    assert_eq!((event.kind, event.pinned), (EventKind::Imported, Some(digest('c'))));
    assert_eq!((event.who.as_str(), event.why.as_str()), ("alice", "ticket 7"));
    let again = desk.import(&list, false).await;
    assert_eq!((again.new, again.known, again.sequence), (0, 3, None));
}

#[tokio::test]
async fn one_conflict_keeps_a_whole_list_out_unless_it_may_be_left_out() {
    let desk = Desk::with_conflicts("").await;
    desk.import(&[claimed("2", 'd')], false).await;
    desk.revoke('e', false).await;
    let list = [claimed("1", 'c'), claimed("2", 'c'), claimed("3", 'e'), claimed("3.19.1", 'b')];
    let before = desk.ledger.status().sequence;
    let imported = desk.import(&list, false).await;
    assert_eq!((imported.is_written, imported.conflicting), (false, 3));
    let against: Vec<_> = imported.conflicts.iter().map(|conflict| conflict.ledger).collect();
    assert_eq!(against, [Some(digest('d')), None, Some(digest('a'))]);
    assert_eq!(desk.ledger.status().sequence, before);
    let imported = desk.import(&list, true).await;
    assert_eq!((imported.is_written, imported.new, imported.conflicting), (true, 1, 3));
    assert_eq!(desk.pin().await, digest('a'));
}

#[tokio::test]
async fn a_claim_is_listed_and_forgotten_but_not_decided_for() {
    let desk = Desk::with_conflicts("").await;
    desk.import(&[claimed("1", 'c')], false).await;
    let list = || desk.all(Request::List(Filter::default()));
    assert_eq!(list().await.unwrap().len(), 2);
    let is_claim = Fault::IsClaim { key: key("1"), digest: digest('c') };
    let (key, reason, digest) = (key("1"), reason(), digest('c'));
    let request = Request::Reject { key: key.clone(), digest, reason: reason.clone() };
    assert_eq!(desk.decide(request).await, Err(is_claim.clone()));
    let request =
        Request::Approve { key: key.clone(), digest, revoke: None, reason: reason.clone() };
    assert_eq!(desk.decide(request).await, Err(is_claim));
    assert!(desk.decide(Request::Forget { key, reason }).await.unwrap().changed);
    assert_eq!(list().await.unwrap().len(), 1);
}
