use super::*;

const TEXT: &str = r#"{
  "version": 1,
  "sources": ["Dockerfile", "deploy/app.json"],
  "images": {
    "docker.io/library/alpine:3.19": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000001"},
    "ghcr.io/acme/tool:1.2.3": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000002", "immutable": true},
    "quay.io/acme/base@sha256:0000000000000000000000000000000000000000000000000000000000000003": {"digest": "sha256:0000000000000000000000000000000000000000000000000000000000000003"}
  }
}
"#;

#[test]
fn what_is_written_is_read_back_and_written_the_same() {
    let lock = LockFile::parse(TEXT.as_bytes()).unwrap();
    assert_eq!(lock.images.len(), 3);
    assert_eq!(lock.sources, ["Dockerfile", "deploy/app.json"]);
    let tool = lock.images[&"ghcr.io/acme/tool:1.2.3".parse().unwrap()];
    assert!(tool.is_immutable && tool.digest.to_string().ends_with('2'));
    assert_eq!(lock.to_string(), TEXT);
    let empty = LockFile::default();
    assert_eq!(LockFile::parse(empty.to_string().as_bytes()).unwrap(), empty);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_with_its_line() {
    let alpine = "\"docker.io/library/alpine:3.19\"";
    let zero = "sha256:0000000000000000000000000000000000000000000000000000000000000001";
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let three = format!("sha256:{}3", "0".repeat(63));
    for (from, to, words) in [
        (
            alpine,
            "\"alpine:3.19\"",
            "not in its full form: write \"docker.io/library/alpine:3.19\"",
        ),
        (alpine, "\"docker.io/library/alpine\"", "must name a tag or a digest"),
        (alpine, "\"docker.io/library/ALPINE:3\"", "is no reference"),
        (alpine, "\"docker.io/library/al\\u001b[2Jpine:3\"", "\\u{1b}[2J"),
        ("ghcr.io/acme/tool:1.2.3", "docker.io/library/alpine:3.19", "twice"),
        (zero, &sha512, "must stand for a SHA-256 digest"),
        (zero, "sha256:1", "line 5"),
        (&format!("base@{three}"), &format!("base@{zero}"), "cannot stand for"),
        ("\"immutable\": true", "\"immutable\": 1", "line 6"),
        ("\"immutable\"", "\"imutable\"", "imutable"),
        ("\"sources\": [\"Dockerfile\"", "\"sources\": [\"\"", "sources are"),
        ("\"version\": 1", "\"version\": 0", "no version 0"),
        ("\"version\": 1", "\"versions\": 1", "version"),
        ("\"version\": 1", "\"version\": 1, \"version\": 1", "duplicate"),
        ("\n}\n", "\n", "EOF"),
        ("\n}\n", "\n}\n{}", "trailing"),
    ] {
        let text = TEXT.replacen(from, to, 1);
        assert_ne!(text, TEXT, "{from}");
        let error = LockFile::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{from} -> {to}: {error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn a_newer_one_is_said_to_be_newer_whatever_else_is_in_it() {
    let error = LockFile::parse(b"{\"version\": 2, \"images\": [], \"more\": {}}").unwrap_err();
    assert!(matches!(error, LockError::Newer(2)), "{error}");
    assert!(error.to_string().contains("use a newer immutag"), "{error}");
}

#[test]
fn it_has_bounds() {
    let large = vec![b' '; LOCK_BYTES + 1];
    assert!(matches!(LockFile::parse(&large), Err(LockError::TooLarge)));
    let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000001".parse();
    let locked = Locked { digest: digest.unwrap(), is_immutable: false };
    let images = (0..=LOCK_ENTRIES)
        .map(|number| (format!("docker.io/library/a:{number}").parse().unwrap(), locked));
    let lock = LockFile { sources: Vec::new(), images: images.collect() };
    let error = LockFile::parse(lock.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 20000 references"), "{error}");
}

#[test]
fn what_is_wrong_is_told_in_one_line_whatever_stands_there() {
    let text = b"{\"version\": 1, \"images\": {}, \"\\n::error::x\\u001b\": 1}";
    let error = LockFile::parse(text).unwrap_err().to_string();
    assert!(!error.contains(['\n', '\u{1b}']), "{error}");
}
