//! Files as they are written, and as they must not be.

use proptest::prelude::*;

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The images as `line:column reference`, what is skipped as `line what: why`. What a place points
/// at is the reference.
fn told(text: &str, found: &Found) -> Vec<String> {
    let mentions = found.mentions.iter().map(|mention| {
        let Mention { reference: name, line, column, platform, is_immutable, span, .. } = mention;
        if let Some(span) = span {
            assert_eq!(&reference(&text[span.clone()]).unwrap().0, name);
            assert_eq!(Lines::of(text).place(span.start), (*line, *column));
        }
        let platform = platform.as_ref().map_or(String::new(), |it| format!(" for {it}"));
        let immutable = if *is_immutable { " immutable" } else { "" };
        let unplaced = if span.is_none() { " unplaced" } else { "" };
        format!("{line}:{column} {name}{platform}{immutable}{unplaced}")
    });
    let skipped = found.skipped.iter().map(|it| format!("{} {}: {}", it.line, it.what, it.why));
    mentions.chain(skipped).collect()
}

#[test]
fn a_compose_project_names_images_contexts_and_volumes_and_what_it_builds() {
    let text = r#"{
  "name": "p",
  "x-image": {"image": "x/no:1"},
  "services": {
    "app": {"build": {"context": ".", "additional_contexts": {
        "base": "docker-image://alpine:3.19", "local": "../y"}}, "image": "acme/app:1"},
    "db": {"image": "postgres:16?immutable=1", "platform": "linux/arm64", "environment": {
        "image": "x/no:2"}, "volumes": [
          {"type": "volume", "source": "data", "target": "/d"},
          {"source": "acme/data:1", "type": "image", "target": "/i"}]},
    "job": {"build": {"context": ".", "additional_contexts": ["b=docker-image://busybox"]}},
    "ü": {"image": "gh\u0063r.io/acme/web:2"},
    "empty": {"command": null}
  }
}"#;
    let found = compose::read(text).unwrap();
    assert_eq!(
        told(text, &found),
        [
            "6:33 docker.io/library/alpine:3.19",
            "7:22 docker.io/library/postgres:16 for linux/arm64 immutable",
            "10:23 docker.io/acme/data:1",
            "11:81 docker.io/library/busybox:latest",
            "12:21 ghcr.io/acme/web:2 unplaced",
            "5 app: the service is built: its image is what it is called then",
            "11 job: the service names no image: it is built",
            "13 empty: the service names no image",
        ]
    );
}

#[test]
fn a_column_is_the_same_from_wherever_it_is_counted() {
    let text = "\u{feff}aé\n\u{2028}bcd\r\ne";
    let lines = Lines::of(text);
    let places = [(3, (1, 1)), (4, (1, 2)), (6, (1, 3)), (7, (2, 1)), (10, (2, 2)), (15, (3, 1))];
    for (at, place) in places.iter().chain(places.iter().rev()) {
        assert_eq!(lines.place(*at), *place, "{at}");
        assert_eq!(Lines::of(text).place(*at), *place, "{at}");
    }
}

#[test]
fn whatever_has_containers_is_read_whichever_kind_it_is() {
    let pod = |spec: &str| format!(r#"{{"template":{{"spec":{spec}}}}}"#);
    let job = pod(r#"{"initContainers":[{"name":"i","image":"a/init:1"}],"containers":[]}"#);
    let text = [
        r#"{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod","spec":{"containers":["#,
        r#"{"name":"c","image":"nginx:1.25","env":[{"name":"image","value":"x/no:1"}]}],"#,
        r#""volumes":[{"name":"v","image":{"reference":"a/data:1","pullPolicy":"Always"}}],"#,
        r#""ephemeralContainers":[{"image":"busybox"}]},"status":{"containerStatuses":["#,
        r#"{"image":"x/no:2"}]}}]}"#,
        &format!(r#"{{"kind":"CronJob","spec":{{"jobTemplate":{{"spec":{job}}}}}}}"#),
        r#"{"kind":"Deployment","spec":{"template":{"spec":{"containers":[{"image":""},"#,
        r#"{"image":"Not/One"},{"image":3},{"Image":"a/go:1"}]}}}}"#,
    ]
    .join("\n");
    let found = kubernetes::read(&text).unwrap();
    assert_eq!(
        told(&text, &found),
        [
            "2:22 docker.io/library/nginx:1.25",
            "3:46 docker.io/a/data:1",
            "4:34 docker.io/library/busybox:latest",
            "6:109 docker.io/a/init:1",
            "8:43 docker.io/a/go:1",
            "7 : it is no reference",
            "8 Not/One: it is no reference",
        ]
    );
}

#[test]
fn references_stand_one_a_line_with_comments() {
    let text = format!(
        "\u{feff}alpine\n# a comment\n\n  ghcr.io/a/b:1?immutable=1  # why\r\nx/y:2@{A}\n\
         x y\n{}\n",
        "a".repeat(5_000)
    );
    let found = references::read(&text);
    assert_eq!(
        told(&text, &found),
        [
            "1:1 docker.io/library/alpine:latest".to_owned(),
            "4:3 ghcr.io/a/b:1 immutable".to_owned(),
            format!("5:1 docker.io/x/y:2@{A}"),
            "6 x y: it is no reference".to_owned(),
            format!("7 {}: the line is too long to be a reference", "a".repeat(120)),
        ]
    );
}

#[test]
fn a_file_is_read_as_what_it_is() {
    for (text, expected) in [
        ("# syntax=x/y:1\nARG A\nfrom $A", SourceKind::Dockerfile),
        ("alpine:3.19\n", SourceKind::References),
        ("{\"services\":{}}", SourceKind::Compose),
        ("\n {\"items\":[]}", SourceKind::Kubernetes),
        ("[{\"apiVersion\":\"v1\"}]", SourceKind::Kubernetes),
    ] {
        assert_eq!(read(text).unwrap().0, expected, "{text}");
    }
    assert!(matches!(read("{\"x\":1}"), Err(SourceError::Unknown)));
    for yaml in ["services:\n  web:\n    image: nginx:1\n", "# a\napiVersion: v1\n", "- image: a:1"]
    {
        assert!(matches!(read(yaml), Err(SourceError::Yaml)), "{yaml}");
    }
    for list in ["alpine:3.19\n", "localhost:5000/a/b:1 # base: x\n", "# kind: list\nalpine\n"] {
        assert_eq!(read(list).unwrap().0, SourceKind::References, "{list}");
    }
}

#[test]
fn what_is_no_sound_json_is_refused_with_its_line() {
    let deep = format!("{{\"items\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, words) in [
        ("{\"items\":[}", "line 1 column"),
        ("{\"items\":[]}\n{", "line 2 column"),
        (&deep, "nested too deep"),
        ("{\"items\":[{\"spec\":{\"containers\":[{\"image\":\"\\ud800\"}]}}]}", "line 1 column"),
    ] {
        let error = kubernetes::read(text).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = compose::read("{\"a\":{\"services\":{}}}").unwrap_err().to_string();
    assert!(error.contains("it has no services"), "{error}");
}

proptest! {
    #[test]
    fn no_json_makes_a_reader_panic(
        noise in "\\PC{0,60}",
        image in "[a-z/:@?=\\\\\"ü]{0,20}",
    ) {
        let written = serde_json::to_string(&image).unwrap();
        let pods = format!("{{\"spec\":{{\"containers\":[{{\"image\":{written}}}]}}}}");
        let project = format!("{{\"services\":{{\"a\":{{\"image\":{written}}}}}}}");
        let is_one = reference(&image).is_ok();
        prop_assert_eq!(kubernetes::read(&pods).unwrap().mentions.len(), usize::from(is_one));
        prop_assert_eq!(compose::read(&project).unwrap().mentions.len(), usize::from(is_one));
        for text in [noise.clone(), format!("{pods}{noise}"), image] {
            let _ = (kubernetes::read(&text), compose::read(&text), read(&text));
            told(&text, &references::read(&text));
        }
    }
}
