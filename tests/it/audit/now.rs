//! `immutag audit now`: what it finds, and what its exit code says.

use super::REGISTRY;
use crate::support::content::Image;
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// `app:1.0.0` and `tool:1.0.0` are pinned, and nobody pulls them any more.
struct Desk {
    registry: ScriptedRegistry,
    immutag: Immutag,
    app: Image,
}

impl Desk {
    fn new() -> Self {
        let registry = ScriptedRegistry::start();
        let app = registry.push_image("app", "1.0.0", "a");
        registry.push_image("tool", "1.0.0", "t");
        let immutag =
            Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h").start();
        for repository in ["app", "tool"] {
            assert_eq!(immutag.manifest(REGISTRY, repository, "1.0.0").status, 200);
        }
        Self { registry, immutag, app }
    }

    fn audit(&self, arguments: &[&str]) -> (Option<i32>, Vec<serde_json::Value>, Ran) {
        let ran = self.immutag.cli(&[&["audit", "now"], arguments].concat());
        let lines = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_default());
        (ran.status.code(), lines.collect(), ran)
    }
}

#[test]
fn it_finds_what_moved_and_says_so_by_its_exit_code() {
    let mut desk = Desk::new();
    let (code, lines, ran) = desk.audit(&["--json"]);
    assert_eq!((code, lines[0]["total"]["matching"].as_u64()), (Some(0), Some(2)), "{ran:#?}");

    let b = desk.registry.push_image("app", "1.0.0", "b");
    desk.registry.delete_tag("tool", "1.0.0");
    let (code, lines, ran) = desk.audit(&["--json"]);
    assert_eq!((code, lines.len()), (Some(3), 3), "{ran:#?}");
    let of = |repository: &str| {
        lines.iter().find(|line| line["repository"] == repository).expect("a finding")
    };
    assert_eq!(of("app")["outcome"], "conflict");
    assert_eq!(
        (&of("app")["pinned"], &of("app")["observed"]),
        (&desk.app.digest().into(), &b.digest().into())
    );
    assert_eq!(of("tool")["outcome"], "gone");
    let (_, _, ran) = desk.audit(&["--table"]);
    assert!(ran.stdout.contains("CONFLICT") && ran.stdout.contains("GONE"), "{ran:#?}");
    assert!(ran.stderr.contains("1 in conflict, 1 gone"), "{ran:#?}");
    assert!(desk.immutag.metric("immutag_conflicts_open", "") > 0.0, "the ledger has it");

    let (code, lines, _) = desk.audit(&["**/tool", "--json"]);
    assert_eq!((code, lines.len()), (Some(0), 2), "a deletion is told, and is no conflict");
    desk.immutag.assert_alive_and_clean();
}

#[test]
fn an_upstream_that_cannot_be_asked_is_another_exit_code() {
    let mut desk = Desk::new();
    for fault in [Fault::Status(429), Fault::field("Retry-After", "3000")] {
        desk.registry.fault("* /v2/app/manifests/1.0.0", fault);
    }
    let (code, lines, ran) = desk.audit(&["--json"]);
    assert_eq!(code, Some(5), "{ran:#?}");
    assert_eq!(lines[0]["outcome"], "unreachable");
    let asked = desk.registry.count("* manifests/");
    let (code, lines, _) = desk.audit(&["--json"]);
    assert_eq!((code, lines.len()), (Some(5), 3), "a 429 is obeyed");
    assert_eq!(desk.registry.count("* manifests/"), asked);
    desk.immutag.assert_alive_and_clean();
}

#[test]
fn what_cannot_be_asked_for_is_said_in_words() {
    let mut desk = Desk::new();
    let (code, _, ran) = desk.audit(&["[["]);
    assert_eq!(code, Some(1), "{ran:#?}");
    desk.immutag.restart_with(|setup| setup.top("offline = true"));
    let (code, _, ran) = desk.audit(&[]);
    assert_eq!(code, Some(1));
    assert!(ran.stderr.contains("offline = true"), "{ran:#?}");
    desk.immutag.kill9();
    let (code, _, ran) = desk.audit(&[]);
    assert_eq!(code, Some(1));
    assert!(ran.stderr.contains("start `immutag serve`"), "{ran:#?}");
    assert!(ran.stderr.contains("immutag check"), "{ran:#?}");
}
