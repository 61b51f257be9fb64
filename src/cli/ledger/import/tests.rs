//! Lists as they are, and as they must not be.

use proptest::prelude::*;

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

fn input(text: &str) -> Input {
    Box::new(Cursor::new(text.replace("$A", A).replace("$B", B).replace("$C", C).into_bytes()))
}

fn gather(format: ImportFormat, text: &str) -> Gather {
    read(format, input(text)).unwrap()
}

/// The claims as lines, shortened: `alpine:3 a 1`, with `config` behind that of a config.
fn claims(gather: &Gather) -> Vec<String> {
    let line = |claimed: &Claimed| {
        let Claimed { key, digest, is_config, place } = claimed;
        let config = if *is_config { " config" } else { "" };
        format!("{key} {} {place}{config}", &digest.hex()[..1])
    };
    gather.claims().iter().map(line).collect()
}

fn skipped(gather: &Gather) -> Vec<String> {
    gather.skipped.iter().map(|it| format!("{} {}: {}", it.place, it.what, it.why)).collect()
}

#[test]
fn lines_of_references_are_taken_with_comments_and_blanks() {
    let text = "# what runs\n\nalpine:3.19@$A\r\n  ghcr.io/acme/app:1.0.0@$B # pinned\n\
                alpine:3.19@$A\nlocalhost:5000/x:1@$C";
    let gather = gather(ImportFormat::Tags, text);
    assert_eq!(
        claims(&gather),
        [
            "docker.io/library/alpine:3.19 a 3",
            "ghcr.io/acme/app:1.0.0 b 4",
            "localhost:5000/x:1 c 6"
        ]
    );
    assert!(gather.contradictions.is_empty() && gather.skipped.is_empty());
}

#[test]
fn a_line_that_is_no_reference_is_told_with_its_number() {
    for (text, words) in [
        ("alpine:3@$A\nalpine:3.20\n", "line 2 is not `image:tag@sha256:…`: it names no digest"),
        ("alpine@$A", "line 1 is not `image:tag@sha256:…`: it names no tag"),
        ("\n\n../../etc:1@$A", "line 3"),
        ("alpine:3@sha256:abc", "line 1"),
        ("\u{1b}[2Jalpine:3@$A", "line 1"),
    ] {
        let error = format!("{:#}", read(ImportFormat::Tags, input(text)).unwrap_err());
        assert!(error.contains(words), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
    let long = format!("alpine:3@{A}\n{}", "a".repeat(1 << 20));
    let error = format!("{:#}", read(ImportFormat::Tags, input(&long)).unwrap_err());
    assert!(error.contains("line 2 is longer than"), "{error}");
}

#[test]
fn two_digests_for_one_tag_contradict_each_other_and_none_is_claimed() {
    let gather = gather(ImportFormat::Tags, "alpine:3@$A\nx/y:1@$C\nalpine:3@$B\nalpine:3@$A\n");
    assert_eq!(claims(&gather), ["docker.io/x/y:1 c 2"]);
    let found = gather.contradictions.values().next().unwrap();
    assert_eq!(
        (found.digests.map(|it| it.to_string()), found.places),
        ([A.into(), B.into()], [1, 3])
    );
}

#[test]
fn more_tags_than_one_batch_holds_are_refused() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for number in 0..=crate::ledger::BULK_LIMIT {
        writeln!(text, "x/y:{number}@{A}").unwrap();
    }
    let error = read(ImportFormat::Tags, input(&text)).unwrap_err().to_string();
    assert!(error.contains("more than 20000 tags"), "{error}");
}

#[test]
fn dockers_images_are_claimed_by_the_digest_of_their_tags_repository() {
    let text = r#"[
      {"Id":"$C","RepoTags":["nginx:1.25","ghcr.io/acme/web:2"],
       "RepoDigests":["nginx@$A","ghcr.io/acme/web@$B"],"Parent":"","Size":1,"Config":{"Env":null}},
      {"Id":"$C","RepoTags":["built:here"],"RepoDigests":[]},
      {"Id":"$C","RepoTags":["x/y:1"],"RepoDigests":["x/y@$A","x/y@$B"]},
      {"Id":"$A","RepoTags":["x/z:1"],"RepoDigests":["x/z@$A","x/z@$B"]},
      {"Id":"$C","RepoTags":null,"RepoDigests":["nginx@$A"]}
    ]"#;
    let gather = gather(ImportFormat::DockerInspect, text);
    assert_eq!(
        claims(&gather),
        [
            "docker.io/library/nginx:1.25 a 1",
            "docker.io/x/y:1 c 3 config",
            "docker.io/x/z:1 a 4",
            "ghcr.io/acme/web:2 b 1",
        ]
    );
    let built = "2 built:here: the engine knows no digest of its repository: was it built here?";
    assert_eq!(skipped(&gather), [built.to_owned(), format!("5 {C}: the image has no tag")]);
}

#[test]
fn podmans_images_are_claimed_by_the_index_where_it_knows_one() {
    let id = &C["sha256:".len()..];
    let text = r#"[{"Id":"ID","Digest":"$B","RepoTags":["docker.io/library/nginx:1.25"],
        "RepoDigests":["docker.io/library/nginx@$A","docker.io/library/nginx@$B"]},
       {"Id":"ID","Digest":"$B","RepoTags":["quay.io/x/y:1"],"RepoDigests":["quay.io/x/y@$B"]},
       {"Id":"ID","Digest":"$B","RepoTags":["localhost/built:1"],
        "RepoDigests":["localhost/other@$B"]}]"#
        .replace("ID", id);
    let gather = gather(ImportFormat::PodmanInspect, &text);
    assert_eq!(claims(&gather), ["docker.io/library/nginx:1.25 a 1", "quay.io/x/y:1 b 2"]);
    assert_eq!(skipped(&gather).len(), 1);
}

const PODS: &str = r#"{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":[
  {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"a"},
   "spec":{"containers":[{"name":"c","image":"nginx:1.25"},{"name":"d","image":"redis"}],
           "initContainers":[{"name":"i","image":"ghcr.io/acme/init:1"}]},
   "status":{"containerStatuses":[
      {"name":"d","image":"docker.io/library/redis:latest","imageID":"docker.io/library/redis@$B"},
      {"name":"c","image":"docker.io/library/nginx:1.25","imageID":"docker.io/library/nginx@$A"}],
    "initContainerStatuses":[
      {"name":"i","image":"ghcr.io/acme/init:1","imageID":"docker-pullable://ghcr.io/acme/init@$C"}]}},
  {"kind":"Pod","spec":{"containers":[
      {"name":"a","image":"x/config:1"},{"name":"b","image":"x/config:2"},
      {"name":"c","image":"x/config:3"},{"name":"d","image":"x/pending:1"},
      {"name":"e","image":"x/moved:1"},{"name":"f","image":"x/pinned:1@$A"},
      {"name":"g","image":"x/untagged@$A"},{"name":"h","image":"nginx:1.25"}]},
   "status":{"containerStatuses":[
      {"name":"a","imageID":"docker://$A"},{"name":"b","imageID":"$B"},
      {"name":"c","imageID":"HEX"},{"name":"d","imageID":""},
      {"name":"e","imageID":"mirror.example/x/moved@$A"},{"name":"f","imageID":"x/pinned@$C"},
      {"name":"g","imageID":"x/untagged@$A"},{"name":"h","imageID":"docker://$C"}]}}]}"#;

#[test]
fn what_a_cluster_runs_is_claimed_whatever_its_nodes_call_it() {
    let text = PODS.replace("HEX", &C["sha256:".len()..]);
    let gather = gather(ImportFormat::Kubernetes, &text);
    assert_eq!(
        claims(&gather),
        [
            // Another node has only the config's digest for it.
            "docker.io/library/nginx:1.25 a 1",
            "docker.io/library/redis:latest b 1",
            "docker.io/x/config:1 a 2 config",
            "docker.io/x/config:2 b 2 config",
            "docker.io/x/config:3 c 2 config",
            "docker.io/x/pinned:1 a 2",
            "ghcr.io/acme/init:1 c 1",
        ]
    );
    assert_eq!(
        skipped(&gather),
        [
            "2 x/pending:1: no node has run it yet".to_owned(),
            "2 x/moved:1: the node names it by another repository".to_owned(),
            format!("2 x/untagged@{A}: it names no tag"),
        ]
    );
    assert!(gather.contradictions.is_empty());
}

#[test]
fn one_pod_is_read_like_a_list() {
    let text = r#"{"kind":"Pod","spec":{"containers":[{"name":"c","image":"nginx:1"}]},
        "status":{"containerStatuses":[{"name":"c","imageID":"nginx@$A"}]}}"#;
    let gather = gather(ImportFormat::Kubernetes, text);
    assert_eq!(claims(&gather), ["docker.io/library/nginx:1 a 1"]);
}

#[test]
fn services_with_digests_are_claimed_and_others_are_listed() {
    let text = r#"{"name":"p","networks":{"default":{}},"services":{
        "web":{"command":null,"image":"nginx:1.25@$A","ports":[{"target":80}]},
        "app":{"build":{"context":"."}},"db":{"image":"postgres:16"}}}"#;
    let gather = gather(ImportFormat::Compose, text);
    assert_eq!(claims(&gather), ["docker.io/library/nginx:1.25 a 2"]);
    assert_eq!(
        skipped(&gather),
        ["3 app: the service names no image: it is built", "3 postgres:16: it names no digest"]
    );
}

#[test]
fn the_images_of_a_dockerfile_are_claimed_through_stages_and_arguments() {
    let text = "# syntax=docker/dockerfile:1\nARG VERSION=3.19 OTHER\nARG IMAGE=\"alpine:${VERSION}\"\n\
        FROM --platform=$BUILDPLATFORM golang:1.22@$A AS Build\nRUN echo \\\n  FROM nowhere:1\n\
        from $IMAGE@$B\nCOPY --from=build /a /b\nFROM build\nFROM scratch\nARG LATE=1\n\
        FROM x/y:${LATE}@$C\nFROM \\\n  --platform=linux/amd64 \\\n # a comment\n x/z:${T:-2}@$C\n\
        FROM busybox\n";
    let gather = gather(ImportFormat::Dockerfile, text);
    assert_eq!(
        claims(&gather),
        [
            "docker.io/library/alpine:3.19 b 7",
            "docker.io/library/golang:1.22 a 4",
            "docker.io/x/z:2 c 16",
        ]
    );
    assert_eq!(
        skipped(&gather),
        [
            format!("12 x/y:${{LATE}}@{C}: it needs an ARG that has no default here"),
            "17 busybox: it names no digest".to_owned(),
        ]
    );
}

#[test]
fn a_dockerfile_may_have_another_escape() {
    let text = "# escape=`\nFROM `\n x/y:1@$A\nRUN dir C:\\\nFROM x/z:1@$B\n";
    assert_eq!(
        claims(&gather(ImportFormat::Dockerfile, text)),
        ["docker.io/x/y:1 a 3", "docker.io/x/z:1 b 5"]
    );
}

#[test]
fn a_file_is_recognised_by_how_it_begins() {
    use ImportFormat::{Compose, DockerInspect, Dockerfile, Jsonl, Kubernetes, Lock, Tags};
    for (text, expected) in [
        ("{\"format\":\"immutag-ledger\",\"version\":1}\n", Some(Jsonl)),
        ("  [\n {}]", Some(DockerInspect)),
        (PODS, Some(Kubernetes)),
        ("{\"name\":\"p\",\"services\":{}}", Some(Compose)),
        ("{\"version\":\"3.8\",\"services\":{}}", Some(Compose)),
        (LOCK, Some(Lock)),
        ("{\"version\" : 9, \"services\":{}}", Some(Lock)),
        ("# escape=`\nARG A=1\nFROM x", Some(Dockerfile)),
        ("alpine:3@sha256:…\n", Some(Tags)),
        ("", Some(Tags)),
        ("{\"a\":1}", None),
    ] {
        assert_eq!(look(text.as_bytes()).ok(), expected, "{text}");
    }
}

const LOCK: &str = r#"{
  "version": 1,
  "sources": ["Dockerfile"],
  "images": {
    "docker.io/library/alpine:3.19": {"digest": "$A"},
    "ghcr.io/acme/tool:1.2.3": {"digest": "$B", "immutable": true},
    "quay.io/acme/base@$C": {"digest": "$C"}
  }
}
"#;

#[test]
fn the_tags_of_a_lock_file_are_claimed_and_what_is_there_by_digest_is_listed() {
    let gather = gather(ImportFormat::Lock, LOCK);
    assert_eq!(
        claims(&gather),
        ["docker.io/library/alpine:3.19 a 5", "ghcr.io/acme/tool:1.2.3 b 6"]
    );
    let words = "it names no tag, and the ledger is about tags";
    assert_eq!(skipped(&gather), [format!("7 quay.io/acme/base@{C}: {words}")]);
}

#[test]
fn a_lock_file_that_is_cut_doubled_newer_or_without_end_is_refused() {
    for (text, words) in [
        (LOCK[..LOCK.len() - 9].to_owned(), "EOF"),
        (LOCK.replace("ghcr.io/acme/tool:1.2.3", "docker.io/library/alpine:3.19"), "twice"),
        (LOCK.replace("\"version\": 1", "\"version\": 2"), "use a newer immutag"),
        (LOCK.replace("alpine", "al\u{1b}[2Jpine"), "control character"),
        (LOCK.replace("library/alpine", "../../etc"), "is no reference"),
    ] {
        let error = format!("{:#}", read(ImportFormat::Lock, input(&text)).unwrap_err());
        assert!(error.contains(words) && !error.contains('\u{1b}'), "{words}: {error}");
    }
    let endless: Input = Box::new(BufReader::new(io::repeat(b' ')));
    let error = read(ImportFormat::Lock, endless).unwrap_err().to_string();
    assert!(error.contains("larger than 16 MiB"), "{error}");
}

#[test]
fn json_that_is_deep_long_or_something_else_is_refused() {
    let deep = "[".repeat(200_000);
    let many = format!("[{}{{}}]", "{},".repeat(200_000));
    let behind = "[] []".to_owned();
    for text in [deep, many, behind, "{}".into(), "null".into(), "[{\"RepoTags\":7}]".into()] {
        let refused = read(ImportFormat::DockerInspect, input(&text));
        // A list of nothing is a list, and has nothing in it.
        assert!(refused.is_err() || refused.is_ok_and(|it| it.claims().is_empty()), "{text:.20}");
    }
    assert!(read(ImportFormat::Compose, input("{\"services\":[]}")).is_err());
    assert!(read(ImportFormat::Kubernetes, input("{\"items\":{}}")).is_err());
}

/// A header and events as an export has them.
fn export(events: &[&str]) -> String {
    let mut text = format!(
        "{{\"format\":\"immutag-ledger\",\"version\":1,\"ledger\":\"id\",\"sequence\":{},\
         \"head\":\"h\",\"time-ms\":1}}\n",
        events.len()
    );
    for event in events {
        text += event;
        text.push('\n');
    }
    text
}

const CREATED: &str = r#"{"sequence":1,"time-ms":1,"kind":"created","key":null,"pinned":null,"observed":null,"provenance":null,"who":"","why":"id","rule":"","count":0}"#;
const PINNED: &str = r#"{"sequence":2,"time-ms":1,"kind":"pinned","key":{"registry":"docker.io","repository":"x/y","tag":"1"},"pinned":null,"observed":{"digest":"$A","media-type":"application/vnd.oci.image.index.v1+json","size-bytes":1},"provenance":"first-seen","who":"","why":"","rule":"r","count":0}"#;
const REVOKED: &str = r#"{"sequence":3,"time-ms":1,"kind":"revoked","key":null,"pinned":"$A","observed":null,"provenance":null,"who":"a","why":"w","rule":"","count":0}"#;

#[test]
fn another_ledgers_pins_are_claims_unless_they_are_revoked_there() {
    let gather = gather(ImportFormat::Jsonl, &export(&[CREATED, PINNED]));
    assert_eq!(claims(&gather), ["docker.io/x/y:1 a 3"]);
    let gather = self::gather(ImportFormat::Jsonl, &export(&[CREATED, PINNED, REVOKED]));
    assert!(claims(&gather).is_empty());
    assert_eq!(skipped(&gather), ["3 docker.io/x/y:1: its digest is revoked there"]);
}

#[test]
fn an_export_that_is_cut_changed_or_newer_is_refused_with_its_line() {
    let whole = export(&[CREATED, PINNED, REVOKED]);
    let cut = whole.rsplit_once("{\"sequence\":3").unwrap().0.to_owned();
    let manifest = format!("{{\"manifest\":\"{A}\",\"media-type\":\"a/b\",\"base64\":\"aGk=\"}}");
    for (text, words) in [
        (whole.replace("\"version\":1", "\"version\":2"), "use a newer one"),
        (whole.replace("immutag-ledger", "other"), "line 1 is not the header"),
        (String::new(), "the file is empty"),
        (cut.clone(), "the file ends behind event 2, of 3: it is cut off"),
        (cut[..cut.len() - 9].to_owned(), "line 3"),
        (whole.replace("\"sequence\":2", "\"sequence\":4"), "line 3: event 4 is not the next one"),
        (whole.replace("\"kind\":\"pinned\"", "\"kind\":\"created\""), "line 3: a ledger begins"),
        (whole.replace("\"kind\":\"pinned\"", "\"kind\":\"later\""), "line 3"),
        (whole.replace("\"kind\":\"pinned\"", "\"extra\":1,\"kind\":\"pinned\""), "line 3"),
        (whole.replace("\"tag\":\"1\"", "\"tag\":\"../1\""), "line 3"),
        (whole.clone() + &whole, "line 5"),
        (whole.replace(CREATED, &format!("{manifest}\n{CREATED}")), "does not hash to"),
        (whole + &format!("{manifest}\n"), "line 5"),
        ("[".repeat(100_000), "line 1"),
    ] {
        let error = format!("{:#}", read(ImportFormat::Jsonl, input(&text)).unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
    }
}

const FORMATS: [ImportFormat; 7] = [
    ImportFormat::Compose,
    ImportFormat::DockerInspect,
    ImportFormat::Dockerfile,
    ImportFormat::Jsonl,
    ImportFormat::Kubernetes,
    ImportFormat::Lock,
    ImportFormat::Tags,
];

proptest! {
    #[test]
    fn no_file_makes_a_reader_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        lines in proptest::collection::vec("(FROM |ARG |# ?)?[a-z$@:{}=\\\\ /.-]{0,40}", 0..8),
        at in any::<proptest::sample::Index>(),
    ) {
        let mut texts = vec![noise.clone(), lines.join("\n").into_bytes()];
        for sound in [PODS.to_owned(), LOCK.replace("$C", C), export(&[CREATED, PINNED, REVOKED])] {
            let mut bytes = sound.into_bytes();
            let at = at.index(bytes.len());
            bytes.splice(at..at, noise.iter().copied().take(3));
            texts.push(bytes);
        }
        for format in FORMATS {
            for text in &texts {
                let _ = read(format, Box::new(Cursor::new(text.clone())));
                let _ = look(text);
            }
        }
    }
}
