//! The gate at a container runtime's side, run as containerd runs its verifiers: by a link in a
//! directory, with flags of one dash, a descriptor on standard input, and its own environment.

mod fails_closed;
mod locked;

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::content::Image;
use crate::support::http::Call;
use crate::support::immutag::{Immutag, accepting};
use crate::support::process::{Ran, ran};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

/// containerd's directory of verifiers, and what it tells them by its environment.
struct Node {
    folder: TempDir,
    data_dir: PathBuf,
    config: PathBuf,
}

impl Node {
    fn of(immutag: &Immutag) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let link = folder.path().join("immutag-verify-image");
        symlink(env!("CARGO_BIN_EXE_immutag"), link).expect("a link can be made");
        let data_dir = immutag.data_dir().to_owned();
        let config = data_dir.parent().expect("it is in a folder").join("immutag.toml");
        Self { folder, data_dir, config }
    }

    fn command(&self, name: &str, digest: &str) -> Command {
        let mut command = Command::new(self.folder.path().join("immutag-verify-image"));
        command.args(["-name", name, "-digest", digest]);
        command.args(["-stdin-media-type", "application/vnd.oci.descriptor.v1+json"]);
        command.current_dir("/").env_clear();
        command.env("IMMUTAG_CONFIG", &self.config).env("IMMUTAG__DATA_DIR", &self.data_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, with the descriptor that containerd writes.
    fn ask(&self, name: &str, digest: &str) -> Ran {
        let mut child = self.command(name, digest).spawn().expect("it starts");
        let descriptor = serde_json::json!({ "mediaType": "a/b", "digest": digest, "size": 7 });
        // It need not be read.
        let _ = child.stdin.take().map(|mut it| it.write_all(descriptor.to_string().as_bytes()));
        ran(&child.wait_with_output().expect("it can be waited for"))
    }

    #[track_caller]
    fn accepts(&self, name: &str, digest: &str, words: &str) {
        let ran = self.ask(name, digest);
        assert_eq!(ran.status.code(), Some(0), "{name}: {ran:?}");
        assert!(ran.stdout.starts_with("immutag: accepted: "), "{ran:?}");
        assert!(ran.stdout.contains(words), "no `{words}` in {ran:?}");
    }

    #[track_caller]
    fn refuses(&self, name: &str, digest: &str, words: &str) {
        let ran = self.ask(name, digest);
        assert_eq!(ran.status.code(), Some(1), "{name}: {ran:?}");
        assert!(ran.stdout.starts_with("immutag: refused: "), "{ran:?}");
        assert!(ran.stdout.contains(words), "no `{words}` in {ran:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    }
}

/// `app:1` was first seen at an index of two platforms and then at another image, under hold.
struct Stage {
    registry: ScriptedRegistry,
    pinned: crate::support::content::Index,
    other: Image,
    immutag: Immutag,
    node: Node,
}

impl Stage {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let pinned = registry.push_index("app", "1", "a", &["amd64", "arm64"]);
        let other = Image::new("b");
        registry.put_image("app", &other);
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
        let immutag = setup.start();
        let node = Node::of(&immutag);
        let stage = Self { registry, pinned, other, immutag, node };
        stage.pull("1");
        stage
    }

    fn pull(&self, reference: &str) {
        self.immutag.manifest(REGISTRY, "app", reference).digest();
    }

    /// The upstream moves the tag, and immutag has seen it.
    fn retag(&self) {
        self.registry.retag("app", "1", self.other.digest());
        self.pull("1");
        self.immutag.wait_for_metric("immutag_events_total", "conflict", 1.0);
    }
}

fn absent() -> String {
    format!("sha256:{}", "e".repeat(64))
}

#[test]
fn a_name_with_a_tag_is_that_tags_pin_and_nothing_else() {
    let stage = Stage::new();
    let (node, pin, other) = (&stage.node, stage.pinned.digest(), stage.other.digest());
    node.accepts("registry.example/app:1", pin, "it is registry.example/app:1, pinned since");
    let arm = &stage.pinned.images[1];
    node.accepts("registry.example/app:1", arm.digest(), "the linux/arm64 image of");
    node.refuses("registry.example/app:1", &arm.config.digest, "was never seen there");
    node.refuses("registry.example/app:1", other, "was never seen there");
    stage.retag();
    node.accepts("registry.example/app:1", pin, "pinned since");
    node.refuses("registry.example/app:1", other, "in conflict with the pin");
    node.refuses("registry.example/app:none", pin, "knows nothing of");
    node.refuses("registry.example/other:1", pin, "knows nothing of");
    let approve = ["ledger", "approve", "registry.example/app:1", "--digest", other];
    stage.immutag.cli(&[&approve[..], &["--reason", "a release"]].concat()).ok();
    node.accepts("registry.example/app:1", other, "pinned since");
    node.refuses("registry.example/app:1", pin, "the tag stood for it once");
}

#[test]
fn a_digest_alone_must_be_known_in_its_repository_and_not_revoked() {
    let stage = Stage::new();
    let (node, pin, other) = (&stage.node, stage.pinned.digest(), stage.other.digest());
    let by_digest = |digest: &str| format!("registry.example/app@{digest}");
    node.accepts(&by_digest(pin), pin, "app:1 stands for it");
    node.accepts("registry.example/app", pin, "app:1 stands for it");
    let arm = stage.pinned.images[1].digest();
    node.accepts(&by_digest(arm), arm, "the linux/arm64 image of registry.example/app:1");
    node.refuses(&by_digest(&absent()), &absent(), "is not known in registry.example/app");
    node.refuses(&by_digest(pin).replace("/app", "/other"), pin, "is not known in");
    node.refuses(&by_digest(pin), other, "the name asks for");
    // What nobody pulled is not known; what came by its digest is, in this repository.
    let lone = Image::new("lone");
    stage.registry.put_image("app", &lone);
    node.refuses(&by_digest(lone.digest()), lone.digest(), "is not known in");
    stage.pull(lone.digest());
    node.accepts(&by_digest(lone.digest()), lone.digest(), "the upstream gave it for app");
    // What was seen at a tag and held back is not, however it came.
    stage.retag();
    stage.pull(other);
    node.refuses(&by_digest(other), other, "never served or approved");
    let revoke = |digest: &str| {
        stage.immutag.cli(&["ledger", "revoke", digest, "--reason", "hostile"]).ok();
    };
    revoke(lone.digest());
    node.refuses(&by_digest(lone.digest()), lone.digest(), "is revoked");
    revoke(&stage.pinned.images[0].layers[0].digest);
    node.refuses("registry.example/app:1", pin, "which is revoked");
}

#[test]
fn a_tag_with_a_digest_is_both() {
    let stage = Stage::new();
    let (node, pin, other) = (&stage.node, stage.pinned.digest(), stage.other.digest());
    node.accepts(&format!("registry.example/app:1@{pin}"), pin, "pinned since");
    node.refuses(&format!("registry.example/app:1@{other}"), other, "was never seen there");
    node.refuses(&format!("registry.example/app:1@{pin}"), other, "the name asks for");
    node.refuses(&format!("registry.example/app:fake@{pin}"), pin, "knows nothing of");
}

#[test]
fn the_proxys_own_name_in_front_of_a_reference_is_left_out() {
    let stage = Stage::new();
    let direct = stage.immutag.addresses().direct;
    let name = format!("{direct}/registry.example/app:1");
    stage.node.accepts(&name, stage.pinned.digest(), "pinned since");
    stage.node.refuses(&name, stage.other.digest(), "was never seen there");
}

#[test]
fn a_recorded_tag_is_what_it_was_when_it_was_last_asked_for() {
    let registry = ScriptedRegistry::start();
    let [a, b] = ["a", "b"].map(Image::new);
    for image in [&a, &b] {
        registry.put_image("app", image);
    }
    registry.retag("app", "1", a.digest());
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("record", "0s");
    let immutag = setup.start();
    let node = Node::of(&immutag);
    node.refuses("registry.example/app:1", a.digest(), "knows nothing of");
    // containerd asks by HEAD, then its verifiers, and then by the digest.
    let path = format!("app/manifests/1?ns={REGISTRY}");
    let head = accepting(Call::new("HEAD", &immutag.mirror(&path))).send();
    assert_eq!(head.digest(), a.digest());
    node.accepts("registry.example/app:1", a.digest(), "nothing is promised");
    node.refuses("registry.example/app:2", a.digest(), "knows nothing of");
    immutag.manifest(REGISTRY, "app", "1");
    immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    node.accepts("registry.example/app:1", a.digest(), "last recorded");
    node.refuses("registry.example/app:1", b.digest(), "was never seen there");
}
