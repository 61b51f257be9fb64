//! What real engines print of their images, imported.

use super::import;
use crate::support::clients::Home;
use crate::support::docker::{self, Docker};
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// A registry with an image and an index, under the name by which engines know it here.
struct Stage {
    registry: ScriptedRegistry,
    image: String,
    index: String,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a").digest().to_owned();
        let index = registry.push_index("many", "1.0.0", "b", &["amd64", "arm64"]);
        Self { image, index: index.digest().to_owned(), registry }
    }

    fn references(&self) -> [String; 2] {
        ["app", "many"].map(|name| format!("{}/{name}:1.0.0", self.registry.host()))
    }

    /// Imports what an engine printed; both tags are confirmed by what the registry answers.
    fn imports(&self, printed: &str) {
        let host = self.registry.host();
        let setup = Setup::new().upstream(&host, &self.registry.url()).every_tag("block", "0s");
        let immutag: Immutag = setup.start();
        let ran = import(&immutag, printed, &["--json"]).ok();
        assert!(ran.stdout.contains("\"new\":2"), "{ran:?}\n{printed}");
        for (name, digest) in [("app", &self.image), ("many", &self.index)] {
            let answer = immutag.direct_manifest(&host, name, "1.0.0");
            assert_eq!((answer.status, answer.digest()), (200, digest.as_str()), "{printed}");
            let reference = format!("{host}/{name}:1.0.0");
            let history = immutag.cli(&["ledger", "history", &reference, "--json"]).ok().stdout;
            assert!(history.contains("\"kind\":\"confirmed\""), "{history}");
        }
    }
}

#[test]
fn what_podman_inspects_is_imported_and_confirmed() {
    if !have(&["podman"]) {
        return;
    }
    let stage = Stage::new();
    let home = Home::plain(&[&stage.registry.host()]);
    let references = stage.references();
    for reference in &references {
        home.podman_pull(reference).ok();
    }
    let [app, many] = &references;
    stage.imports(&home.podman(&["image", "inspect", app, many]).ok().stdout);
}

#[test]
fn what_docker_inspects_is_imported_and_confirmed() {
    if !have(&docker::PROGRAMS) {
        return;
    }
    let stage = Stage::new();
    let docker = Docker::start(&[], "");
    let references = stage.references();
    for reference in &references {
        docker.docker(&["pull", reference]).ok();
    }
    let [app, many] = &references;
    stage.imports(&docker.docker(&["image", "inspect", app, many]).ok().stdout);
}
