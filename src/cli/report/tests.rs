use super::*;
use crate::journal::Outcome;
use crate::oci::{Digest, Reference};
use crate::report::{Came, Conflict, Counts, Requests, Status};
use crate::triage::Severity;

/// What somebody could write into a label to do something to those who read a report.
const HOSTILE: &str = "looks high (a hint): \u{1b}[2J\u{202e}\r\n::set-output name=x::y ::error::z \
                       ##[add-mask]x ##vso[task.x] ]]> </script><img src=x onerror=alert(1)> | a \
                       `b` ``` @octocat #1 [click](javascript:x) &amp; <!-- {0} %0A --> \u{fffe}";

const DOCKERFILE: &str = "# syntax\nFROM alpine:3.19 AS build\n\nFROM ghcr.io/acme/tool:1.2.3\n\
                          COPY --from=alpine:3.19 /a /b\nCOPY --from=quay.io/acme/other:1 /a /c\n";

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn row(name: &str, status: Status, number: u32) -> Row {
    let came = Came { outcome: Outcome::Pinned, reason: None, count: 3 };
    Row {
        reference: reference(name),
        status,
        digests: vec![digest(number)],
        locked: Some(digest(number)),
        is_new: false,
        requests: Requests { get: 1, head: 2, by_digest: 4 },
        clients: 2,
        outcomes: vec![came],
        rule: "lock file".to_owned(),
        conflict: None,
    }
}

fn unasked(row: Row) -> Row {
    let requests = Requests::default();
    Row { digests: Vec::new(), outcomes: Vec::new(), requests, clients: 0, ..row }
}

fn unused(name: &str) -> Row {
    unasked(row(name, Status::Unused, 1))
}

fn refused(name: &str, reason: &str) -> Row {
    let came = Came { outcome: Outcome::Refused, reason: Some(reason.to_owned()), count: 1 };
    let (digests, locked, rule) = (Vec::new(), None, "built-in record".to_owned());
    Row { digests, locked, rule, outcomes: vec![came], ..row(name, Status::Refused, 0) }
}

fn conflict(hint: &str) -> Conflict {
    Conflict {
        pinned: Some(digest(1)),
        observed: digest(2),
        since_ms: 1_776_849_180_000,
        is_open: true,
        severity: Some(Severity::High),
        hint: hint.to_owned(),
    }
}

fn report(rows: Vec<Row>) -> Report {
    let head = Head {
        version: 1,
        since_ms: 1_776_849_000_000,
        until_ms: 1_776_849_300_000,
        lock: Some("/project/images.lock".into()),
        is_locked: true,
        entries: 3,
        ledger: "0123456789abcdef0123456789abcdef".to_owned(),
        gaps: Vec::new(),
        counts: Counts::of(&rows),
    };
    Report { head, rows }
}

/// One of each status, in a project with a Dockerfile; `hint` is what an image says of itself.
fn page(hint: &str) -> (tempfile::TempDir, Page) {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("images.lock");
    std::fs::write(folder.path().join("Dockerfile"), DOCKERFILE).unwrap();
    let images =
        ["docker.io/library/alpine:3.19", "ghcr.io/acme/tool:1.2.3", "quay.io/acme/late:1"];
    let locked = |name: &&str| {
        let locked = crate::lockfile::Locked { digest: digest(1), is_immutable: false };
        (reference(name), locked)
    };
    let file = crate::lockfile::LockFile {
        sources: vec!["Dockerfile".to_owned(), "gone/Dockerfile".to_owned()],
        images: images.iter().map(locked).collect(),
    };
    std::fs::write(&lock, file.to_string()).unwrap();
    let moved = |name| Row { conflict: Some(conflict(hint)), ..row(name, Status::Conflict, 1) };
    let late = unasked(moved("quay.io/acme/late:1"));
    let unlocked = |name, status| Row { locked: None, ..row(name, status, 5) };
    let rows = vec![
        moved("docker.io/library/alpine:3.19"),
        late,
        refused("quay.io/acme/denied:1", "DIGEST_REVOKED"),
        refused("quay.io/acme/other:1", "PIN_REQUIRED"),
        unlocked("docker.io/library/busybox:1", Status::Unlocked),
        unlocked("docker.io/library/new:1", Status::New),
        unused("quay.io/acme/unused:1"),
        row("ghcr.io/acme/tool:1.2.3", Status::Ok, 3),
    ];
    let places = Places::read(Some(&lock), &[], folder.path());
    (folder, Page { report: report(rows), places })
}

fn rendered(page: &Page) -> Vec<(&'static str, String)> {
    let forms = Form::value_variants().iter().map(|form| {
        let name = match form {
            Form::Github => "github",
            Form::Gitlab => "gitlab",
            Form::Json => "json",
            Form::Junit => "junit",
            Form::Markdown => "markdown",
            Form::Sarif => "sarif",
        };
        (name, render(page, *form).unwrap())
    });
    forms.collect()
}

/// tests/it/report.rs holds these against the published schemas.
#[test]
fn every_form_of_one_report() {
    let (_folder, page) = page(HOSTILE);
    for (name, text) in rendered(&page) {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn what_an_image_says_commands_nobody_in_any_form() {
    let (_folder, page) = page(HOSTILE);
    for (name, text) in rendered(&page) {
        for line in text.lines() {
            let is_ours = name == "github" && line.starts_with("::error file=")
                || line.starts_with("::notice file=");
            assert!(is_ours || !line.trim_start().starts_with("::"), "{name}: {line}");
            assert!(!line.contains("##[") && !line.contains("##vso"), "{name}: {line}");
            assert!(!line.contains(crate::printable::is_unprintable), "{name}: {line:?}");
        }
    }
    let forms = rendered(&page);
    let text = |name| &forms.iter().find(|form| form.0 == name).unwrap().1;
    let junit = text("junit");
    assert!(!junit.contains("]]>") && !junit.contains("<script") && !junit.contains("<img"));
    let markdown = text("markdown");
    let spans = markdown.lines().find(|line| line.contains("@octocat")).expect("the hint");
    // All of it is in one code span: two backticks, and it is between them.
    assert_eq!(spans.matches('`').count(), 2, "{spans}");
    let (before, rest) = spans.split_once('`').unwrap();
    assert!(!before.contains('@') && rest.ends_with('`'), "{spans}");
    let sarif: serde_json::Value = text("sarif").parse().unwrap();
    let message = sarif["runs"][0]["results"][0]["message"]["text"].as_str().unwrap();
    assert!(message.contains("@octocat") && !message.contains(['[', ']', '{', '}']), "{message}");
}

#[test]
fn annotations_point_at_every_line_that_names_an_image_and_else_at_the_lock_file() {
    let (_folder, page) = page("");
    let text = github::commands(&page);
    let starts: Vec<_> = text.lines().map(|line| line.split(",title=").next().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "::error file=Dockerfile,line=2,col=6",
            "::error file=Dockerfile,line=5,col=13",
            "::error file=images.lock,line=7",
            "::error file=images.lock,line=1",
            "::error file=Dockerfile,line=6,col=13",
            "::error file=images.lock,line=1",
            "::notice file=images.lock,line=1",
        ]
    );
    assert_eq!(page.places.unread.len(), 1, "{:?}", page.places.unread);
    assert!(page.places.unread[0].starts_with("gone/Dockerfile: "), "{:?}", page.places.unread);
}

#[test]
fn a_line_with_tag_and_digest_is_the_place_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Dockerfile");
    std::fs::write(&path, format!("FROM alpine:3.19@{}\nFROM busybox\n", digest(1))).unwrap();
    let places = Places::read(None, &[path], folder.path());
    let lines =
        |name: &str| places.of(&reference(name)).iter().map(|it| it.line).collect::<Vec<_>>();
    assert_eq!(lines("alpine:3.19"), [1]);
    assert_eq!(lines(&format!("alpine@{}", digest(1))), [1]);
    assert_eq!(lines("busybox:latest"), [2]);
    assert!(lines("alpine:latest").is_empty());
}

#[test]
fn a_path_of_a_lock_file_reaches_no_command_and_no_pipe_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("images.lock");
    let name = "a,b:c%\n::error::x\u{202e}";
    std::fs::write(folder.path().join(name), "FROM alpine:3.19\n").unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let sources = vec![name.to_owned(), "pipe".to_owned(), "/dev/zero".to_owned()];
    let file = crate::lockfile::LockFile { sources, ..Default::default() };
    std::fs::write(&lock, file.to_string()).unwrap();
    let places = Places::read(Some(&lock), &[], folder.path());
    assert_eq!(places.unread.len(), 2, "{:?}", places.unread);
    let rows =
        vec![Row { conflict: Some(conflict("")), ..row("alpine:3.19", Status::Conflict, 1) }];
    let page = Page { report: report(rows), places };
    let text = github::commands(&page);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("::error file=a%2Cb%3Ac%25\\n%3A%3Aerror%3A%3Ax\\u{202e},line=1,"),
        "{text}"
    );
    let sarif = sarif::document(&page);
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("a%2Cb%3Ac%25%5Cn%3A%3Aerror"), "{uri}");
}

#[test]
fn a_lock_file_cannot_have_files_outside_of_the_project_read() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    std::fs::create_dir(&project).unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "FROM docker.io/library/alpine:3.19\n").unwrap();
    std::os::unix::fs::symlink(&secret, project.join("link")).unwrap();
    let lock = project.join("images.lock");
    let absolute = secret.to_str().unwrap();
    let text = format!(
        "{{\"version\": 1, \"sources\": [\"../secret\", \"{absolute}\", \"link\", \"../none\"], \"images\": {{}}}}"
    );
    std::fs::write(&lock, text).unwrap();
    let places = Places::read(Some(&lock), &[], &project);
    assert_eq!(places.unread.len(), 4, "{:?}", places.unread);
    assert!(places.unread.iter().all(|it| it.contains("leads out")), "{:?}", places.unread);
    let alpine = "docker.io/library/alpine:3.19".parse().unwrap();
    assert_eq!(places.of(&alpine)[0].path, "images.lock");
    // Whoever runs it may name it.
    let places = Places::read(Some(&lock), &[secret], &project);
    assert!(places.of(&alpine)[0].path.ends_with("/secret"));
}

#[test]
fn what_is_wrong_decides_the_exit_code_and_nothing_is_right_without_a_whole_record() {
    let is = |rows: Vec<Row>| code_of(&report(rows));
    let ok = || row("a:1", Status::Ok, 1);
    let unlocked = || row("a:2", Status::Unlocked, 1);
    assert_eq!(is(vec![ok(), row("a:3", Status::New, 1)]), Code::Ok);
    assert_eq!(is(vec![ok(), unused("a:4")]), Code::Ok);
    assert_eq!(is(vec![ok(), unlocked()]), Code::Unlocked);
    assert_eq!(is(vec![ok(), refused("a:2", "PIN_REQUIRED")]), Code::Unlocked);
    assert_eq!(is(vec![unlocked(), refused("a:2", "DIGEST_REVOKED")]), Code::Finding);
    assert_eq!(is(vec![row("a:1", Status::Conflict, 1), unlocked()]), Code::Finding);
    let mut torn = report(vec![ok()]);
    torn.head.gaps.push("the journal is off".to_owned());
    assert_eq!(code_of(&torn), Code::Failure);
    torn.rows.push(unlocked());
    assert_eq!(code_of(&torn), Code::Unlocked);
}

#[test]
fn a_record_with_a_gap_says_so_in_every_form() {
    let (_folder, mut page) = page("");
    page.report.rows.retain(|row| row.status == Status::Ok);
    page.report.head.counts = Counts::of(&page.report.rows);
    page.report.head.gaps.push("7 requests that the journal lost".to_owned());
    for (name, text) in rendered(&page) {
        assert!(text.contains("7 requests that the journal lost"), "{name}: {text}");
    }
}

#[test]
fn the_first_sentence_counts() {
    let alone = |status| words::summary(&report(vec![row("a:1", status, 1)]));
    assert_eq!(alone(Status::Ok), "The image is as locked.");
    assert_eq!(alone(Status::Unlocked), "The only image is not as locked: 1 not in the lock file.");
    let (_folder, page) = page("");
    assert_eq!(
        words::summary(&page.report),
        "5 of 7 images are not as locked: 2 in conflict, 2 refused, 1 not in the lock file. \
         1 was seen for the first time. 1 in the lock file was not asked for."
    );
    let none = report(vec![unused("a:1"), unused("a:2")]);
    assert_eq!(words::summary(&none), "Nothing was pulled. 2 in the lock file were not asked for.");
    assert_eq!(code_of(&none), Code::Ok);
    let mut unlocked = report(vec![row("a:1", Status::New, 1), row("a:2", Status::New, 2)]);
    unlocked.head.lock = None;
    assert_eq!(
        words::summary(&unlocked),
        "All 2 images are as pinned. 2 were seen for the first time."
    );
    assert_eq!(words::summary(&report(Vec::new())), "Nothing was pulled.");
}

#[test]
fn ten_thousand_rows_stay_within_what_readers_take() {
    let hint = "x".repeat(300);
    let many = (0..10_000).map(|number| Row {
        conflict: Some(conflict(&hint)),
        ..row(&format!("registry.example/app:{number}"), Status::Conflict, 1)
    });
    let page = Page { report: report(many.collect()), places: Places::default() };
    let text = github::commands(&page);
    assert_eq!(text.lines().count(), 51);
    assert!(text.contains("9950 more are not shown here."), "{}", text.lines().last().unwrap());
    assert!(github::step_summary(&page).len() < 1 << 20);
    assert!(markdown::page(&page).contains("And 9950 more conflicts."));
    let json: serde_json::Value = render(&page, Form::Json).unwrap().parse().unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 10_000);
    assert_eq!(junit::document(&page).matches("<failure ").count(), 10_000);
}

#[test]
fn the_socket_gives_back_what_was_gathered() {
    let (_folder, page) = page(HOSTILE);
    let head = serde_json::to_string(&page.report.head).unwrap();
    assert_eq!(serde_json::from_str::<Head>(&head).unwrap(), page.report.head);
    for row in &page.report.rows {
        let text = serde_json::to_string(row).unwrap();
        assert_eq!(&serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
