use crate::oci::manifest::fixtures::{attestation, child, image, index_json, index_of};
use crate::oci::manifest::{Manifest, ManifestKind};

const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn arm() -> String {
    child('1', "linux/arm64")
}

fn amd() -> String {
    child('2', "linux/amd64")
}

fn pinned() -> Manifest {
    index_of(&[arm(), amd(), attestation('3')])
}

/// `pinned` with `added` in front, then at the end.
fn with(added: &str) -> [Manifest; 2] {
    let old = [arm(), amd(), attestation('3')];
    let added = [added.to_owned()];
    [index_of(&[&added[..], &old].concat()), index_of(&[&old[..], &added].concat())]
}

#[test]
fn new_platforms_and_attestations_extend() {
    assert!(pinned().extends(&pinned()));
    for added in [
        child('4', "linux/s390x"),
        child('4', "windows/amd64"),
        child('4', "linux/arm"),
        attestation('4'),
        format!("{},{}", child('4', "linux/s390x"), attestation('5')),
        [("4", "v6"), ("5", "v7")]
            .map(|(digit, variant)| {
                child(digit.chars().next().unwrap(), "linux/arm")
                    .replace("\"os\"", &format!("\"variant\":\"{variant}\",\"os\""))
            })
            .join(","),
    ] {
        assert!(with(&added).iter().all(|observed| observed.extends(&pinned())), "{added}");
    }
}

#[test]
fn an_addition_that_some_client_of_the_pinned_index_could_take_does_not_extend() {
    let mark = r#""annotations":{"vnd.docker.reference.type":"attestation-manifest"},"size""#;
    let s390x = child('4', "linux/s390x");
    let oci = ManifestKind::OciManifest.as_str();
    for added in [
        // A second child for a platform, in any spelling or variant.
        child('4', "linux/amd64"),
        child('4', "linux/AMD64"),
        child('4', "Linux/amd64"),
        child('4', "linux/x86_64"),
        child('4', "linux/x86-64"),
        child('4', "linux/aarch64"),
        child('4', "linux/amd64").replace("\"os\"", "\"variant\":\"v3\",\"os\""),
        child('4', "linux/amd64").replace("\"os\"", "\"os.version\":\"9\",\"os\""),
        // A new one, but spelled so that clients differ about it.
        child('4', "linux/S390X"),
        child('4', "linux/i386"),
        child('4', "macos/arm64"),
        child('4', "linux/s390x "),
        // For nobody, or for anybody.
        child('4', "unknown/unknown"),
        child('4', "unknown/amd64").replace("unknown", ""),
        child('4', "unknown/s390x"),
        child('4', "linux/"),
        s390x[..s390x.find(",\"platform\"").unwrap()].to_owned() + "}",
        s390x[..s390x.find(",\"platform\"").unwrap()].replace("\"size\"", mark) + "}",
        // An attestation that also is some platform's image.
        child('4', "linux/amd64").replace("\"size\"", mark),
        s390x.replace("\"size\"", mark),
        // No image.
        s390x.replace(oci, ManifestKind::OciIndex.as_str()),
        s390x.replace(oci, "application/vnd.example+json"),
        // One good, one bad.
        format!("{s390x},{}", child('5', "linux/amd64")),
    ] {
        assert!(with(&added).iter().all(|observed| !observed.extends(&pinned())), "{added}");
    }
}

#[test]
fn what_was_pinned_must_stay_as_it_was() {
    let new = child('4', "linux/s390x");
    let [arm, amd, proof] = [arm(), amd(), attestation('3')];
    for children in [
        vec![amd.clone(), arm.clone(), proof.clone(), new.clone()],
        vec![arm.clone(), proof.clone(), new.clone()],
        vec![arm.clone(), amd.clone(), new.clone()],
        vec![arm.clone(), child('5', "linux/amd64"), proof.clone(), new.clone()],
        vec![arm.replace("arm64", "amd64"), amd.replace("amd64", "arm64"), proof.clone()],
        vec![arm.clone(), amd.replace(":7", ":8"), proof.clone(), new.clone()],
        vec![arm.clone(), amd.clone(), amd.clone(), proof.clone(), new.clone()],
        vec![arm.replace("\"os\"", "\"variant\":\"v9\",\"os\""), amd, proof, new],
        vec![],
    ] {
        assert!(!index_of(&children).extends(&pinned()), "{children:?}");
    }
}

#[test]
fn windows_versions_may_not_be_swapped() {
    let windows = |digit, version| {
        let version = format!("\"os.version\":\"{version}\",\"os\"");
        child(digit, "windows/amd64").replace("\"os\"", &version)
    };
    let pinned = index_of(&[windows('1', "10.0.1"), windows('2', "10.0.2")]);
    assert!(!index_of(&[windows('1', "10.0.2"), windows('2', "10.0.1")]).extends(&pinned));
    let grown = [windows('1', "10.0.1"), windows('2', "10.0.2"), child('3', "linux/amd64")];
    assert!(index_of(&grown).extends(&pinned));
}

#[test]
fn a_pinned_alias_takes_the_platform_that_it_stands_for() {
    for (alias, name) in [
        ("linux/x86_64", "linux/amd64"),
        ("linux/X86-64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/armhf", "linux/arm"),
        ("linux/i386", "linux/386"),
        ("macOS/arm64", "darwin/arm64"),
        ("LINUX/amd64", "linux/amd64"),
    ] {
        let pinned = index_of(&[child('1', alias)]);
        assert!(!index_of(&[child('2', name), child('1', alias)]).extends(&pinned), "{alias}");
        assert!(index_of(&[child('2', "linux/s390x"), child('1', alias)]).extends(&pinned));
    }
}

#[test]
fn a_child_without_a_platform_may_be_everybodys() {
    let bare = amd()[..amd().find(",\"platform\"").unwrap()].to_owned() + "}";
    let pinned = index_of(std::slice::from_ref(&bare));
    assert!(!index_of(&[bare.clone(), child('4', "linux/s390x")]).extends(&pinned));
    assert!(index_of(&[bare, attestation('4')]).extends(&pinned));
}

#[test]
fn only_an_index_of_the_same_type_extends_an_index() {
    let grown = [arm(), amd(), attestation('3'), child('4', "linux/s390x")];
    let list = index_json(&grown).replace(ManifestKind::OciIndex.as_str(), LIST);
    let list = Manifest::parse(list.as_bytes(), None).unwrap();
    assert!(!list.extends(&pinned()));
    assert!(!pinned().extends(&image()) && !image().extends(&pinned()));
    assert!(!image().extends(&image()));
    let subject = format!(r#"{{"subject":{},"#, amd());
    for head in [r#"{"artifactType":"a/b","#, &subject] {
        let changed = index_json(&grown).replacen('{', head, 1);
        assert!(!Manifest::parse(changed.as_bytes(), None).unwrap().extends(&pinned()), "{head}");
    }
}

#[test]
fn a_platform_that_clients_prefer_to_a_pinned_one_does_not_extend() {
    for (pinned, preferred) in [
        ("linux/386", "linux/amd64"),
        ("linux/i386", "linux/amd64"),
        ("linux/arm", "linux/arm64"),
        ("windows/amd64", "windows/arm64"),
        ("linux/arm64", "darwin/arm64"),
        ("linux/arm", "darwin/arm64"),
        ("linux/amd64", "freebsd/amd64"),
    ] {
        let pinned = child('1', pinned);
        let grown = index_of(&[pinned.clone(), child('2', preferred)]);
        assert!(!grown.extends(&index_of(&[pinned])), "{preferred}");
    }
    for (pinned, other) in [
        ("linux/amd64", "linux/386"),
        ("linux/arm64", "linux/arm"),
        ("windows/386", "linux/amd64"),
        ("linux/amd64", "windows/amd64"),
        ("linux/amd64", "darwin/arm64"),
    ] {
        let pinned = child('1', pinned);
        let grown = index_of(&[pinned.clone(), child('2', other)]);
        assert!(grown.extends(&index_of(&[pinned])), "{other}");
    }
}
