//! The control: with a mirror that only says 403, or with none, every client gets what the tag was
//! moved to, and Docker Hub's log tells. What the other tests of this kind find absent can be seen.

use crate::support::fault::Fault;
use crate::support::registry::ScriptedRegistry;

use super::client::Client;
use super::settings::{Settings, Way};
use super::stage::{Outcome, Repository, Stage, judge, play};

const REPOSITORY: Repository = "team/block";

#[test]
fn a_mirror_that_only_refuses_sends_every_client_to_the_moved_image() {
    let test = a_mirror_that_only_refuses_sends_every_client_to_the_moved_image;
    play(&test, &Client::ALL, || {
        let stage = Stage::new();
        stage.release(&[REPOSITORY]);
        stage.pull(Client::Skopeo, Way::FailClosed, REPOSITORY);
        stage.overwrite(&[REPOSITORY]);
        let refuses = ScriptedRegistry::start();
        refuses.fault("* manifests/", Fault::Status(403));
        for client in Client::ALL {
            for way in [None, Some(Way::Mirror)] {
                let before = stage.strangers().len();
                let settings = Settings {
                    way,
                    mirror: refuses.host(),
                    direct: String::new(),
                    ca_pem: &stage.authority.ca_pem,
                };
                let got = client.start(settings).pull(REPOSITORY);
                assert_eq!(judge(&got, REPOSITORY), Outcome::Moved, "{client} {way:?}");
                assert!(stage.strangers().len() > before, "{client} {way:?} was not seen");
            }
        }
        let asked = refuses.requests().len();
        assert!(asked >= Client::ALL.len(), "every client asks its mirror first: {asked}");
    });
}
