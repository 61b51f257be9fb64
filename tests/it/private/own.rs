//! `credentials = "own"` and `"none"`: ours go where they belong, a client's nowhere.
//!
//! The scripted registry fails the test when credentials reach it that nobody told it to expect.

use crate::support::http::Call;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::token::basic;

const PASSWORD: &str = "hunter-two-and-a-half";

#[test]
fn credentials_of_one_upstream_are_never_sent_to_another() {
    let (locked, open) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let image = locked.push_image("team/app", "1.0.0", "locked");
    locked.push_image("public/app", "1.0.0", "of another repository");
    open.push_image("team/app", "1.0.0", "open");
    locked.require_basic("reader", PASSWORD);
    let setup = Setup::new();
    let lines = setup.own_credentials("reader", PASSWORD) + "repositories = [\"team/*\"]\n";
    let mut immutag = setup
        .upstream_with("locked.example", &locked.url(), &lines)
        .upstream("open.example", &open.url())
        .secret(PASSWORD)
        .start();
    let ours = immutag.manifest("locked.example", "team/app", "1.0.0");
    assert_eq!((ours.status, ours.digest()), (200, image.digest()));
    assert_eq!(immutag.direct_manifest("locked.example", "team/app", "1.0.0").status, 200);
    assert_eq!(immutag.manifest("open.example", "team/app", "1.0.0").status, 200);
    // Ours are for team/* alone.
    assert_eq!(immutag.manifest("locked.example", "public/app", "1.0.0").status, 401);
    let asked = |path: &str| {
        let mut requests = locked.requests().into_iter().filter(|asked| asked.path.contains(path));
        requests.any(|asked| asked.fields.get("Authorization").is_some())
    };
    assert!(asked("/team/") && !asked("/public/"));
    immutag.assert_alive_and_clean();
}

#[test]
fn a_clients_credentials_are_dropped_by_each_listener_where_the_upstream_takes_none() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1.0.0", "a");
    let immutag = Setup::new().upstream("open.example", &registry.url()).start();
    let paths = ["manifests/1.0.0", "tags/list", &format!("blobs/{}", image.config.digest)];
    for base in [immutag.mirror("open.example/app/"), immutag.direct("open.example/app/")] {
        for path in paths {
            for method in ["HEAD", "GET"] {
                let call = Call::new(method, &format!("{base}{path}"));
                let call = call.field("Authorization", &basic("user", PASSWORD));
                let call = call.field("Cookie", "session=1").field("X-Forwarded-For", "10.0.0.1");
                assert_eq!(call.field("Proxy-Authorization", "Basic eDp5").send().status, 200);
            }
        }
    }
    for asked in registry.requests() {
        let names = asked.fields.0.iter().map(|(name, _)| name.to_ascii_lowercase());
        let ours = ["accept", "accept-encoding", "host", "user-agent"];
        let strange: Vec<_> = names.filter(|name| !ours.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{strange:?} in {asked:?}");
    }
}
