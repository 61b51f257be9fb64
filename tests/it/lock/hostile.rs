//! Sources and lock files as an attacker's pull request may have them.

use std::fmt::Write as _;

use super::{Project, ended};
use crate::support::process::run;

#[test]
fn a_source_without_end_is_refused_in_bounded_memory() {
    let project = Project::new();
    // A GB of address space is enough for the program and what it may read.
    let script = "ulimit -v 1000000; \"$0\" lock - --table < /dev/zero";
    let mut shell = std::process::Command::new("sh");
    project.prepare(&mut shell);
    let ran = run(shell.args(["-c", script, env!("CARGO_BIN_EXE_immutag")]));
    ended(&ran, 1);
    assert!(ran.stderr.contains("it is larger than 16 MiB"), "{ran:?}");
    for path in ["/dev/zero", "/dev/null"] {
        let ran = project.lock(&[path]);
        ended(&ran, 1);
        assert!(ran.stderr.contains("no regular file"), "{ran:?}");
    }
    assert!(!project.path("images.lock").exists());
}

#[test]
fn names_that_would_steer_a_terminal_are_spelled_out() {
    let project = Project::new();
    let mut text = String::from("FROM evil\u{1b}[2J:1\nFROM ../../etc/passwd\n");
    text.push_str("FROM --platform=linux/\u{202e}x $R/a:1\n");
    let name = "\u{1b}[31mDockerfile";
    project.write(name, &text);
    project.registry.push_index("a", "1", "a", &["amd64"]);
    for arguments in [&[name][..], &[name, "--check"]] {
        let ran = project.lock(arguments);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}'), "{all}");
        assert!(all.contains("\\u{1b}[31mDockerfile:1: evil\\u{1b}[2J:1"), "{all}");
        assert!(all.len() < 4096, "{all}");
    }
    let ran = run(project.command().args(["lock", name, "--check", "--json"]));
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:?}");
}

#[test]
fn ten_thousand_images_are_locked_eight_at_a_time() {
    let project = Project::new();
    let image = project.registry.push_image("a", "0", "a");
    let mut text = String::new();
    for number in 0..10_000 {
        project.registry.retag("a", &number.to_string(), image.digest());
        writeln!(text, "FROM $R/a:{number}").unwrap();
    }
    project.write("Dockerfile", &text);
    project.lock(&[]).ok();
    assert_eq!(project.read("images.lock").lines().count(), 10_000 + 6);
    assert!(project.registry.connections() <= 16, "{}", project.registry.connections());
    project.lock(&["--check"]).ok();
}

#[test]
fn a_lock_file_that_is_not_understood_is_never_written_over() {
    let project = Project::new();
    project.registry.push_image("a", "1", "a");
    project.write("Dockerfile", "FROM $R/a:1\n");
    project.lock(&[]).ok();
    let good = project.read("images.lock");
    let newer = good.replace("\"version\": 1", "\"version\": 2");
    let cut = good[..good.len() - 9].to_owned();
    let escape = good.replace("Dockerfile", "\\u001b[2J");
    for (text, code, words) in [
        (newer, 2, "use a newer immutag"),
        (cut, 2, "EOF"),
        (String::new(), 2, "EOF"),
        (good.replace("digest", "digset"), 2, "digset"),
        (good.replace("Dockerfile", "/etc/passwd"), 1, "from its own folder"),
        (good.replace("\"Dockerfile\"", "\"gone\", \"gone2\""), 1, "gone cannot be read"),
        (escape, 1, "\\u{1b}[2J cannot be read"),
    ] {
        project.write("images.lock", &text);
        let ran = project.lock(&["--update"]);
        ended(&ran, code);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains('\u{1b}'), "{words}: {ran:?}");
        assert_eq!(project.read("images.lock"), text);
    }
}

#[test]
fn what_leads_out_of_the_folder_is_neither_read_nor_looked_up_nor_told() {
    let project = Project::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("token");
    std::fs::write(&secret, "s3cret-token\n$R/s3cret:1\n".replace("$R", super::REGISTRY)).unwrap();
    let leads_out = format!("../{}/token", elsewhere.path().file_name().unwrap().to_str().unwrap());
    let lock = format!("{{\"version\": 1, \"sources\": [\"{leads_out}\"], \"images\": {{}}}}");
    let refused = |arguments: &[&str]| {
        let ran = project.lock(arguments);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains("it leads out of this folder") && !all.contains("s3cret"), "{all}");
        assert!(!ran.status.success() && project.registry.requests().is_empty(), "{ran:?}");
    };
    project.write("images.lock", &lock);
    refused(&[]);
    refused(&["--check"]);
    std::fs::remove_file(project.path("images.lock")).unwrap();
    std::os::unix::fs::symlink(&secret, project.path("Dockerfile")).unwrap();
    refused(&[]);
    refused(&["--check", "Dockerfile"]);
    // Who names the file itself means it; a line that is no reference is not repeated all the same.
    std::fs::write(&secret, "a s3cret line\n").unwrap();
    let ran = project.lock(&[secret.to_str().unwrap()]).ok();
    assert!(ran.stderr.contains("token:1: ") && !ran.stderr.contains("s3cret"), "{ran:?}");
}
