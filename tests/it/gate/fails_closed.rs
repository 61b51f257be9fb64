//! Whatever is wrong, the answer is no, and it comes in time.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::Signal;

use super::*;
use crate::support::wait::eventually;

#[test]
fn without_a_server_the_answer_is_no() {
    let mut stage = Stage::new();
    let pin = stage.pinned.digest().to_owned();
    stage.node.accepts("registry.example/app:1", &pin, "pinned since");
    stage.immutag.terminate();
    stage.node.refuses("registry.example/app:1", &pin, "no server runs on");
    std::fs::write(&stage.node.config, "nonsense = 1\n").unwrap();
    stage.node.refuses("registry.example/app:1", &pin, "nonsense");
    stage.node.config = "/does/not/exist.toml".into();
    stage.node.refuses("registry.example/app:1", &pin, "exist.toml");
}

#[test]
fn a_server_that_hangs_is_waited_for_as_long_as_was_said() {
    let stage = Stage::new();
    let pin = stage.pinned.digest();
    stage.immutag.signal(Signal::STOP);
    let mut command = stage.node.command("registry.example/app:1", pin);
    let child = command.args(["--timeout", "300ms"]).spawn().unwrap();
    let ran = ran(&child.wait_with_output().unwrap());
    stage.immutag.signal(Signal::CONT);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.stdout.contains("refused: no answer within 300ms"), "{ran:?}");
    stage.node.accepts("registry.example/app:1", pin, "pinned since");
}

#[test]
fn standing_input_blocks_nothing_however_much_it_is_and_however_long_it_stays_open() {
    let stage = Stage::new();
    let pin = stage.pinned.digest();
    let mut child = stage.node.command("registry.example/app:1", pin).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    eventually("the gate has ended", || child.try_wait().unwrap().is_some());
    drop(input);
    assert!(child.wait().unwrap().success());

    let mut child = stage.node.command("registry.example/app:1", pin).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&vec![b'{'; 1 << 20]));
    let ran = ran(&child.wait_with_output().unwrap());
    assert!(ran.status.success(), "{ran:?}");
    assert!(writer.join().unwrap().is_err(), "a pipe takes no MiB");
}

#[test]
fn an_answer_that_nobody_reads_is_given_by_the_exit_code() {
    let stage = Stage::new();
    for (digest, expected) in [(stage.pinned.digest(), 0), (stage.other.digest(), 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stage.node.command("registry.example/app:1", digest);
        let status = command.stdin(Stdio::null()).stdout(writer).status().unwrap();
        assert_eq!(status.code(), Some(expected));
    }
}

#[test]
fn hostile_names_and_digests_are_refused_in_one_printable_line() {
    let stage = Stage::new();
    let pin = stage.pinned.digest();
    let long = format!("registry.example/{}:1", "a".repeat(10_000));
    let huge = format!("registry.example/{}", "a/".repeat(2000));
    for name in [
        "",
        "-",
        "--help",
        "-h",
        "--version",
        "-digest",
        "registry.example/app:1\nimmutag: accepted",
        "registry.example/app:1\u{1b}[2K",
        "registry.example/../app:1",
        "registry.example/app:1@",
        "registry.example/app:1@sha256:0",
        "registry.example/app:1 ",
        "\u{202e}registry.example/app:1",
        &long,
        &huge,
    ] {
        let ran = stage.node.ask(name, pin);
        assert_ne!(ran.status.code(), Some(0), "{name:?}: {ran:?}");
        let lines: Vec<_> = ran.stdout.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("immutag: refused: "), "{ran:?}");
        assert!(lines[0].len() < 8192 && !lines[0].contains('\u{1b}'), "{ran:?}");
    }
    for digest in ["", "sha256:", "--help", "md5:00", &pin[..70], &format!("{pin}0")] {
        let ran = stage.node.ask("registry.example/app:1", digest);
        assert_eq!(ran.status.code(), Some(1), "{digest:?}: {ran:?}");
    }
}

#[test]
fn what_is_left_out_or_not_known_is_misuse_and_refused() {
    let stage = Stage::new();
    let pin = stage.pinned.digest();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(stage.node.folder.path().join("immutag-verify-image"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        ran(&output)
    };
    for arguments in [
        &["-name", "registry.example/app:1"][..],
        &["-digest", pin],
        &["-name"],
        &["-name", "a:1", "-digest", pin, "-verbose"],
        &["-name", "a:1", "-digest", pin, "-name", "registry.example/app:1"],
        &[],
    ] {
        let ran = ask(arguments);
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.starts_with("immutag: refused: "), "{ran:?}");
    }
}

#[test]
fn a_wrapper_gives_the_gate_its_options() {
    let stage = Stage::new();
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("immutag");
    let text = format!(
        "#!/bin/sh\nexec '{}' --config '{}' --data-dir '{}' verify-image --timeout 4s \"$@\"\n",
        env!("CARGO_BIN_EXE_immutag"),
        stage.node.config.display(),
        stage.node.data_dir.display()
    );
    std::fs::write(&wrapper, text).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (digest, expected) in [(stage.pinned.digest(), 0), (stage.other.digest(), 1)] {
        let mut command = Command::new(&wrapper);
        command.args(["-name", "registry.example/app:1", "-digest", digest]);
        command.args(["-stdin-media-type", "a/b", "-operation", "run"]).stdin(Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(expected));
    }
}
