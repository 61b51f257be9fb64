//! What a rewrite changes, and what it never does.

use proptest::prelude::*;

use super::*;
use crate::oci::ComputedDigest;

/// A digest for every tag, made of its name; one by digest may stand.
#[expect(clippy::unnecessary_wraps, reason = "it stands for one that may not know")]
fn locked(reference: &Reference) -> Option<Digest> {
    let of_name = || ComputedDigest::of(reference.to_string().as_bytes(), None).digest();
    Some(reference.digest.unwrap_or_else(of_name))
}

fn digest(reference: &str) -> Digest {
    locked(&reference.parse().unwrap()).unwrap()
}

fn rewritten(text: &str) -> Rewritten {
    rewrite(text, &BTreeMap::new(), locked)
}

#[test]
fn digests_stand_behind_tags_and_all_other_bytes_are_kept() {
    let text = "\u{feff}# syntax=docker/dockerfile:1\r\n\
        # FROM alpine:3.19 is not meant\r\n\
        ARG IMAGE='golang:1.22' # go\r\n\
        ARG TAG=9\r\n\
        FROM  --platform=$BUILDPLATFORM\t$IMAGE  AS build # comment\r\n\
        RUN --mount=type=bind,from=ghcr.io/a/tools:2,target=/t \\\r\n  # inside\r\n  true\r\n\
        FROM x:$TAG\r\n\
        FROM alpine\r\n\
        COPY --from=build /a \"/b\"\r\n\
        COPY --from=\"localhost:5000/c\" /a /b\r\n\
        FROM q:1?immutable=1\n";
    let expected = text
        .replace("dockerfile:1\r", &format!("dockerfile:1@{}\r", digest("docker/dockerfile:1")))
        .replace("golang:1.22", &format!("golang:1.22@{}", digest("golang:1.22")))
        .replace("tools:2", &format!("tools:2@{}", digest("ghcr.io/a/tools:2")))
        .replace("FROM alpine\r", &format!("FROM alpine:latest@{}\r", digest("alpine:latest")))
        .replace("5000/c", &format!("5000/c:latest@{}", digest("localhost:5000/c:latest")))
        .replace("q:1?immutable=1", &format!("q:1@{}", digest("q:1")));
    let first = rewritten(text);
    assert_eq!(first.text, expected);
    let left: Vec<_> = first.left.iter().map(|it| it.reference.to_string()).collect();
    assert_eq!((left, first.unlocked.len()), (vec!["docker.io/library/x:9".to_owned()], 0));
    assert_eq!(rewritten(&first.text).text, first.text);
}

#[test]
fn a_default_that_is_used_for_more_than_the_name_is_left() {
    let text = "ARG BASE=alpine\nFROM $BASE\nFROM ${BASE}:3\nFROM b:1\n";
    let found = rewritten(text);
    assert_eq!(found.text, text.replace("b:1", &format!("b:1@{}", digest("b:1"))));
    assert_eq!(found.left.len(), 2, "{:?}", found.left);
    let given = BTreeMap::from([("BASE".to_owned(), "c:2".to_owned())]);
    let found = rewrite("ARG BASE=alpine\nFROM $BASE\n", &given, locked);
    assert_eq!((found.text.as_str(), found.left.len()), ("ARG BASE=alpine\nFROM $BASE\n", 1));
}

#[test]
fn nothing_is_written_if_one_reference_is_not_locked() {
    let text = "# syntax=d/f:1\nFROM a:1\nFROM b:1\n";
    let found = rewrite(text, &BTreeMap::new(), |reference| {
        locked(reference).filter(|_| reference.repository.as_str() == "library/a")
    });
    let unlocked: Vec<_> = found.unlocked.iter().map(|it| it.reference.to_string()).collect();
    assert_eq!((found.text.as_str(), unlocked), (text, vec!["docker.io/library/b:1".to_owned()]));
    // A frontend that is not locked holds up nothing.
    let found = rewrite("# syntax=d/f:1\nFROM a:1\n", &BTreeMap::new(), |reference| {
        locked(reference).filter(|_| reference.repository.as_str() == "library/a")
    });
    assert!(found.unlocked.is_empty());
    assert_eq!(found.text, format!("# syntax=d/f:1\nFROM a:1@{}\n", digest("a:1")));
}

proptest! {
    #[test]
    fn a_second_rewrite_changes_nothing_and_images_stay_what_they_were(
        lines in proptest::collection::vec(
            "(FROM |from\t|ARG A=|COPY --from=|RUN --mount=type=bind,from=|RUN <<|# ?syntax=|# ?escape=|)\
             [\"']?[ab1:/.$A@?=,\"'\\\\` ü]{0,8}(\\?immutable=1)?[\"']?(\\\\|`)?\r?", 0..12),
    ) {
        let text = lines.join("\n");
        let before = read(&text, &BTreeMap::new()).mentions;
        let first = rewritten(&text);
        let after = read(&first.text, &BTreeMap::new()).mentions;
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let expected = Reference { digest: locked(&before.reference), ..before.reference.clone() };
            prop_assert!(after.reference == before.reference || after.reference == expected);
        }
        prop_assert_eq!(&rewritten(&first.text).text, &first.text);
    }
}
