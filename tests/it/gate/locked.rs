//! With a lock file, that decides.

use super::*;

fn lock(entries: &[(&str, &str)]) -> String {
    let images: serde_json::Map<_, _> = entries
        .iter()
        .map(|(name, digest)| ((*name).to_owned(), serde_json::json!({ "digest": digest })))
        .collect();
    serde_json::json!({ "version": 1, "sources": [], "images": images }).to_string()
}

/// `app:1` is locked to an index, `tool` to one digest; `app:2` and `other:1` are not in the file.
fn stage(is_locked: bool) -> (ScriptedRegistry, Immutag, Node, [String; 3]) {
    let registry = ScriptedRegistry::start();
    let one = registry.push_index("app", "1", "a", &["amd64", "arm64"]);
    let two = registry.push_image("app", "2", "two");
    let tool = registry.push_image("tool", "9", "tool");
    let by_digest = format!("registry.example/tool@{}", tool.digest());
    let text = lock(&[("registry.example/app:1", one.digest()), (&by_digest, tool.digest())]);
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
    let file = setup.file("images.lock", &text);
    let setup = setup.argument("--lock").argument(file.to_str().expect("a plain path"));
    let setup = if is_locked { setup.argument("--locked") } else { setup };
    let immutag = setup.start();
    let node = Node::of(&immutag);
    let digests = [one.digest(), two.digest(), tool.digest()].map(str::to_owned);
    (registry, immutag, node, digests)
}

#[test]
fn under_a_lock_nothing_but_what_it_names_may_run() {
    let (_registry, immutag, node, [one, two, tool]) = stage(true);
    immutag.manifest(REGISTRY, "app", "1");
    node.accepts("registry.example/app:1", &one, "in the lock file");
    node.refuses("registry.example/app:1", &two, "the lock file has");
    node.refuses("registry.example/app:2", &two, "is not in the lock file");
    node.accepts(&format!("registry.example/app@{one}"), &one, "in the lock file");
    node.refuses(&format!("registry.example/app@{two}"), &two, "is not in the lock file");
    let name = format!("registry.example/tool:9@{tool}");
    node.accepts(&name, &tool, "in the lock file");
    node.refuses("registry.example/tool:9", &tool, "is not in the lock file");
}

#[test]
fn a_lock_that_refuses_nothing_else_leaves_it_to_the_ledger() {
    let (_registry, immutag, node, [one, two, _]) = stage(false);
    node.accepts("registry.example/app:1", &one, "in the lock file");
    node.refuses("registry.example/app:2", &two, "knows nothing of");
    immutag.manifest(REGISTRY, "app", "2");
    node.accepts("registry.example/app:2", &two, "pinned since");
}
