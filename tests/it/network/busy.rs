//! Registries that say "not now", or now and then. `faults.md`, N-03 and N-04.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::{FAILS, REGISTRY, Stage};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::Answer;
use crate::support::server::Reply;
use crate::support::wait::eventually;

/// How many clients ask in a storm, each for a tag of its own.
const CLIENTS: usize = 200;

impl Stage {
    /// Asks for a tag that nobody knows, and that is not there.
    fn ask(&self, number: usize) -> Answer {
        self.immutag.direct_manifest(REGISTRY, "cold", &format!("9.9.{number}"))
    }

    /// Asks as many clients would at once; their answers.
    fn storm(&self) -> Vec<Answer> {
        const THREADS: usize = 10;
        std::thread::scope(|scope| {
            let ask =
                |first: usize| (first..CLIENTS).step_by(THREADS).map(|it| self.ask(it)).collect();
            let threads: Vec<_> =
                (0..THREADS).map(|first| scope.spawn(move || -> Vec<_> { ask(first) })).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it asks")).collect()
        })
    }

    /// Asks until the upstream is left alone.
    #[track_caller]
    fn until_left_alone(&self) {
        let mut number = 0;
        eventually("an open breaker", || {
            number += 1;
            is_left_alone(&self.ask(number))
        });
    }
}

fn is_left_alone(answer: &Answer) -> bool {
    answer.text().contains("it failed repeatedly and is not asked for a moment")
}

/// A 429 with this `Retry-After`.
fn limited(retry_after: Option<&str>) -> Fault {
    let reply = Reply::error(429, "TOOMANYREQUESTS");
    Fault::Replace(Box::new(match retry_after {
        Some(text) => reply.field("Retry-After", text),
        None => reply,
    }))
}

/// The time in so many seconds, as HTTP writes it.
fn date(ahead_s: u64) -> String {
    let at = Timestamp::try_from(SystemTime::now() + Duration::from_secs(ahead_s));
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&at.expect("a time of today"));
    text.expect("after the year 0")
}

#[test]
fn a_rate_limit_is_handed_on_with_a_time_that_makes_sense_and_never_asked_again() {
    let stage = Stage::plain();
    for (text, seconds) in [
        (Some("0".to_owned()), 1..=1),
        (Some("7".to_owned()), 7..=7),
        (Some("86400".to_owned()), 3600..=3600),
        (Some("99999999999999999999".to_owned()), 3600..=3600),
        (Some(date(600)), 500..=600),
        (Some(date(864_000)), 3600..=3600),
        (Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()), 1..=1),
        (Some("-1".to_owned()), 30..=30),
        (Some("soon".to_owned()), 30..=30),
        (None, 30..=30),
    ] {
        stage.registry.fault("* manifests/", limited(text.as_deref()));
        stage.registry.forget_requests();
        let answer = stage.immutag.direct_manifest(REGISTRY, "cold", "1.0.0");
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.field("immutag-reason"), Some("UPSTREAM_RATE_LIMITED"));
        let told = answer.field("retry-after").and_then(|told| told.parse::<u64>().ok());
        assert!(told.is_some_and(|told| seconds.contains(&told)), "{text:?}: {told:?}");
        assert_eq!(stage.registry.count("* cold/manifests/1.0.0"), 1, "{text:?}");
        stage.assert_known_goes_on(false);
        stage.registry.clear_faults();
    }
    stage.recovers();
}

#[test]
fn a_storm_of_503_is_not_made_worse_and_what_is_known_goes_on() {
    let stage = Stage::plain();
    stage.registry.fault("* manifests/", Fault::Status(503));
    stage.registry.forget_requests();
    let answers = stage.storm();
    for answer in &answers {
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.field("immutag-reason"), Some("UPSTREAM_UNAVAILABLE"));
    }
    // A retry for each tenth request, beside a reserve of ten; and the breaker spares far more.
    let asked = stage.registry.requests().len();
    assert!(asked <= CLIENTS + CLIENTS / 10, "{asked} requests for {CLIENTS}");
    assert!(answers.iter().any(is_left_alone));
    stage.until_left_alone();
    let alone = stage.ask(0);
    assert!(alone.field("retry-after").is_some_and(|told| told != "0"), "{:?}", alone.fields);
    stage.assert_known_goes_on(false);
    stage.assert_cold_is_refused(&FAILS);
    stage.registry.clear_faults();
    stage.recovers();
}

#[test]
fn one_probe_at_a_time_finds_out_whether_an_upstream_is_back_and_nobody_rushes_in() {
    let stage = Stage::plain();
    stage.registry.fault("* manifests/", Fault::Status(500));
    stage.until_left_alone();
    let gate = Gate::closed();
    stage.registry.clear_faults();
    stage.registry.fault("* manifests/", Fault::Hold(gate.clone()));
    stage.registry.forget_requests();
    std::thread::scope(|scope| {
        // One of them becomes the probe, which waits at the gate; all others are refused meanwhile.
        let probes: Vec<_> = (0..20)
            .map(|number| {
                let stage = &stage;
                scope.spawn(move || {
                    let mut last = stage.ask(number);
                    while is_left_alone(&last) && stage.registry.requests().is_empty() {
                        last = stage.ask(number);
                    }
                    last
                })
            })
            .collect();
        gate.wait_for(1);
        for number in 100..150 {
            let answer = stage.ask(number);
            assert!(is_left_alone(&answer), "{}", answer.text());
        }
        assert_eq!(stage.registry.requests().len(), 1);
        gate.open();
        let answered: Vec<_> = probes.into_iter().map(|it| it.join().unwrap().status).collect();
        assert!(answered.contains(&404), "{answered:?}");
    });
    // It is back: many clients of one tag are one request.
    stage.registry.clear_faults();
    stage.registry.forget_requests();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let answer = stage.immutag.direct_manifest(REGISTRY, "cold", "1.0.0");
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    // Whoever came late finds the pin, and lets it be checked.
    assert!(stage.registry.count("GET cold/manifests/1.0.0") <= 2);
    stage.recovers();
}

#[test]
fn an_upstream_that_comes_and_goes_is_asked_little_while_it_is_away() {
    let stage = Stage::plain();
    for _ in 0..3 {
        stage.registry.fault("* manifests/", Fault::Status(503));
        stage.registry.forget_requests();
        stage.until_left_alone();
        stage.storm();
        let asked = stage.registry.requests().len();
        // Ten failures open it, some are under way then; after that one probe for each second.
        assert!(asked <= 10 + 10 + CLIENTS / 10, "{asked}");
        stage.assert_known_goes_on(false);
        stage.registry.clear_faults();
        eventually("it is asked again", || stage.ask(0).status == 404);
    }
    stage.recovers();
}
