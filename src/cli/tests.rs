//! What is typed is what is meant.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_of_the_command_line_has_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_before_or_behind_the_subcommand() {
    for line in [
        "immutag --data-dir d --config f ledger list",
        "immutag ledger --data-dir d list --config f",
        "immutag ledger list --config f --data-dir d --json",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.global.data_dir.as_deref(), Some("d".as_ref()), "{line}");
        assert_eq!(cli.global.config.as_deref(), Some("f".as_ref()), "{line}");
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for line in [
        "immutag".to_owned(),
        "immutag nonsense".to_owned(),
        "immutag check".to_owned(),
        "immutag check Not/A/Reference".to_owned(),
        "immutag rules test".to_owned(),
        format!("immutag rules test alpine@{digest}"),
        format!("immutag ledger approve alpine:3 --digest {digest}"),
        "immutag ledger approve alpine:3 --digest sha256:12 --reason r".to_owned(),
        format!("immutag ledger approve --digest {digest} --reason r"),
        format!("immutag ledger reject alpine:3@{digest} --digest {digest} --reason r"),
        "immutag ledger revoke alpine --reason r".to_owned(),
        "immutag ledger forget alpine:3".to_owned(),
        "immutag ledger list --json --table".to_owned(),
    ] {
        let error = parse(&line).expect_err(&line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    let empty = ["immutag", "ledger", "forget", "alpine:3", "--reason", " "];
    assert_eq!(Cli::try_parse_from(empty).unwrap_err().exit_code(), 2);
}

#[test]
fn a_tag_is_read_as_docker_reads_it() {
    for (text, expected) in [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19"),
        ("index.docker.io/alpine:3", "docker.io/library/alpine:3"),
        ("ghcr.io/acme/app:1.2.3", "ghcr.io/acme/app:1.2.3"),
    ] {
        assert_eq!(parse_key(text).unwrap().to_string(), expected);
    }
}
