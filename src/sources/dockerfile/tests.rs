//! Dockerfiles of real life, and those of people who mean harm.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::Found;
use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn read(text: &str) -> Found {
    super::read(text, &BTreeMap::new())
}

/// The images as `line:column reference`, what is skipped as `line what: why`.
fn told(found: &Found) -> Vec<String> {
    let mentions = found.mentions.iter().map(|mention| {
        let Mention { reference, line, column, platform, is_immutable, is_frontend, .. } = mention;
        let mut told = format!("{line}:{column} {reference}");
        told += &platform.as_ref().map_or(String::new(), |platform| format!(" for {platform}"));
        told += if *is_immutable { " immutable" } else { "" };
        told + if *is_frontend { " frontend" } else { "" }
    });
    let skipped = found.skipped.iter();
    let skipped =
        skipped.map(|skipped| format!("{} {}: {}", skipped.line, skipped.what, skipped.why));
    mentions.chain(skipped).collect()
}

#[test]
fn a_build_of_many_stages_names_its_images_and_not_its_stages() {
    let text = "# syntax=docker/dockerfile:1.7\n\
        ARG GO_VERSION=1.22\n\
        ARG ALPINE=alpine:3.19\n\
        FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine AS Build\n\
        WORKDIR /src\n\
        RUN --mount=type=cache,target=/root/.cache \\\n\
        \x20   --mount=type=bind,from=ghcr.io/acme/tools:2,target=/tools \\\n\
        \x20   go build ./...\n\
        FROM build AS test\n\
        FROM ${ALPINE}\n\
        COPY --from=build --chown=1:1 /app /app\n\
        COPY --from=0 /a /b\n\
        COPY --link --from=busybox:1.36 /bin/busybox /bin/\n\
        copy --from=TEST /a /b\n\
        FROM scratch\n\
        ADD --checksum=sha256:00 https://example.com/x /x\n";
    assert_eq!(
        told(&read(text)),
        [
            "1:10 docker.io/docker/dockerfile:1.7 frontend",
            "4:32 docker.io/library/golang:1.22-alpine for $BUILDPLATFORM",
            "7:28 ghcr.io/acme/tools:2",
            "10:6 docker.io/library/alpine:3.19",
            "13:20 docker.io/library/busybox:1.36",
        ]
    );
}

#[test]
fn arguments_are_replaced_as_a_builder_does() {
    let given = BTreeMap::from([("TAG".to_owned(), "2".to_owned())]);
    for (text, expected) in [
        ("ARG X=a:1\nFROM $X", "2:6 docker.io/library/a:1"),
        ("ARG X\nFROM a:$X", "2 a:$X: it needs an ARG that has no default here"),
        ("ARG TAG\nFROM a:$TAG", "2:6 docker.io/library/a:2"),
        ("ARG TAG=1\nFROM a:${TAG}-b", "2:6 docker.io/library/a:2-b"),
        // It is not declared, so it is not replaced.
        ("FROM a:$TAG", "1 a:$TAG: it needs an ARG that has no default here"),
        ("FROM a:${X:-3}", "1:6 docker.io/library/a:3"),
        ("ARG X=\nFROM a:${X:-3}", "2:6 docker.io/library/a:3"),
        ("ARG X=\nFROM a:3${X-4}", "2:6 docker.io/library/a:3"),
        ("ARG X=1\nFROM a:3${X:+-slim}", "2:6 docker.io/library/a:3-slim"),
        ("FROM a:3${X:+-slim}", "1:6 docker.io/library/a:3"),
        ("ARG Y=9\nFROM a:${X:-${Y}.1}", "2:6 docker.io/library/a:9.1"),
        ("ARG A=1 B=\"b:$A\"\nFROM '$B'", "2 $B: it is no reference"),
        ("ARG A=1 B=\"b:$A\"\nFROM \"$B\"", "2:6 docker.io/library/b:1"),
        ("ARG A=1\nARG A=2\nFROM a:$A", "3:6 docker.io/library/a:2"),
        ("FROM a:1\nARG X=2\nFROM b:$X", "3 b:$X: it needs an ARG that has no default here"),
        ("FROM a-$TARGETARCH", "1 a-$TARGETARCH: it depends on the platform that is built for"),
        (
            "ARG TARGETARCH\nFROM a-${TARGETARCH:-x}",
            "2 a-${TARGETARCH:-x}: it depends on the \
            platform that is built for",
        ),
        ("ARG TARGETARCH=arm64\nFROM a-$TARGETARCH", "2:6 docker.io/library/a-arm64:latest"),
        (
            "FROM a:${X/1/2}",
            "1 a:${X/1/2}: its variables are written in a way that is not read \
            here",
        ),
        ("FROM a:${X", "1 a:${X: its variables are written in a way that is not read here"),
        ("FROM a:1$", "1 a:1$: its variables are written in a way that is not read here"),
    ] {
        let found = super::read(text, &given);
        assert_eq!(told(&found).last().map(String::as_str), Some(expected), "{text}");
    }
}

#[test]
fn the_body_of_a_here_document_is_no_instruction() {
    let text = "FROM a:1\n\
        RUN <<EOF cat <<-'B'\nFROM x:1\n EOF\nEOF\nCOPY --from=x:2 / /\n\tB\n\
        COPY --from=b:1 <<\"E F\" /x /\nFROM x:3\nE F\n\
        ONBUILD RUN <<X\nFROM x:4\nX\n\
        RUN [\"<<EOF\"]\n\
        RUN echo \"<<EOF\" 3<<<EOF 1 << EOF\n\
        RUN 3<<Q\r\nFROM x:5\r\nQ\r\n\
        FROM c:1\n\
        RUN <<END\nFROM x:6\n";
    assert_eq!(
        told(&read(text)),
        [
            "1:6 docker.io/library/a:1",
            "8:13 docker.io/library/b:1",
            "19:6 docker.io/library/c:1",
            "20 <<: this here-document does not end",
        ]
    );
}

#[test]
fn lines_go_on_and_comments_stand_between_them() {
    for (text, expected) in [
        ("FROM \\\n  # a comment \\\n\n  a:1 \\\n  AS b\nFROM b", "4:3 docker.io/library/a:1"),
        ("FROM al\\\npine:1", "1:6 docker.io/library/alpine:1"),
        ("FROM a:1 \\\\\nFROM b:1", "2:6 docker.io/library/b:1"),
        ("# escape=`\nFROM `\n a:1\n", "3:2 docker.io/library/a:1"),
        ("# a comment\n# escape=`\nFROM \\\n a:1\n", "4:2 docker.io/library/a:1"),
        ("\u{feff}# syntax=x/y:1\r\nfrom\ta:1\r\n", "2:6 docker.io/library/a:1"),
        ("\u{feff}FROM a:1", "1:6 docker.io/library/a:1"),
        ("  FROM \"a:1\"", "1:9 docker.io/library/a:1"),
        ("# ü\n  FROM --platform=linux/ü a:1", "2:27 docker.io/library/a:1 for linux/ü"),
    ] {
        assert_eq!(told(&read(text)).last().map(String::as_str), Some(expected), "{text}");
    }
}

#[test]
fn the_frontend_is_where_buildkit_looks_for_it() {
    for (text, expected) in [
        (
            "#!/usr/bin/env x\n#syntax = d/f:1 --opt\nFROM scratch",
            vec!["2:11 docker.io/d/f:1 frontend"],
        ),
        ("# check=skip=all\n# SYNTAX=d/f:1\nFROM scratch", vec!["2:10 docker.io/d/f:1 frontend"]),
        ("# a comment\n# syntax=d/f:1\nFROM scratch", vec![]),
        ("\n# syntax=d/f:1\nFROM scratch", vec![]),
        ("FROM scratch\n# syntax=d/f:1", vec![]),
    ] {
        assert_eq!(told(&read(text)), expected, "{text}");
    }
    let given = BTreeMap::from([("BUILDKIT_SYNTAX".to_owned(), "d/f:2".to_owned())]);
    let found = super::read("# syntax=d/f:1\nFROM scratch", &given);
    assert_eq!(told(&found), ["1:1 docker.io/d/f:2 frontend"]);
}

#[test]
fn what_names_no_image_is_told_with_its_reason() {
    let text = format!(
        "FROM a:1?immutable=1\nFROM a:1?immutable=2\nFROM ../x\nFROM a:1@{A} AS b\n\
         COPY --from=$X / /\nRUN --mount=from=$X true\nONBUILD COPY --from=b / /\n\
         ONBUILD RUN --mount=type=bind,from=c:1 true\nONBUILD RUN true\nCOPY --from=later / /\n\
         FROM scratch as Later\n"
    );
    let no_variable = "Docker replaces no variable here: name it by a FROM";
    let onbuild = "it counts in the builds of others, upon this image";
    assert_eq!(
        told(&read(&text)),
        [
            "1:6 docker.io/library/a:1 immutable".to_owned(),
            format!("4:6 docker.io/library/a:1@{A}"),
            "2 a:1?immutable=2: the only query that is known is ?immutable=1".to_owned(),
            "3 ../x: it is no reference".to_owned(),
            format!("5 $X: {no_variable}"),
            format!("6 $X: {no_variable}"),
            format!("7 ONBUILD COPY --from=b / /: {onbuild}"),
            format!("8 ONBUILD RUN --mount=type=bind,from=c:1 true: {onbuild}"),
        ]
    );
}

#[test]
fn a_place_is_where_the_reference_is_written() {
    let text = "ARG A='x:1'\nARG B=\"y:$A\"\nFROM $A AS a\nFROM ${B:-z:1}\nFROM \"q:1\"\n\
                COPY --from=\"r:1\" / /\nFROM s\\\n:1\nFROM ${A}\n";
    let found = read(text);
    let part = |span: &Option<Range<usize>>| span.clone().map(|span| &text[span]);
    let parts = found.mentions.iter().map(|it| (part(&it.span), part(&it.default_span)));
    assert_eq!(
        parts.collect::<Vec<_>>(),
        [
            (None, Some("x:1")),
            (Some("q:1"), None),
            (Some("r:1"), None),
            (None, None),
            (None, Some("x:1")),
        ]
    );
    assert_eq!(found.skipped.len(), 1, "{:?}", found.skipped);
}

#[test]
fn a_file_without_end_costs_no_more_than_its_size() {
    let nested = format!("FROM {}{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    assert!(read(&nested).mentions.is_empty());
    let mut doubled = "ARG A0=aaaaaaaaaaaaaaaa\n".to_owned();
    for number in 0..200 {
        writeln!(doubled, "ARG A{}=$A{number}$A{number}", number + 1).unwrap();
    }
    doubled += "FROM $A200\n";
    assert!(read(&doubled).mentions.is_empty());
    let many = "FROM a:1\n".repeat(25_000);
    let found = read(&many);
    assert_eq!((found.mentions.len(), found.skipped.len()), (10_000, 10_000));
    assert!(read(&"RUN <<a <<b <<c ".repeat(50_000)).mentions.is_empty());
}

proptest! {
    #[test]
    fn no_dockerfile_makes_it_panic_and_every_span_is_what_was_written(
        noise in "\\PC{0,80}",
        lines in proptest::collection::vec(
            "(FROM |from\t|ARG |COPY --from=|RUN --mount=type=bind,from=|RUN <<|ONBUILD |# ?syntax=|# ?escape=|)\
             [\"']?[aü$@:{}=\\\\`<\"' /.,?1-]{0,20}(\\\\|`)?\r?", 0..12),
    ) {
        for text in [noise, lines.join("\n")] {
            let found = read(&text);
            for mention in &found.mentions {
                let Some(span) = mention.span.clone().or(mention.default_span.clone()) else {
                    continue;
                };
                let (named, _) = super::reference(&text[span]).unwrap();
                prop_assert_eq!(&named, &mention.reference);
            }
        }
    }
}
