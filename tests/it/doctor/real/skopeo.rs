//! What Podman, Buildah, skopeo and CRI-O share, by skopeo, with the fixtures' files in `/etc`.

use std::path::Path;
use std::process::Command;

use regex::Regex;

use super::{hold, program};
use crate::support::apart::apart;
use crate::support::process::{have, run};

/// About short names, about a variable that is Podman's, and one that asks nobody at all.
const OTHERS: [&str; 3] = ["podman-environment", "podman-search", "podman-toml-error"];

#[test]
fn what_the_doctor_says_of_registries_conf_is_what_skopeo_does() {
    if !have(&["skopeo", "umount"]) {
        return;
    }
    apart(&what_the_doctor_says_of_registries_conf_is_what_skopeo_does, &[], || {
        let empty = tempfile::tempdir().expect("a temporary directory");
        let fits = |name: &str, _: &_| !OTHERS.contains(&name);
        let count = hold("podman", fits, |path, _| inspect(path, empty.path()));
        assert!(count >= 15, "{count} fixtures are not all");
    });
}

/// Asks for what nobody has; what it said, and whom it named.
fn inspect(fixture: &Path, empty: &Path) -> (String, Vec<String>) {
    let own = fixture.join("etc/containers");
    let mount = |arguments: &[&std::ffi::OsStr]| {
        run(Command::new(program("mount")).args(arguments)).ok();
    };
    mount(&["--bind".as_ref(), own.as_os_str(), "/etc/containers".as_ref()]);
    let homes = [fixture.join("home/alice"), fixture.join("root"), empty.to_owned()];
    let home = homes.iter().find(|home| home.is_dir()).expect("the last is there");
    let mut command = Command::new(program("skopeo"));
    command.args(["--insecure-policy", "inspect", "docker://docker.io/library/app:1"]);
    let ran = run(command.env("HOME", home).env_remove("CONTAINERS_REGISTRIES_CONF"));
    run(Command::new(program("umount")).arg("/etc/containers")).ok();
    assert!(!ran.status.success(), "{ran:#?}");
    let asked = Regex::new(r"(?:container registry |lookup |https?://)([a-z0-9.-]+(?::[0-9]+)?)");
    let asked = asked.expect("a valid pattern");
    let hosts = asked.captures_iter(&ran.stderr).map(|found| found[1].to_owned()).collect();
    (ran.stderr, hosts)
}
