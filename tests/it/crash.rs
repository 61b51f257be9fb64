//! A fault at each system call of the pin path: the process is killed there, the call fails with
//! EIO, or with ENOSPC. Which calls there are, a recording tells. `faults.md`, D-03.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use self::scenes::{Play, Scene};
use crate::support::process::have;
use crate::support::strace::{Called, Fault, Strace, calls, has_struck, threads};

mod scenes;

const REGISTRY: &str = "registry.example";

/// What strikes each call.
const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Eio, Fault::Enospc];

/// The threads whose calls are struck, and how many of each.
#[derive(Clone, Copy)]
struct Extent {
    scene: Scene,
    /// Only of threads whose names begin so.
    threads: &'static str,
    /// Of a call that is made many times, only the first two and the last; only calls that may fail;
    /// and of [`ASKS`] only EIO.
    is_brief: bool,
}

/// In every run of the tests: what the one thread does that writes the log.
const SHORT: [Extent; 5] = [
    brief(Scene::Approve, WRITER),
    brief(Scene::Conflict, WRITER),
    brief(Scene::Extend, WRITER),
    brief(Scene::FirstSight, WRITER),
    brief(Scene::Reserve, WRITER),
];

/// In the long form: every call of every thread; to fill a segment takes seconds, so there only the
/// ledger's, in brief.
const LONG: [Extent; 6] = [
    whole(Scene::Approve, ""),
    whole(Scene::Conflict, ""),
    whole(Scene::Extend, ""),
    whole(Scene::FirstSight, ""),
    whole(Scene::Reserve, ""),
    brief(Scene::Rotate, "ledger"),
];

/// Changes nothing and takes no space: to be killed there is to be killed before the write that
/// comes next.
const ASKS: &str = "fstat";

/// The one thread that writes the log.
const WRITER: &str = "ledger-writer";

const fn brief(scene: Scene, threads: &'static str) -> Extent {
    Extent { scene, threads, is_brief: true }
}

const fn whole(scene: Scene, threads: &'static str) -> Extent {
    Extent { scene, threads, is_brief: false }
}

/// How long the long form goes on.
const LONG_PATIENCE: Duration = Duration::from_mins(8);

/// As many instances at once as there are cores on the smallest machine.
const AT_ONCE: usize = 2;

/// One fault at one call.
#[derive(Clone)]
struct Case {
    scene: Scene,
    called: Called,
    /// Which of the thread's calls of this name, from 1.
    number: usize,
    fault: Fault,
}

impl Case {
    /// Whether the client must not be told of the pin: no restart shows that a failed sync lost it,
    /// since what is in memory stays there.
    fn must_refuse(&self) -> bool {
        let Self { scene, called: Called { thread, .. }, fault, .. } = self;
        *scene == Scene::FirstSight && thread == WRITER && *fault != Fault::Kill
    }
}

impl Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scene, called: Called { thread, name, times, .. }, number, fault } = self;
        write!(out, "{scene:?}: {fault:?} at {name} {number} of {times} of {thread}")
    }
}

#[test]
fn no_acknowledged_pin_is_lost_by_a_fault_at_any_system_call() {
    if !have(&["strace"]) {
        return;
    }
    let extents: &[Extent] = if is_long() { &LONG } else { &SHORT };
    let cases = evenly(&extents.iter().flat_map(cases).collect::<Vec<_>>());
    let all = cases.len();
    let todo = Mutex::new(VecDeque::from(cases));
    let end = Instant::now() + patience();
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next(&todo, end) {
                    let has_struck = strike(&case);
                    done.lock().expect("no holder panics").push((case, has_struck));
                }
            });
        }
    });
    let done = done.into_inner().expect("no holder panics");
    println!("{}", table(&done));
    println!("{} of {all} faults were tried, evenly over all of them.", done.len());
    assert_struck(&done);
}

/// The next one, unless the time is over.
fn next(todo: &Mutex<VecDeque<Case>>, end: Instant) -> Option<Case> {
    if Instant::now() > end {
        return None;
    }
    todo.lock().expect("no holder panics").pop_front()
}

fn is_long() -> bool {
    std::env::var_os("IMMUTAG_TEST_LONG").is_some()
}

/// How long faults are tried. The long form has some 1,500; 519 were tried in eight minutes on two
/// busy cores, so all of them should take about 25, in which nothing else may run:
/// `IMMUTAG_TEST_LONG=whole` tries them.
fn patience() -> Duration {
    let is_whole = std::env::var("IMMUTAG_TEST_LONG").is_ok_and(|long| long == "whole");
    if is_long() && !is_whole { LONG_PATIENCE } else { Duration::from_hours(1) }
}

/// In such an order that those up to any of them are spread evenly over all: steps of the golden
/// ratio's share, made free of common factors.
fn evenly(cases: &[Case]) -> Vec<Case> {
    let count = cases.len();
    let is_shared = |step: usize, it| step.is_multiple_of(it) && count.is_multiple_of(it);
    let divides = |step: usize| (2..=step).any(|it| is_shared(step, it));
    let first = (count * 618 / 1000).max(1);
    let step = (first..first + count).find(|step| !divides(*step)).unwrap_or(1);
    (0..count).map(|number| cases[number * step % count].clone()).collect()
}

/// What a recording of the scene says that there is to strike.
fn cases(extent: &Extent) -> Vec<Case> {
    let Extent { scene, threads: kind, is_brief } = *extent;
    let called = record(scene).into_iter().filter(|called| called.thread.starts_with(kind));
    let mut cases = Vec::new();
    for called in called {
        for number in 1..=called.times {
            let is_alike = number > 2 && number < called.times;
            let is_left_out = is_brief && (is_alike || !called.may_fail);
            for fault in FAULTS {
                let may_be = fault == Fault::Kill || called.may_fail;
                let is_like_the_next = is_brief && called.name == ASKS && fault != Fault::Eio;
                if may_be && !is_left_out && !is_like_the_next {
                    cases.push(Case { scene, called: called.clone(), number, fault });
                }
            }
        }
    }
    cases
}

fn record(scene: Scene) -> Vec<Called> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let out = folder.path().join("calls");
    let mut play = Play::new(scene);
    let id = play.immutag.id();
    let strace = Strace::record(id, &out);
    play.act(|| false);
    let names: BTreeMap<_, _> = threads(id).into_iter().collect();
    strace.end();
    let called = calls(&out, &names);
    let makes = |name: &str| called.iter().any(|it| it.thread == WRITER && it.name == name);
    assert!(makes("pwrite64") && makes("fdatasync"), "{scene:?} writes nothing: {called:?}");
    assert!(scene != Scene::Rotate || makes("openat"), "no new segment: {called:?}");
    called
}

/// Plays the case, and holds what comes after a restart against what clients were told. Whether
/// the fault came about: threads that share their work do not share it alike each time.
fn strike(case: &Case) -> bool {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let out = folder.path().join("calls");
    let mut play = Play::new(case.scene);
    let Case { called, number, fault, .. } = case;
    let id = play.immutag.id();
    let strace = Strace::inject(id, &called.thread, &called.name, *fault, *number, &out);
    play.act(|| has_struck(&out));
    strace.end();
    let is_told = play.lawful.get("1.0.0").is_some_and(|lawful| !lawful.is_empty());
    assert!(!(case.must_refuse() && is_told), "{case}: a pin was served that may not be durable");
    play.move_upstream();
    play.immutag.restart();
    play.assert_nothing_lost(&case.to_string());
    has_struck(&out)
}

/// What was struck, by scene, thread and call: how often of how many times.
fn table(done: &[(Case, bool)]) -> String {
    let mut rows = BTreeMap::<String, (usize, BTreeMap<Fault, (usize, usize)>)>::new();
    for (Case { scene, called, fault, .. }, has_struck) in done {
        let Called { thread, name, times, .. } = called;
        let scene = format!("{scene:?}");
        let row = rows.entry(format!("{scene:<11} {thread:<16} {name:<16}")).or_default();
        row.0 = *times;
        let (struck, tried) = row.1.entry(*fault).or_default();
        *struck += usize::from(*has_struck);
        *tried += 1;
    }
    let mut text = format!("{:<45} calls", "scene       thread           call");
    text.extend(FAULTS.map(|fault| format!("{:>9}", format!("{fault:?}"))));
    for (row, (times, faults)) in &rows {
        let _ = write!(text, "\n{row} {times:>5}");
        for fault in FAULTS {
            let cell = faults.get(&fault).map(|(struck, tried)| format!("{struck}/{tried}"));
            let _ = write!(text, "{:>9}", cell.as_deref().unwrap_or("-"));
        }
    }
    let struck = done.iter().filter(|(_, has_struck)| *has_struck).count();
    let tried = done.len();
    text + &format!(
        "\n{tried} faults tried, {struck} struck; after each restart no pin was lost that a client \
         was told of.\nstruck/tried. -: a call that waits, wakes a thread or asks for memory does \
         not fail, but for a kill.\nWithout IMMUTAG_TEST_LONG=1: only the writer's calls, without \
         those that do not fail; the first two and the last of many; fstat by EIO alone; no change \
         of segments. With it, a change of segments is struck so; what fits into eight minutes, and \
         with IMMUTAG_TEST_LONG=whole all."
    )
}

/// The writer does the same each time, so every fault in it must have come about, but for those
/// where it waits. Others share their work by chance, and new threads begin: of these most.
fn assert_struck(done: &[(Case, bool)]) {
    let is_sure = |case: &Case| case.called.thread == WRITER && case.called.may_fail;
    let missed: Vec<_> = done.iter().filter(|(_, has_struck)| !has_struck).collect();
    let sure: Vec<_> = missed.iter().filter(|(case, _)| is_sure(case)).collect();
    let names: Vec<_> = sure.iter().map(|(case, _)| case.to_string()).collect();
    assert!(names.is_empty(), "these did not come about: {names:#?}");
    assert!(missed.len() * 2 < done.len(), "{} of {} missed", missed.len(), done.len());
}

#[test]
fn in_an_even_order_every_case_stands_once_and_the_first_are_from_everywhere() {
    let of = |times| Called { thread: "t".into(), name: "write".into(), times, may_fail: true };
    for count in [1, 2, 3, 10, 1000, 1024] {
        let case = |number| {
            let (scene, fault) = (Scene::Approve, Fault::Kill);
            Case { scene, called: of(count), number, fault }
        };
        let order = evenly(&(0..count).map(case).collect::<Vec<_>>());
        let mut numbers: Vec<_> = order.iter().map(|case| case.number).collect();
        let quarters: BTreeSet<_> = numbers.iter().take(8).map(|it| it * 4 / count).collect();
        assert!(count < 1000 || quarters.len() == 4, "{numbers:?}");
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    }
}
