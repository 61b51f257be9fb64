use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn what_people_type_is_understood_as_docker_does() {
    let pinned = format!("ghcr.io/o/r:1.2.3@sha256:{HEX}");
    let by_digest = format!("alpine@sha256:{HEX}");
    let full_digest = format!("docker.io/library/alpine@sha256:{HEX}");
    for (text, canonical) in [
        ("alpine", "docker.io/library/alpine"),
        ("alpine:3.19", "docker.io/library/alpine:3.19"),
        ("library/alpine", "docker.io/library/alpine"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("Index.Docker.io/alpine", "docker.io/library/alpine"),
        ("registry-1.docker.io:443/library/alpine", "docker.io/library/alpine"),
        ("o/r", "docker.io/o/r"),
        ("a/b/c:1", "docker.io/a/b/c:1"),
        ("localhost/x", "localhost/x"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("host:443/x", "host:443/x"),
        ("ghcr.io:443/o/r", "ghcr.io/o/r"),
        ("[::1]:5000/x", "[::1]:5000/x"),
        ("[::1]/x:y", "[::1]/x:y"),
        (&pinned, &pinned),
        (&by_digest, &full_digest),
    ] {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Reference>().as_ref(), Ok(&reference), "{text}");
    }
}

#[test]
fn without_tag_and_digest_the_tag_is_latest() {
    let plain: Reference = "alpine".parse().unwrap();
    assert_eq!((plain.tag.clone(), plain.tag_or_latest().as_str()), (None, "latest"));
    assert_eq!(plain.manifest_reference().to_string(), "latest");
    let tagged: Reference = "alpine:3".parse().unwrap();
    assert_eq!(tagged.manifest_reference().to_string(), "3");
    let both: Reference = format!("alpine:3@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.manifest_reference().to_string(), format!("sha256:{HEX}"));
}

#[test]
fn what_is_no_reference_says_which_part_is_wrong() {
    use ReferenceError::{SpoilsDigest, SpoilsRegistry, SpoilsRepository, SpoilsTag};
    let registry = SpoilsRegistry(NameError::SpoilsRegistry);
    let repository = SpoilsRepository(NameError::SpoilsRepository);
    let tag = SpoilsTag(NameError::SpoilsTag);
    let long = "a".repeat(64 << 10);
    let huge_digest = format!("a@sha256:{}", "a".repeat(1 << 20));
    for (text, error) in [
        ("", repository),
        ("Alpine", repository),
        ("a//b", repository),
        ("a/../b", repository),
        ("/a", repository),
        ("a\0b", repository),
        ("a\nb", repository),
        ("\u{1b}[31ma", repository),
        ("[::1]:5000", repository),
        ("ghcr.io/", repository),
        ("Host/x", repository),
        (&long, repository),
        ("ghcr.io./x", registry),
        ("../x", registry),
        ("a:b:c/x", registry),
        ("[::1/x", registry),
        ("a:0/x", registry),
        ("user:pw/x", registry),
        ("https://ghcr.io/o/r", registry),
        ("a:", tag),
        ("a:b:c", tag),
        ("a:b/c", registry),
        ("ghcr.io/a:b/c", tag),
        ("a:.x", tag),
        ("a@", SpoilsDigest(DigestError::MissesAlgorithm)),
        ("a@md5:00", SpoilsDigest(DigestError::NamesUnknownAlgorithm)),
        ("a@sha256:../../x", SpoilsDigest(DigestError::SpoilsHex)),
        (&huge_digest, SpoilsDigest(DigestError::SpoilsHex)),
    ] {
        let shown = text.get(..80).unwrap_or(text);
        assert_eq!(text.parse::<Reference>(), Err(error), "{shown:?}");
        assert!(error.to_string().len() < 200, "{error}");
    }
}

#[test]
fn a_manifest_reference_with_a_colon_is_meant_as_a_digest() {
    type Parsed = Result<ManifestReference, ReferenceError>;
    let digest = format!("sha256:{HEX}");
    assert_eq!(digest.parse(), Ok(ManifestReference::Digest(digest.parse().unwrap())));
    assert_eq!("3.19".parse(), Ok(ManifestReference::Tag("3.19".parse().unwrap())));
    let bad: Parsed = "sha256:abc".parse();
    assert_eq!(bad, Err(ReferenceError::SpoilsDigest(DigestError::SpoilsHex)));
    let bad: Parsed = "blake3:abc".parse();
    assert_eq!(bad, Err(ReferenceError::SpoilsDigest(DigestError::NamesUnknownAlgorithm)));
    for text in ["", "a b", "..", "a/b", "a\0"] {
        let bad: Parsed = text.parse();
        assert_eq!(bad, Err(ReferenceError::SpoilsTag(NameError::SpoilsTag)), "{text:?}");
    }
}

proptest! {
    #[test]
    fn printing_gives_back_what_was_parsed(
        registry in r"([a-zA-Z0-9.]{1,8}(:[0-9]{1,5})?/|localhost/|\[::[0-9a-f]{1,3}\](:5000)?/)?",
        path in "[a-z0-9._-]{1,6}(/[a-z0-9]{1,4}){0,3}",
        tag in "(:[A-Za-z0-9_.-]{1,9})?",
        digest in prop_oneof![Just(String::new()), Just(format!("@sha256:{HEX}"))],
    ) {
        let text = format!("{registry}{path}{tag}{digest}");
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
        }
        if let Ok(reference) = tag.trim_start_matches(':').parse::<ManifestReference>() {
            prop_assert_eq!(reference.to_string().parse::<ManifestReference>(), Ok(reference));
        }
    }

    #[test]
    fn parsing_never_panics(text in ".*", near in r"[a-z/:@.\[\]0-9]{0,40}") {
        for text in [text, near] {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
            let _ = text.parse::<ManifestReference>();
        }
    }
}
