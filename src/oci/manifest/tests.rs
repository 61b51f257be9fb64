use proptest::prelude::*;

use super::fixtures::{attestation, blob, child, digest, image_json, index_json, index_of};
use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA2: &str = "application/vnd.docker.distribution.manifest.v2+json";
const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn parse(body: impl AsRef<[u8]>, content_type: &str) -> Result<Manifest, ManifestError> {
    let content_type = (!content_type.is_empty()).then(|| content_type.parse().unwrap());
    Manifest::parse(body.as_ref(), content_type.as_ref())
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, content_type: &str, reason: &str) {
    let body = body.as_ref();
    let begin = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let error = parse(body, content_type).expect_err(&begin);
    assert_eq!(error.reason(), reason, "{begin} as {content_type:?}: {error}");
    let message = error.to_string();
    assert!(message.len() < 700 && !message.contains(char::is_control), "{message:?}");
}

/// A body with these top-level fields behind `schemaVersion`.
fn body(fields: &str) -> String {
    format!(r#"{{"schemaVersion":2,{fields}}}"#)
}

fn config() -> String {
    format!(r#""config":{}"#, blob('c', "application/vnd.oci.image.config.v1+json"))
}

#[test]
fn the_canonical_accept_lists_the_four_kinds() {
    let kinds: Vec<_> = ManifestKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(CANONICAL_ACCEPT, kinds.join(", "));
}

#[test]
fn an_index_gives_its_children() {
    let json =
        index_json(&[child('1', "linux/arm64"), attestation('2'), child('3', "linux/amd64")]);
    for content_type in [INDEX, &format!("{INDEX}; charset=utf-8"), ""] {
        let index = parse(&json, content_type).unwrap();
        assert_eq!((index.kind, index.media_type.as_str()), (ManifestKind::OciIndex, INDEX));
        assert_eq!((index.children.len(), index.layers.len(), index.config), (3, 0, None));
    }
    let index = parse(&json, INDEX).unwrap();
    let amd64 = index.child("linux", "amd64").unwrap();
    assert_eq!(amd64.digest.to_string(), digest('3'));
    assert_eq!(amd64.size_bytes, 7);
    assert!(index.children[1].is_attestation && !amd64.is_attestation);
    let other = attestation('2').replace("attestation-manifest", "other");
    assert!(!index_of(&[other]).children[0].is_attestation);
    assert_eq!(index.child("linux", "s390x"), None);
    assert_eq!(index.child("unknown", "unknown"), None);
    assert!(index.names(&digest('2').parse().unwrap()));
    assert!(!index.names(&digest('4').parse().unwrap()));
    assert_eq!(index.digests().count(), 3);
}

#[test]
fn an_image_gives_config_and_layers_and_keeps_no_urls() {
    let layer = blob('1', "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        .replace("\"size\"", r#""urls":["http://169.254.169.254/x"],"size""#);
    let subject = blob('5', IMAGE);
    let json = body(&format!(
        r#""mediaType":"{IMAGE}","artifactType":"a/b","subject":{subject},{},"layers":[{layer}],"annotations":{{"Layers":"x","layers":"y"}}"#,
        config()
    ));
    let image = parse(&json, IMAGE).unwrap();
    assert_eq!(image.config.as_ref().unwrap().digest.to_string(), digest('c'));
    assert_eq!(image.artifact_type.as_deref(), Some("a/b"));
    assert_eq!(image.subject.as_ref().unwrap().digest.to_string(), digest('5'));
    let named: Vec<_> = image.digests().map(|it| it.digest.to_string()).collect();
    assert_eq!(named, [digest('c'), digest('1')]);
    assert!(!format!("{image:?}").contains("169.254"));
}

#[test]
fn the_kind_comes_from_the_body_then_from_the_content_type_then_from_the_fields() {
    let (config, image) = (config(), r#""layers":[]"#);
    for (fields, content_type, kind) in [
        (format!("{config},{image}"), IMAGE, ManifestKind::OciManifest),
        (format!("{config},{image}"), "", ManifestKind::OciManifest),
        (r#""manifests":[]"#.into(), INDEX, ManifestKind::OciIndex),
        (r#""manifests":[]"#.into(), "", ManifestKind::OciIndex),
        (format!(r#""mediaType":"{SCHEMA2}",{config},{image}"#), "", ManifestKind::DockerManifest),
        (format!(r#""mediaType":"{LIST}","manifests":null"#), LIST, ManifestKind::DockerList),
        (format!(r#""mediaType":"{IMAGE}",{config},"layers":null"#), "", ManifestKind::OciManifest),
    ] {
        assert_eq!(parse(body(&fields), content_type).map(|it| it.kind), Ok(kind), "{fields}");
    }
    for (fields, content_type, reason) in [
        (format!("{config},{image}"), SCHEMA2, "MISSING_FIELD"),
        (r#""manifests":[]"#.into(), LIST, "MISSING_FIELD"),
        (r#""annotations":{}"#.into(), "", "MISSING_FIELD"),
        (image.into(), IMAGE, "MISSING_FIELD"),
        (image.into(), "", "MISSING_FIELD"),
        (format!(r#""config":null,{image}"#), IMAGE, "MISSING_FIELD"),
        (config.clone(), IMAGE, "MISSING_FIELD"),
        (r#""annotations":{}"#.into(), INDEX, "MISSING_FIELD"),
        (format!("{config},{image}"), "application/json", "UNSUPPORTED_MEDIATYPE"),
        (r#""mediaType":"a/b""#.into(), "a/b", "UNSUPPORTED_MEDIATYPE"),
        (r#""mediaType":"a/b""#.into(), "", "UNSUPPORTED_MEDIATYPE"),
        (format!(r#""mediaType":"{INDEX}","manifests":[]"#), LIST, "MEDIATYPE_MISMATCH"),
        (format!(r#""mediaType":"{IMAGE}",{config},{image}"#), INDEX, "MEDIATYPE_MISMATCH"),
        (format!(r#""mediaType":"{INDEX};x=y","manifests":[]"#), INDEX, "MEDIATYPE_MISMATCH"),
        (r#""mediaType":"","manifests":[]"#.into(), INDEX, "MEDIATYPE_MISMATCH"),
        (format!(r#""mediaType":"{INDEX}","manifests":[]"#), "text/html", "MEDIATYPE_MISMATCH"),
    ] {
        refused(body(&fields), content_type, reason);
    }
    let shouted = body(&format!(r#""mediaType":"{}","manifests":[]"#, INDEX.to_uppercase()));
    refused(&shouted, INDEX, "MEDIATYPE_MISMATCH");
    refused(&shouted, "", "UNSUPPORTED_MEDIATYPE");
}

#[test]
fn what_reads_as_index_and_as_image_is_refused() {
    let config = config();
    for fields in [
        r#""manifests":[],"layers":[]"#.to_owned(),
        format!(r#""manifests":[],{config}"#),
        r#""manifests":null,"layers":null"#.into(),
        format!(r#""mediaType":"{INDEX}","manifests":[],"layers":[]"#),
        format!(r#""mediaType":"{IMAGE}","manifests":[],"layers":[],{config}"#),
        format!(r#""mediaType":"{INDEX}","layers":[]"#),
        format!(r#""mediaType":"{SCHEMA2}","manifests":[]"#),
    ] {
        for content_type in ["", INDEX] {
            if !(content_type == INDEX && fields.contains(SCHEMA2)) {
                refused(body(&fields), content_type, "AMBIGUOUS");
            }
        }
    }
}

#[test]
fn a_repeated_key_is_refused_at_every_level() {
    let one = child('1', "linux/amd64");
    for json in [
        r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#.to_owned(),
        body(r#""manifests":[],"manifests":[]"#),
        body(&format!(r#""mediaType":"{INDEX}","manifests":[],"mediaType":"{INDEX}""#)),
        body(r#""manifests":[],"m\u0061nifests":[]"#),
        body(r#""manifests":[],"annotations":{"a":"b","a":"b"}"#),
        body(r#""manifests":[],"x":[{"y":{"a":1,"b":2,"a":1}}]"#),
        body(r#""manifests":[],"x":1,"x":2"#),
        index_json(&[one.replace("\"size\"", "\"size\":1,\"size\"")]),
        index_json(&[one.replace("\"os\"", "\"os\":\"a\",\"os\"")]),
    ] {
        refused(json, INDEX, "DUPLICATE_KEY");
    }
    let inner =
        body(&format!(r#""manifests":[{one},{one}],"x":{{"y":1}},"y":2,"mediaType":"{INDEX}""#));
    assert!(parse(inner, INDEX).is_ok(), "one key in two objects is no repetition");
    let many = |last: usize| {
        let keys: Vec<_> = (0..100).chain([last]).map(|n| format!(r#""{n}":0"#)).collect();
        body(&format!(r#""manifests":[],"x":{{{}}}"#, keys.join(",")))
    };
    assert!(parse(many(100), INDEX).is_ok());
    for last in [0, 31, 32, 33, 99] {
        refused(many(last), INDEX, "DUPLICATE_KEY");
    }
}

#[test]
fn a_key_in_another_case_is_refused_where_clients_know_it() {
    let one = child('1', "linux/amd64");
    for key in [
        "Layers",
        "MediaType",
        "mediatype",
        "layerſ",
        "Manifests",
        "FSLayers",
        "\\u004dedia\\u0054ype",
    ] {
        refused(body(&format!(r#""manifests":[],"{key}":null"#)), INDEX, "KEY_CASE");
    }
    for (known, varied) in [
        ("size", "Size"),
        ("size", "ſize"),
        ("digest", "DIGEST"),
        ("os", "OS"),
        ("platform", "Platform"),
    ] {
        let both = format!(r#""{varied}":null,"{known}""#);
        refused(index_json(&[one.replace(&format!("\"{known}\""), &both)]), INDEX, "KEY_CASE");
    }
    let config = config().replace("\"size\"", r#""Size":1,"size""#);
    refused(body(&format!(r#"{config},"layers":[]"#)), IMAGE, "KEY_CASE");
    let lawful = r#""annotations":{"Layers":"","layers":"","SIZE":""},"x":{"Size":1},"Digest":1"#;
    assert!(parse(body(&format!(r#""manifests":[],{lawful}"#)), INDEX).is_ok());
}

#[test]
fn schema_1_is_refused_in_every_guise() {
    let plain = r#"{"schemaVersion":1,"name":"a","tag":"b","architecture":"amd64","fsLayers":[],"history":[]}"#;
    let types = [
        "",
        SIGNED,
        "application/vnd.docker.distribution.manifest.v1+json",
        "text/plain",
        "application/json",
        INDEX,
    ];
    for content_type in types {
        refused(plain, content_type, "SCHEMA1");
        refused(r#"{"schemaVersion":1}"#, content_type, "SCHEMA1");
        refused(body(r#""fsLayers":null,"manifests":[]"#), content_type, "SCHEMA1");
        refused(body(&format!(r#""mediaType":"{SIGNED}""#)), content_type, "SCHEMA1");
    }
    refused(index_json(&[]), SIGNED, "SCHEMA1");
}

#[test]
fn another_schema_version_is_refused() {
    for version in ["0", "3", "18446744073709551615"] {
        let json = format!(r#"{{"schemaVersion":{version},"manifests":[]}}"#);
        refused(json, INDEX, "SCHEMA_VERSION");
    }
    refused(r#"{"manifests":[]}"#, INDEX, "MISSING_FIELD");
    for version in ["2.0", "-2", "\"2\"", "[2]", "2e0"] {
        refused(format!(r#"{{"schemaVersion":{version},"manifests":[]}}"#), INDEX, "INVALID_FIELD");
    }
}

#[test]
fn a_descriptor_needs_digest_size_and_media_type() {
    let one = child('1', "linux/amd64");
    let (hex, good) = ("1".repeat(64), format!("\"{}\"", digest('1')));
    let bad_digests = [
        format!("\"sha256:{hex}1\""),
        format!("\"sha256:{}\"", &hex[1..]),
        format!("\"sha256:{}\"", "A".repeat(64)),
        "\"sha256:../../x\"".into(),
        format!("\"md5:{}\"", &hex[..32]),
        format!("\"blake3:{hex}\""),
        format!("\"sha256:sha256:{hex}\""),
        format!("\"sha256:{}\"", "1".repeat(1 << 20)),
        "\"\"".into(),
        "null".into(),
        "7".into(),
    ];
    for bad in bad_digests {
        refused(index_json(&[one.replace(&good, &bad)]), INDEX, "INVALID_FIELD");
    }
    for bad in ["-1", "1.5", "7.0", "1e3", "\"7\"", "null", "9223372036854775808", "-0", "[7]"] {
        let json = index_json(&[one.replace("\"size\":7", &format!("\"size\":{bad}"))]);
        refused(json, INDEX, "INVALID_FIELD");
    }
    refused(index_json(&[one.replace("\"size\":7", "\"size\":1e400")]), INDEX, "INVALID_JSON");
    refused(index_json(&[one.replace("\"size\":7", "\"size\":007")]), INDEX, "INVALID_JSON");
    for bad in ["\"\"", "\"x\"", "null", "3", "\"a b/c\""] {
        let json = index_json(&[one.replace(&format!("\"{IMAGE}\""), bad)]);
        refused(json, INDEX, "INVALID_FIELD");
    }
    for key in ["\"digest\"", "\"size\"", "\"mediaType\""] {
        refused(index_json(&[one.replace(key, "\"y\"")]), INDEX, "INVALID_FIELD");
    }
    let sha512 = format!("\"sha512:{hex}{hex}\"");
    assert!(parse(index_json(&[one.replace(&good, &sha512)]), INDEX).is_ok());
}

#[test]
fn an_array_is_never_taken_for_an_object() {
    let array = format!(r#"["{IMAGE}","{}",7,null,null]"#, digest('1'));
    refused(index_json(std::slice::from_ref(&array)), INDEX, "INVALID_FIELD");
    refused(body(&format!(r#""config":{array},"layers":[]"#)), IMAGE, "INVALID_FIELD");
    refused(body(&format!(r#""subject":{array},"manifests":[]"#)), INDEX, "INVALID_FIELD");
    let one = child('1', "linux/amd64");
    let annotated = one.replace("\"size\"", r#""annotations":["attestation-manifest"],"size""#);
    refused(index_json(&[annotated]), INDEX, "INVALID_FIELD");
    let platform = one.find("{\"os\"").unwrap();
    let json = index_json(&[format!("{}[\"amd64\",\"linux\"]}}", &one[..platform])]);
    refused(json, INDEX, "INVALID_FIELD");
    for value in ["7", "\"x\"", "true", "[null]", "[7]", "{}"] {
        refused(body(&format!(r#""manifests":{value}"#)), INDEX, "INVALID_FIELD");
    }
}

#[test]
fn what_is_not_one_json_text_is_refused() {
    let json = index_json(&[child('1', "linux/amd64")]);
    let utf16: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let nested = |n: usize| body(&format!(r#""x":{}{}"#, "[".repeat(n), "]".repeat(n)));
    let table: Vec<Vec<u8>> = vec![
        format!("\u{feff}{json}").into(),
        format!("{json}x").into(),
        format!("{json}{json}").into(),
        format!("{json}\0").into(),
        format!("\0{json}").into(),
        json[..json.len() - 1].into(),
        utf16,
        b"{\"schemaVersion\":2,\"x\":\"\xff\"}".into(),
        b"{\"schemaVersion\":2,\"\xc0\xaf\":1}".into(),
        body(r#""x":"\ud800""#).into(),
        body(r#""\udc00":1"#).into(),
        body(r#""x":1e400"#).into(),
        body(r#""x":NaN"#).into(),
        body(r#""x":01"#).into(),
        body("\"x\":\"a\nb\"").into(),
        body("\"x\":\"a\0b\"").into(),
        body(r#""x":[1,]"#).into(),
        body(r#""x":1,"#).into(),
        body("/* */\"x\":1").into(),
        nested(100_000).into(),
        body(&r#""x":{"#.repeat(100_000)).into(),
        "[".repeat(100_000).into(),
        " ".into(),
        "<html>".into(),
        "{'a':1}".into(),
        "7".into(),
        "null".into(),
        r#"[2,"a/b"]"#.into(),
        format!("[{json}]").into(),
    ];
    for json in table {
        refused(json, INDEX, "INVALID_JSON");
    }
    refused("", INDEX, "EMPTY");
    assert!(parse(format!("\r\n\t {json}\n "), INDEX).is_ok());
    assert!(
        parse(body(r#""manifests":[],"x":[[[{"y":[-1,2.5,true,null,"z\n"]}]]]"#), INDEX).is_ok()
    );
}

#[test]
fn the_limits_are_exact() {
    let json = index_json(&[]);
    let pad = |size: usize| format!("{json}{}", " ".repeat(size - json.len()));
    assert!(parse(pad(MANIFEST_LIMIT), INDEX).is_ok());
    refused(pad(MANIFEST_LIMIT + 1), INDEX, "TOO_LARGE");
    let children = vec![child('1', "linux/amd64"); ENTRY_LIMIT + 1];
    assert_eq!(index_of(&children[1..]).children.len(), ENTRY_LIMIT);
    refused(index_json(&children), INDEX, "TOO_MANY_ENTRIES");
    let layers = vec![blob('1', "a/b"); ENTRY_LIMIT + 1].join(",");
    refused(body(&format!(r#"{},"layers":[{layers}]"#, config())), IMAGE, "TOO_MANY_ENTRIES");
}

#[test]
fn hostile_bodies_are_refused_for_what_they_are() {
    let elements = |item: &str, n: usize| vec![item; n].join(",");
    let keys: Vec<_> = (0..300_000).map(|n| format!(r#""{n}":0"#)).collect();
    for (json, reason) in [
        (body(&format!(r#""layers":[{}]"#, elements("0", 1_000_000))), "TOO_MANY_ENTRIES"),
        (body(&format!(r#""x":[{}]"#, elements("0", 1_000_000))), "MISSING_FIELD"),
        (body(&format!(r#""x":[{}]"#, elements("{}", 1_000_000))), "MISSING_FIELD"),
        (body(&format!(r#""x":{{{}}}"#, keys.join(","))), "TOO_MANY_ENTRIES"),
        (body(&format!(r#""x":{}"#, "9".repeat(4_000_000))), "INVALID_JSON"),
        (body(&format!(r#""x":0.{}"#, "9".repeat(4_000_000))), "MISSING_FIELD"),
        (body(&format!(r#""{}":0"#, "\\u0041".repeat(600_000))), "MISSING_FIELD"),
        (body(&format!(r#""mediaType":"{}""#, "é".repeat(2_000_000))), "MEDIATYPE_MISMATCH"),
        (body(&format!(r#""schemaVersion{}":0"#, "\u{1b}".repeat(9))), "INVALID_JSON"),
    ] {
        refused(&json, INDEX, reason);
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>, text in r#"[{}\[\]:,"a-z0-9.-]{0,60}"#) {
        let _ = parse(bytes, "");
        let _ = parse(text, INDEX);
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_reads_as_serde_json_reads_it(
        at in 0usize..400, byte: u8, cut in 0usize..4,
    ) {
        let json = if cut % 2 == 0 { index_json(&[child('1', "linux/amd64"), attestation('2')]) } else { image_json() };
        let mut bytes = json.into_bytes();
        let at = at % bytes.len();
        bytes.splice(at..at + cut / 2, [byte]);
        if let Ok(manifest) = parse(&bytes, "") {
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let list = if manifest.kind.is_index() { "manifests" } else { "layers" };
            let listed = manifest.children.len() + manifest.layers.len();
            prop_assert_eq!(value[list].as_array().map(Vec::len), Some(listed));
            prop_assert_eq!(&value["schemaVersion"], 2);
        }
    }
}

#[test]
fn an_image_that_stands_in_an_index_as_an_attestation_bears_nothing_out() {
    let index = index_of(&[child('a', "linux/amd64"), attestation('b')]);
    let parsed = |digit| digest(digit).parse().unwrap();
    assert!(index.bears_out(&parsed('a')) && index.names(&parsed('b')));
    assert!(!index.bears_out(&parsed('b')) && !index.bears_out(&parsed('c')));
}
