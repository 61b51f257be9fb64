use super::*;

const NAMES: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn digest(number: u8) -> Digest {
    Digest::sha256([number; 32])
}

/// `a:1=1 b:1=2!`: what stands for what, with a mark behind what is immutable.
fn lock(text: &str) -> LockFile {
    let entry = |word: &str| {
        let (name, rest) = word.split_once('=').unwrap();
        let is_immutable = rest.ends_with('!');
        let number = rest.trim_end_matches('!').parse().unwrap();
        (reference(name), Locked { digest: digest(number), is_immutable })
    };
    LockFile { sources: Vec::new(), images: text.split_whitespace().map(entry).collect() }
}

/// `a:1 b:1!`: what is named, with a mark behind `?immutable=1`.
fn wish(wanted: &str, update: Update, prunes: bool) -> Wish {
    let one = |word: &str| (reference(word.trim_end_matches('!')), word.ends_with('!'));
    let wanted = wanted.split_whitespace().map(one).collect();
    Wish { wanted, given: BTreeMap::new(), update, prunes }
}

fn short(digest: &Digest) -> u8 {
    u8::from_str_radix(&digest.hex()[..2], 16).unwrap()
}

/// Merges; every upstream says 9. The file in the form of [`lock`], and the changes.
fn merged(old: &str, wish: &Wish) -> (String, Vec<String>, Code) {
    let old = lock(old);
    let answer = Answer { digest: digest(9), remark: None, conflict: None };
    let answers = open(&old, wish).into_iter().map(|it| (it, answer.clone())).collect();
    let Merged { images, changes, .. } = merge(&old, wish, &answers);
    let name = |text: &str| text.trim_start_matches("docker.io/library/").to_owned();
    let entries = images.iter().map(|(reference, locked)| {
        let mark = if locked.is_immutable { "!" } else { "" };
        format!("{}={}{mark}", name(&reference.to_string()), short(&locked.digest))
    });
    let entries: Vec<_> = entries.collect();
    let told = changes.iter().map(|it| format!("{:?} {}", it.kind, name(&it.reference)));
    (entries.join(" "), told.collect(), code(&changes))
}

fn only(name: &str) -> Update {
    Update::Only([reference(name)].into())
}

#[test]
fn what_is_there_stays_what_is_new_is_resolved_and_an_update_moves_what_may_move() {
    use Update::{All, Nothing};
    for (old, wanted, update, prunes, new, told) in [
        ("", "a:1 b:1!", Nothing, false, "a:1=9 b:1=9!", "Added a:1, Added b:1"),
        ("a:1=1", "a:1", Nothing, false, "a:1=1", ""),
        ("a:1=1", "a:1 b:1", Nothing, false, "a:1=1 b:1=9", "Added b:1"),
        ("a:1=1 b:1=2", "a:1", Nothing, false, "a:1=1 b:1=2", ""),
        ("a:1=1 b:1=2", "a:1", Nothing, true, "a:1=1", "Removed b:1"),
        ("a:1=1", "a:1!", Nothing, false, "a:1=1!", "Marked a:1"),
        ("a:1=1!", "a:1", Nothing, false, "a:1=1!", ""),
        ("a:1=1 b:1=2", "a:1", All, false, "a:1=9 b:1=9", "Moved a:1, Moved b:1"),
        ("a:1=1 b:1=2", "a:1", All, true, "a:1=9", "Moved a:1, Removed b:1"),
        ("a:1=1 b:1=2", "a:1 b:1", only("b:1"), false, "a:1=1 b:1=9", "Moved b:1"),
        ("a:1=9", "a:1", All, false, "a:1=9", ""),
        ("a:1=1! b:1=2", "a:1 b:1", All, false, "a:1=1! b:1=9", "Conflict a:1, Moved b:1"),
        ("a:1=1", "a:1!", All, false, "a:1=1!", "Marked a:1, Conflict a:1"),
        ("a:1=9!", "a:1", All, false, "a:1=9!", ""),
    ] {
        let (file, changes, code) = merged(old, &wish(wanted, update.clone(), prunes));
        assert_eq!(
            (file.as_str(), changes.join(", ").as_str()),
            (new, told),
            "{old} {wanted} {update:?}"
        );
        let is_conflict = told.contains("Conflict");
        assert_eq!(code, if is_conflict { Code::Finding } else { Code::Ok }, "{told}");
    }
}

#[test]
fn what_another_list_says_is_taken_where_nothing_is_and_is_a_conflict_else() {
    let given = |update, number| {
        let answer = Answer { digest: digest(number), remark: None, conflict: None };
        let given = (reference("a:1"), answer);
        Wish { given: [given].into(), ..wish("", update, false) }
    };
    for (old, update, number, new, told) in [
        ("", Update::Nothing, 5, "a:1=5", "Added a:1"),
        ("a:1=5", Update::Nothing, 5, "a:1=5", ""),
        ("a:1=1", Update::Nothing, 5, "a:1=1", "Conflict a:1"),
        ("a:1=1", Update::All, 5, "a:1=5", "Moved a:1"),
        ("a:1=1!", Update::All, 5, "a:1=1!", "Conflict a:1"),
    ] {
        let (file, changes, _) = merged(old, &given(update.clone(), number));
        assert_eq!((file.as_str(), changes.join(", ").as_str()), (new, told), "{old} {update:?}");
    }
}

#[test]
fn a_digest_stands_for_itself_and_nobody_is_asked_for_it() {
    let name = format!("a@{}", digest(3));
    let wish = wish(&name, Update::All, false);
    assert!(open(&LockFile::default(), &wish).is_empty());
    let (file, changes, _) = merged("", &wish);
    assert_eq!((file, changes.len()), (format!("a@{}=3", digest(3)), 1));
}

#[test]
fn what_speaks_against_an_answer_is_told_beside_it() {
    let wish = wish("a:1", Update::Nothing, false);
    let conflict = Some("the upstream says something else".to_owned());
    let answer = Answer { digest: digest(1), remark: None, conflict };
    let merged = merge(&LockFile::default(), &wish, &[(reference("a:1"), answer)].into());
    let told: Vec<_> = merged.changes.iter().map(|change| change.kind).collect();
    assert_eq!(told, [Kind::Added, Kind::Conflict]);
    assert_eq!(merged.images[&reference("a:1")].digest, digest(1));
}

proptest::proptest! {
    /// Without an update nothing that is there moves, whatever is asked for; and what comes of it
    /// is stable.
    #[test]
    fn without_an_update_no_entry_moves(
        old in proptest::collection::btree_map(0..4usize, (1..9u8, proptest::bool::ANY), 0..4),
        wanted in proptest::collection::btree_map(0..4usize, proptest::bool::ANY, 0..4),
        prunes in proptest::bool::ANY,
    ) {
        let images = old.iter().map(|(name, (number, is_immutable))| {
            let locked = Locked { digest: digest(*number), is_immutable: *is_immutable };
            (reference(NAMES[*name]), locked)
        });
        let old = LockFile { sources: Vec::new(), images: images.collect() };
        let wanted = wanted.iter().map(|(name, mark)| (reference(NAMES[*name]), *mark)).collect();
        let wish = Wish { wanted, given: BTreeMap::new(), update: Update::Nothing, prunes };
        let answer = Answer { digest: digest(9), remark: None, conflict: None };
        let answers = open(&old, &wish).into_iter().map(|it| (it, answer.clone())).collect();
        let merged = merge(&old, &wish, &answers);
        for (reference, locked) in &merged.images {
            let before = old.images.get(reference);
            assert_eq!(locked.digest, before.map_or(digest(9), |before| before.digest));
            assert!(locked.is_immutable || before.is_none_or(|before| !before.is_immutable));
        }
        assert!(wish.wanted.keys().all(|it| merged.images.contains_key(it)));
        let new = LockFile { sources: Vec::new(), images: merged.images };
        let again = merge(&new, &wish, &BTreeMap::new());
        assert!(again.changes.is_empty() && again.images == new.images);
    }
}
