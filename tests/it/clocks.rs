//! Clocks that jump, and tokens that end early. `faults.md`, T-01 and T-02.
//!
//! The real binary under libfaketime: its wall clock is what a file says, its monotonic clock is
//! the machine's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::content::Image;
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tls::Authority;
use crate::support::token::TokenServer;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// A year more, a year less, 1970, and right again.
const JUMPS: [&str; 4] = ["+365d", "-365d", "@1970-01-01 00:01:00", "+0"];

/// A wall clock that the test sets.
struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// One that is right so far; `None` if there is no libfaketime here.
    fn new(folder: &Path) -> Option<Self> {
        if !have(&["faketime"]) {
            return None;
        }
        let library = find_library().expect("it comes with the program");
        let clock = Self { file: folder.join("time"), library };
        clock.set("+0");
        Some(clock)
    }

    /// In the words of libfaketime: an offset, or `@` and a time.
    fn set(&self, to: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, to).expect("our own file");
        std::fs::rename(&new, &self.file).expect("our own file");
    }

    /// The program has this clock.
    fn over(&self, setup: Setup) -> Setup {
        setup
            .env("LD_PRELOAD", &self.library.display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// Debian has a directory for each architecture.
fn find_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let library = |folder: std::fs::DirEntry| folder.path().join("faketime/libfaketimeMT.so.1");
    folders.map(library).find(|library| library.is_file())
}

/// The times of all events, in the order of the ledger.
fn times_ms(immutag: &Immutag) -> Vec<u64> {
    let exported = immutag.cli(&["ledger", "export", "--format", "events"]).ok().stdout;
    let events: Vec<serde_json::Value> =
        exported.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    for (event, sequence) in events.iter().zip(1u64..) {
        assert_eq!(event["sequence"], sequence, "no order by time");
    }
    events.iter().map(|event| event["time-ms"].as_u64().expect("a time")).collect()
}

#[test]
fn a_clock_that_jumps_moves_no_pin_and_no_order() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some(clock) = WallClock::new(folder.path()) else { return };
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
    let mut immutag = clock.over(setup).start();
    let pull = |immutag: &Immutag, tag: &str| {
        immutag.direct_manifest(REGISTRY, "app", tag).digest().to_owned()
    };
    assert_eq!(pull(&immutag, "1.0.0"), a.digest());
    registry.push_image("app", "1.0.0", "b");
    for (number, jump) in JUMPS.into_iter().enumerate() {
        clock.set(jump);
        assert_eq!(pull(&immutag, "1.0.0"), a.digest(), "{jump}");
        let tag = format!("2.0.{number}");
        let new = registry.push_image("app", &tag, &tag);
        assert_eq!(pull(&immutag, &tag), new.digest(), "{jump}");
        registry.push_image("app", &tag, "moved");
        // Also if it starts at that time.
        immutag.restart();
        assert_eq!(pull(&immutag, "1.0.0"), a.digest(), "{jump}");
        assert_eq!(pull(&immutag, &tag), new.digest(), "{jump}");
    }
    let times = times_ms(&immutag);
    let back = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(back >= 2, "the clock did not jump for the program: {times:?}");
    assert!(times.iter().any(|time| *time < 3_600_000), "it never was 1970: {times:?}");
    immutag.cli(&["ledger", "verify"]).ok();
    immutag.assert_alive_and_clean();
}

#[test]
fn a_clock_that_is_set_ahead_accepts_no_conflict_and_serves_no_young_tag() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some(clock) = WallClock::new(folder.path()) else { return };
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    registry.push_image("new", "1.0.0", "new");
    let rules = "[[rule]]\nrepository = \"new\"\non-conflict = \"hold\"\nmin-age = \"2d\"\n\
                 recheck = \"0s\"\n[[rule]]\non-conflict = \"hold\"\naccept-after = \"2d\"\n\
                 recheck = \"0s\"\n";
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(rules);
    let mut immutag = clock.over(setup).start();
    let pull = |repository: &str| immutag.direct_manifest(REGISTRY, repository, "1.0.0");
    let asked = || immutag.cli(&["audit", "now"]).stdout;
    assert_eq!((pull("app").digest(), pull("new").status), (a.digest(), 403));
    registry.push_image("app", "1.0.0", "b");
    asked();
    for ahead in ["+50h", "+365d"] {
        clock.set(ahead);
        asked();
        asked();
        assert_eq!((pull("app").digest(), pull("new").status), (a.digest(), 403), "{ahead}");
    }
    clock.set("+0");
    asked();
    assert_eq!((pull("app").digest(), pull("new").status), (a.digest(), 403));
    let history = immutag.cli(&["ledger", "history", &format!("{REGISTRY}/app:1.0.0")]).ok().stdout;
    assert!(history.contains("conflict") && !history.contains("accepted"), "{history}");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_clock_that_jumps_makes_nothing_expire() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some(clock) = WallClock::new(folder.path()) else { return };
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "latest", "a");
    let rules = "[[rule]]\ntag = { glob = \"1.*\" }\non-conflict = \"hold\"\nrecheck = \"1h\"\n";
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(rules);
    let mut immutag = clock.over(setup.top("stale-if-error = \"1h\"")).start();
    registry.retag("app", "1.0.0", image.digest());
    let pull = |tag: &str| immutag.direct_manifest(REGISTRY, "app", tag);
    assert_eq!(pull("1.0.0").digest(), image.digest());
    assert_eq!(pull("latest").digest(), image.digest());
    registry.forget_requests();
    registry.fault("* manifests/", Fault::Status(500));
    for jump in JUMPS {
        clock.set(jump);
        assert_eq!(pull("1.0.0").status, 200, "{jump}");
        let stale = pull("latest");
        assert_eq!((stale.status, stale.digest()), (200, image.digest()), "{jump}");
    }
    assert_eq!(registry.count("* manifests/1.0.0"), 0, "an hour has not passed");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_wrong_clock_is_named_where_certificates_fail_by_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some(clock) = WallClock::new(folder.path()) else { return };
    let authority = Authority::new();
    let registry = ScriptedRegistry::start_with(Some(authority.issue(&["127.0.0.1"]).server()));
    registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new();
    let ca = setup.ca_file(&authority.ca_pem);
    let setup = setup.upstream_with(REGISTRY, &registry.url(), &ca).every_tag("hold", "1h");
    let mut immutag = clock.over(setup).start();
    clock.set("@1970-01-01 00:01:00");
    let refused = immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert!(refused.text().contains("clock is wrong"), "{}", refused.text());
    clock.set("+0");
    let pull = || immutag.direct_manifest(REGISTRY, "app", "1.0.0").status;
    eventually("the upstream is asked again", || pull() == 200);
    immutag.assert_alive_and_clean();
}

#[test]
fn the_ledgers_times_are_the_same_in_every_time_zone() {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    let mut immutag = setup.env("TZ", "Pacific/Kiritimati").start();
    assert_eq!(immutag.direct_manifest(REGISTRY, "app", "1.0.0").status, 200);
    let here = times_ms(&immutag);
    immutag.restart_with(|setup| setup.env("TZ", "America/Adak"));
    assert_eq!(times_ms(&immutag), here);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = u64::try_from(now.expect("after 1970").as_millis()).expect("a time");
    let is_now = |time: &u64| now_ms.abs_diff(*time) < 3_600_000;
    assert!(here.iter().all(is_now), "{here:?}");
}

/// A registry behind a token server, and immutag that pulls with a user's credentials.
struct Guarded {
    tokens: Arc<TokenServer>,
    registry: ScriptedRegistry,
    image: Image,
    immutag: Immutag,
}

impl Guarded {
    fn new(clock: &WallClock) -> Self {
        let tokens = TokenServer::start(None);
        tokens.add_user("reader", "a-long-password", &["app"]);
        let registry = ScriptedRegistry::start();
        let image = registry.push_image("app", "1.0.0", "a");
        registry.require_token(&tokens);
        let host = tokens.realm().trim_start_matches("http://").replace("/token", "");
        let setup = Setup::new();
        let own = setup.own_credentials("reader", "a-long-password");
        let lines = format!("{own}auth-hosts = [\"{host}\"]\n");
        let setup = setup.upstream_with(REGISTRY, &registry.url(), &lines);
        let immutag = clock.over(setup.every_tag("record", "")).start();
        Self { tokens, registry, image, immutag }
    }

    /// A pull that asks the upstream; how many tokens were asked for so far.
    #[track_caller]
    fn pull(&self) -> usize {
        let asked = self.registry.count("* manifests/1.0.0");
        let answer = self.immutag.direct_manifest(REGISTRY, "app", "1.0.0");
        assert_eq!((answer.status, answer.digest()), (200, self.image.digest()));
        assert!(self.registry.count("* manifests/1.0.0") > asked, "the upstream was not asked");
        self.tokens.requests().len()
    }
}

#[test]
fn a_token_outlives_a_skewed_clock_and_one_that_ends_early_is_asked_for_anew_once() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let Some(clock) = WallClock::new(folder.path()) else { return };
    let mut guarded = Guarded::new(&clock);
    let mut tokens = guarded.pull();
    assert_eq!(tokens, 1);
    for skew in ["+10m", "-10m", "+0"] {
        clock.set(skew);
        assert_eq!(guarded.pull(), tokens, "{skew}: a clock ends no token");
        // To the registry, whose clock is another, it has ended.
        guarded.tokens.expire_tokens();
        tokens += 1;
        assert_eq!(guarded.pull(), tokens, "{skew}: one new token");
        assert_eq!(guarded.pull(), tokens, "{skew}: which is good for more");
    }
    guarded.immutag.assert_alive_and_clean();
}
