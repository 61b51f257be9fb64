//! Every client, by every way, under every reaction, while the tag moves.

use std::process::Command;

use crate::support::process::{find_debians, have, run};

use super::client::Client;
use super::settings::Way;
use super::stage::{Outcome, Repository, Stage, play};

const REPOSITORIES: [Repository; 3] = ["team/alert", "team/hold", "team/block"];

/// Pulls before and after the tags move.
#[expect(clippy::print_stdout, reason = "the table is for the person who runs the tests")]
fn every_reaction(client: Client) {
    let mut stage = Stage::new();
    stage.release(&REPOSITORIES);
    let each = || client.ways().iter().flat_map(|way| REPOSITORIES.map(|it| (*way, it)));
    for (way, repository) in each() {
        let outcome = stage.pull(client, way, repository);
        assert_eq!(outcome, Outcome::First, "{client} {way:?} {repository}");
    }
    stage.overwrite(&REPOSITORIES);
    if !client.ways().contains(&Way::FailClosed) {
        println!("{client}, FailClosed: it has no such settings, only a mirror");
    }
    for (way, repository) in each() {
        let outcome = stage.pull(client, way, repository);
        println!("{client}, {way:?}, {repository}: {outcome}");
        match (repository, outcome) {
            ("team/alert", Outcome::Moved) | ("team/hold", Outcome::First) => {}
            ("team/block", Outcome::Refused(words)) => assert_ours(way, &words),
            (_, outcome) => panic!("{client} {way:?} {repository}: {outcome:?}"),
        }
    }
    stage.assert_nobody_went_round();
    stage.immutag.assert_alive_and_clean();
}

/// The client says what happened, and nothing of passwords.
#[track_caller]
fn assert_ours(way: Way, words: &str) {
    let (first, moved) = (Stage::first("team/block"), Stage::moved("team/block"));
    for part in ["immutag: ", "is pinned to", first.digest(), moved.digest()] {
        assert!(words.contains(part), "no {part} by {way:?} in: {words}");
    }
    for part in ["login", "denied", "unauthorized"] {
        assert!(!words.contains(part), "{part} by {way:?} in: {words}");
    }
}

#[test]
fn build_kit_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(
        &build_kit_never_gets_what_a_held_or_blocked_tag_was_moved_to,
        &[Client::BuildKit],
        || {
            every_reaction(Client::BuildKit);
        },
    );
}

#[test]
fn buildah_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(&buildah_never_gets_what_a_held_or_blocked_tag_was_moved_to, &[Client::Buildah], || {
        every_reaction(Client::Buildah);
    });
}

#[test]
fn containerd_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(
        &containerd_never_gets_what_a_held_or_blocked_tag_was_moved_to,
        &[Client::Containerd],
        || {
            every_reaction(Client::Containerd);
        },
    );
}

#[test]
fn docker_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(&docker_never_gets_what_a_held_or_blocked_tag_was_moved_to, &[Client::Docker], || {
        every_reaction(Client::Docker);
    });
}

#[test]
fn podman_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(&podman_never_gets_what_a_held_or_blocked_tag_was_moved_to, &[Client::Podman], || {
        every_reaction(Client::Podman);
    });
}

#[test]
fn skopeo_never_gets_what_a_held_or_blocked_tag_was_moved_to() {
    play(&skopeo_never_gets_what_a_held_or_blocked_tag_was_moved_to, &[Client::Skopeo], || {
        every_reaction(Client::Skopeo);
    });
}

#[test]
fn these_are_the_versions_of_the_clients() {
    let mut programs: Vec<&str> =
        Client::ALL.iter().flat_map(|client| client.programs()).copied().collect();
    programs.push("docker-registry");
    programs.sort_unstable();
    programs.dedup();
    if !have(&programs) {
        return;
    }
    for program in programs {
        let found = find_debians(program).expect("it is here");
        let ran = run(Command::new(found).env_clear().arg("--version")).ok();
        let version = ran.stdout.lines().next().unwrap_or_default().to_owned();
        assert!(version.contains(|digit: char| digit.is_ascii_digit()), "{program}: {version}");
        println!("{version}");
    }
}
