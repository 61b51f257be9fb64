//! Random load, and everything that was answered held against everything that was written down:
//! no client got what no event of the ledger allows. `faults.md`, L-18.
//!
//! What is done follows from the seed, which is printed; how the threads meet does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::checker::{Decision, Event, History};
use self::operator::Operator;
use self::random::Random;
use self::stage::Stage;
use crate::support::immutag::Immutag;
use crate::support::wait::within;

mod checker;
mod client;
mod operator;
mod random;
mod stage;
mod upstream;

const REGISTRY: &str = "registry.example";

/// Who pulls at the same time.
const CLIENTS: u64 = 6;

/// How long it goes on, and with how many tags.
const SHORT: (Duration, usize) = (Duration::from_mins(1), 250);
const LONG: (Duration, usize) = (Duration::from_mins(10), 2000);

/// Which seed to play again.
const SEED: &str = "IMMUTAG_TEST_SEED";

#[test]
fn no_answer_of_a_random_history_is_without_its_event_in_the_ledger() {
    let seed = seed();
    println!("seed {seed}: {SEED}={seed} plays it again");
    let is_long = std::env::var_os("IMMUTAG_TEST_LONG").is_some();
    let (length, tags) = if is_long { LONG } else { SHORT };
    let mut stage = Stage::new(tags);
    let (mut history, restarts) = play(&mut stage, seed, length);
    stage.immutag.restart();
    stage.immutag.cli(&["ledger", "verify"]).ok();
    history.events = events(&stage.immutag);
    println!("{}", summary(&history, restarts));
    let violations = history.violations();
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    assert_enough_happened(&history, restarts);
    stage.immutag.assert_alive_and_clean();
}

/// Plays for so long; what came of it, and how often immutag was started anew.
fn play(stage: &mut Stage, seed: u64, length: Duration) -> (History, usize) {
    let Stage { registry, immutag, images } = stage;
    let (is_over, is_up) = (AtomicBool::new(false), AtomicBool::new(true));
    let (is_over, is_up, images, registry) = (&is_over, &is_up, &*images, &*registry);
    let addresses = immutag.addresses();
    let mut history = History::default();
    let mut restarts = 0;
    std::thread::scope(|scope| {
        let random = |who| Random::new(seed ^ (who + 1));
        let pullers: Vec<_> = (0..CLIENTS)
            .map(|who| {
                let client = client::Client { addresses, images, is_over, is_up };
                scope.spawn(move || client.play(&mut random(who)))
            })
            .collect();
        let mover = upstream::Upstream { registry, images, is_over };
        let mover = scope.spawn(move || mover.play(&mut random(CLIENTS)));
        let mut operator = Operator::new(immutag, images, is_up);
        let ends = Instant::now() + length;
        let mut random = random(CLIENTS + 1);
        while Instant::now() < ends && !mover.is_finished() {
            operator.step(&mut random, is_over);
        }
        is_over.store(true, Ordering::SeqCst);
        (history.decisions, restarts) = (operator.decisions, operator.restarts);
        let answers = pullers.into_iter().map(|it| it.join().expect("a client does not panic"));
        history.answers = answers.flatten().collect();
        history.moves = mover.join().expect("an upstream does not panic");
    });
    history.moves.extend(images.first_moves());
    registry.clear_faults();
    (history, restarts)
}

/// All events of the ledger.
fn events(immutag: &Immutag) -> Vec<Event> {
    let exported = immutag.cli(&["ledger", "export", "--format", "events"]).ok().stdout;
    let event = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Event {
            kind: text(&json["kind"]).expect("an event has a kind"),
            tag: text(&json["key"]["tag"]),
            digest: text(&json["observed"]["digest"]),
            why: text(&json["why"]).unwrap_or_default(),
            at: json["time-ms"].as_u64().expect("an event has a time") * 1000,
        }
    };
    exported.lines().map(event).collect()
}

fn seed() -> u64 {
    let given = std::env::var(SEED).ok();
    given.map_or_else(now, |given| given.parse().expect("the seed is a number"))
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before the year 500,000")
}

/// Lets others go on for a while, or until it is over.
fn pause(random: &mut Random, from_ms: u64, to_ms: u64, is_over: &AtomicBool) {
    let pause = Duration::from_millis(random.between(from_ms, to_ms));
    within(pause, || is_over.load(Ordering::SeqCst));
}

fn count(history: &History, kind: &str) -> usize {
    history.events.iter().filter(|event| event.kind == kind).count()
}

/// What is counted; without the first six a history proves nothing.
const KINDS: [&str; 10] = [
    "approved",
    "conflict",
    "deleted",
    "flapped",
    "followed",
    "pinned",
    "accepted",
    "extended",
    "forgotten",
    "revoked",
];

fn summary(history: &History, restarts: usize) -> String {
    let kinds: Vec<_> =
        KINDS.iter().map(|kind| format!("{} {kind}", count(history, kind))).collect();
    let told = |it: &&Decision| it.is_acknowledged;
    format!(
        "{} answers, {} moves of the upstream, {} decisions ({} acknowledged), {restarts} restarts; \
         {} events: {}",
        history.answers.len(),
        history.moves.len(),
        history.decisions.len(),
        history.decisions.iter().filter(told).count(),
        history.events.len(),
        kinds.join(", "),
    )
}

fn assert_enough_happened(history: &History, restarts: usize) {
    assert!(history.answers.len() > 500 && restarts > 2, "{}", summary(history, restarts));
    for kind in &KINDS[..6] {
        assert!(count(history, kind) > 0, "nothing was {kind}: {}", summary(history, restarts));
    }
}
