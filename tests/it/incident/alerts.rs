//! What the operator is told, and the commands that come with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::{Incident, reference};
use crate::support::receiver::{KEY, assert_signed};
use crate::support::wait::within;

/// How long an alert may take: an interval of the audit, and a machine that is busy.
const A_WHILE: Duration = Duration::from_secs(150);

/// A message that came.
pub(super) struct Alert {
    /// Its body.
    pub(super) event: Value,
    /// When it was seen to be here.
    at: Instant,
    /// The same by the clock of the wall, to be held against the event's.
    at_wall: Timestamp,
}

impl Alert {
    /// `conflict`.
    pub(super) fn kind(&self) -> &str {
        self.event["data"]["kind"].as_str().expect("a kind")
    }

    /// The tag that it is about.
    pub(super) fn tag(&self) -> &str {
        let subject = self.event["subject"].as_str().unwrap_or_default();
        subject.rsplit_once(':').map_or("", |(_, tag)| tag)
    }

    /// The text of a member of its `data`.
    pub(super) fn text(&self, member: &str) -> &str {
        self.event["data"][member].as_str().unwrap_or_default()
    }

    /// The clients that it says had the digest, `127.0.0.11`.
    pub(super) fn clients(&self, digest: &str) -> Vec<&str> {
        let pulls = self.event["data"]["pulls"].as_array().expect("a list");
        let of_it = pulls.iter().filter(|pulled| pulled["digest"] == digest);
        let clients = of_it.flat_map(|pulled| pulled["clients"].as_array().expect("a list"));
        let mut names: Vec<_> = clients.filter_map(|client| client["client"].as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The command that it gives for this purpose, as words after `immutag`, with a reason for WHY.
    #[track_caller]
    fn command(&self, to: &str, why: &str) -> Vec<String> {
        let commands = self.event["data"]["commands"].as_array().expect("a list");
        let found = commands.iter().find(|command| command["to"] == to);
        let run = found.unwrap_or_else(|| panic!("nothing to {to}: {:#}", self.event));
        let run = run["run"].as_str().expect("a text").strip_prefix("immutag ").expect("it is us");
        run.split(' ').map(|word| if word == "'WHY'" { why } else { word }.to_owned()).collect()
    }
}

impl Incident {
    /// Waits for that many more messages, whatever they are.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the runbook is made of it")]
    pub(super) fn alerts(&mut self, count: usize) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = Vec::new();
        within(A_WHILE, || {
            let taken = self.receiver.taken();
            let new = taken.into_iter().skip(self.seen + alerts.len());
            alerts.extend(new.map(|event| Alert {
                event,
                at: Instant::now(),
                at_wall: Timestamp::now(),
            }));
            alerts.len() >= count
        });
        self.seen += alerts.len();
        let told: Vec<_> = alerts.iter().map(|it| format!("{} {}", it.kind(), it.tag())).collect();
        assert_eq!(alerts.len(), count, "{told:?}");
        let first = &alerts[0].event;
        println!("{} alerts: {told:?}; the first: {first:#}\n", alerts.len());
        self.receiver.got().iter().for_each(|request| assert_signed(request, KEY));
        alerts
    }

    /// When an alert is there, all else is too: the event in the ledger, the counters, and the line
    /// in the log that wakes somebody and says how bad it looks.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "the runbook is made of it")]
    pub(super) fn assert_seen_elsewhere(&self, conflict: &Alert) {
        let tag = conflict.tag();
        let history = self.history(tag);
        assert!(history.iter().any(|event| event.starts_with("conflict ")), "{tag}: {history:?}");
        assert!(self.immutag.metric("immutag_conflicts_total", "hold") > 0.0);
        assert!(self.immutag.metric("immutag_conflicts_open", "") > 0.0);
        let lines = self.lines(tag, "a tag moved: the upstream answers another digest");
        let line = lines.iter().find(|line| line["observed"] == conflict.text("observed"));
        let line = line.unwrap_or_else(|| panic!("{tag} is not in the log: {lines:?}"));
        println!("{line}\n");
        assert_eq!((&line["level"], &line["event"]), (&"ERROR".into(), &"conflict".into()));
        assert!(matches!(line["severity"].as_str(), Some("high" | "critical")), "{line}");
        let (written, logged) = (stamp(&conflict.event["time"]), stamp(&line["timestamp"]));
        assert!(written <= logged, "the ledger comes first");
    }

    /// The lines of the log that say this of the tag.
    fn lines(&self, tag: &str, words: &str) -> Vec<Value> {
        let log = self.immutag.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["tag"] == tag && line["message"] == words).collect()
    }

    /// Does what the alert says is to be done for this purpose.
    #[track_caller]
    pub(super) fn follow(&self, alert: &Alert, to: &str, why: &str) -> String {
        let words = alert.command(to, why);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--table"]).collect();
        self.types(&words).ok().stdout
    }
}

/// Says how long each alert took from the moment of its tag, and from its event in the ledger.
#[expect(clippy::print_stdout, reason = "the runbook is made of it")]
pub(super) fn print_seconds(what: &str, since: &BTreeMap<&str, Instant>, alerts: &[Alert]) {
    for alert in alerts {
        let seconds = alert.at.duration_since(since[alert.tag()]).as_secs_f64();
        let behind = alert.at_wall.duration_since(stamp(&alert.event["time"])).as_millis();
        let about = format!("{} {}", alert.kind(), reference(alert.tag()));
        println!(
            "{seconds:5.1} s from {what} to the alert, {behind} ms of it from the event: {about}"
        );
    }
}

/// A time as RFC 3339 has it.
fn stamp(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).expect("a time")
}
