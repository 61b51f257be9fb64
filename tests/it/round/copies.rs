//! A client that has a good local copy, and pulls again.

use super::client::Client;
use super::settings::Way;
use super::stage::{Repository, Stage, names, play};

const HELD: Repository = "team/hold";
const BLOCKED: Repository = "team/block";

/// The clients that keep what they pulled under the tag.
const KEEPERS: [Client; 4] = [Client::Buildah, Client::Containerd, Client::Docker, Client::Podman];

#[test]
fn a_good_local_copy_stays_what_it_was_whatever_the_tag_is_moved_to() {
    let test = a_good_local_copy_stays_what_it_was_whatever_the_tag_is_moved_to;
    play(&test, &KEEPERS, || {
        let stage = Stage::new();
        stage.release(&[HELD, BLOCKED]);
        let clients = KEEPERS.map(|client| (client, stage.client(client, Way::Mirror)));
        for (client, running) in &clients {
            for repository in [HELD, BLOCKED] {
                assert!(running.pull(repository).is_success, "{client} {repository}");
            }
        }
        stage.overwrite(&[HELD, BLOCKED]);
        for (client, running) in &clients {
            for repository in [HELD, BLOCKED] {
                let got = running.pull(repository);
                assert_eq!(got.is_success, repository == HELD, "{client} {got:#?}");
                assert!(names(&got.digests, &Stage::first(repository)), "{client} {got:#?}");
                assert!(!names(&got.digests, &Stage::moved(repository)), "{client} {got:#?}");
            }
        }
        stage.assert_nobody_went_round();
    });
}
