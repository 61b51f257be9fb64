//! How alarming a change looks, and why.
//!
//! What raises it may be a digest or a claim; what leaves it low is only ever a digest, or a config
//! whose bytes were compared.

use super::attached::Presence;
use super::config::Config;
use super::findings::{Findings, Kind};
use super::image::{FieldChange, ImageChange, OriginChange};
use super::layers::{LayerChange, LayerKind};
use super::read::Read;
use super::{Case, Severity, Triage, YOUNG_PIN};
use crate::printable::Shown;

/// Names in the environment that decide what a program loads or runs before it does its work.
const LOADERS: [&str; 14] = [
    "BASH_ENV",
    "DOTNET_STARTUP_HOOKS",
    "ENV",
    "GIT_SSH_COMMAND",
    "JAVA_TOOL_OPTIONS",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NODE_OPTIONS",
    "PATH",
    "PERL5OPT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYOPT",
];

/// The label that names a revision of the source.
const REVISION: &str = "org.opencontainers.image.revision";

/// Clocks differ; a date so far ahead is none.
const AHEAD_MS: i64 = 24 * 3600 * 1000;

/// The manifests cannot even be read.
pub(super) fn unreadable(sides: &[Result<Read, Shown>; 2], findings: &mut Findings) {
    let [before, after] = sides;
    if let Err(why) = after {
        let words = format!("the new manifest is none that clients agree on: {why}");
        findings.add(Severity::High, Kind::Other, words);
    }
    if let Err(why) = before {
        let words = format!("the recorded manifest cannot be compared: {why}");
        findings.add(Severity::Medium, Kind::Other, words);
    }
}

/// What the manifest of an image says by its digests.
pub(super) fn image(platform: Option<&Shown>, change: &ImageChange, findings: &mut Findings) {
    let LayerChange { kind, same_below, before, after, claims_same_content, .. } = change.layers;
    let (severity, words) = match kind {
        LayerKind::Added => {
            let words = "on top of all that was recorded: a rebuild seldom does that";
            (Severity::High, format!("{} {words}", layers(after - before)))
        }
        LayerKind::Removed => {
            (Severity::Medium, format!("gone from the top: {}", layers(before - after)))
        }
        LayerKind::Replaced => {
            let words = "not one layer at the bottom is the recorded one: another base, or another \
                         image";
            (Severity::High, words.to_owned())
        }
        LayerKind::Same | LayerKind::Retyped if change.is_same_config => {
            let words = "the same layers and config, wrapped in another manifest";
            (Severity::Low, words.to_owned())
        }
        LayerKind::Same | LayerKind::Retyped => {
            (Severity::Low, "the same layers, with another config".to_owned())
        }
        LayerKind::Top => {
            let words = format!(
                "the same {} at the bottom, {} other above: an ordinary rebuild looks so, a \
                 careful attack too",
                layers(same_below),
                after - same_below
            );
            (Severity::Medium, words)
        }
    };
    findings.add_in(platform, severity, Kind::Layers, words);
    if claims_same_content {
        let words = "its config claims the same content, packed anew; nobody checked that";
        findings.add_in(platform, Severity::Low, Kind::Layers, words);
    }
}

fn layers(count: usize) -> String {
    if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") }
}

/// What two configs say.
pub(super) fn configs(
    platform: Option<&Shown>,
    [old, new]: [&Config; 2],
    change: &ImageChange,
    now_ms: u64,
    findings: &mut Findings,
) {
    let mut add = |severity, kind, words: String| {
        findings.add_in(platform, severity, kind, words);
    };
    if new.is_ambiguous && !old.is_ambiguous {
        let words = "the config can be read in two ways: a name stands in it twice or in another \
                     case";
        add(Severity::High, Kind::Command, words.to_owned());
    }
    if old.platform != new.platform {
        let words = "the config names another platform".to_owned();
        add(Severity::Medium, Kind::Other, words);
    }
    if change.layers.is_same() && old.diff_ids != new.diff_ids {
        let words = "the config claims other content for the same layers".to_owned();
        add(Severity::Medium, Kind::Layers, words);
    }
    let revision = |config: &Config| config.labels.get(REVISION).cloned();
    if !change.layers.is_same() && revision(old).is_some() && revision(old) == revision(new) {
        let words = "it says the same revision of its source, yet its layers are others".to_owned();
        add(Severity::Medium, Kind::Source, words);
    }
    let Some(config) = &change.config else { return };
    for field in &config.run {
        let (severity, words) = run(field, [old, new]);
        add(severity, Kind::Command, words);
    }
    for (names, verb) in [(&config.env_added, "new"), (&config.env_changed, "changed")] {
        if !names.is_empty() {
            let words = format!("{verb} in the environment: {names}");
            add(Severity::Medium, Kind::Command, words);
        }
    }
    let loaders = LOADERS
        .into_iter()
        .filter(|name| new.env.get(*name).is_some_and(|value| old.env.get(*name) != Some(value)));
    for name in loaders {
        let words = format!("{name} decides what programs load, and was set");
        add(Severity::High, Kind::Command, words);
    }
    if let Some((severity, words)) = date([old, new].map(|it| it.created.as_deref()), now_ms) {
        add(severity, Kind::Date, words);
    }
    origin(platform, &change.origin, now_ms, findings);
}

/// What a change of one field that decides how a container runs looks like.
fn run(field: &FieldChange, [old, new]: [&Config; 2]) -> (Severity, String) {
    let name = field.name.as_str();
    let now = field.after.as_ref().map_or_else(|| "not set".to_owned(), Shown::quoted);
    match name {
        "User" if new.runs_as_root() && !old.runs_as_root() => {
            let before = field.before.as_ref().map_or_else(String::new, Shown::quoted);
            (Severity::High, format!("it runs as root now, before as {before}"))
        }
        "Cmd" | "Entrypoint" | "Healthcheck" | "OnBuild" | "Shell" => {
            (Severity::High, format!("{name} changed and is now {now}"))
        }
        _ => (Severity::Medium, format!("{name} changed and is now {now}")),
    }
}

/// What a change of the date looks like.
fn date([before, after]: [Option<&str>; 2], now_ms: u64) -> Option<(Severity, String)> {
    let ms = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let Some(after) = after else {
        let words = "it no longer says when it was built";
        return before.map(|_| (Severity::Medium, words.to_owned()));
    };
    let shown = Shown::new(after).quoted();
    let Some(after_ms) = ms(after) else {
        return Some((
            Severity::High,
            format!("it says it was built at {shown}, which is no date"),
        ));
    };
    if after_ms > i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_add(AHEAD_MS) {
        return Some((Severity::High, format!("it says it was built at {shown}, in the future")));
    }
    let (before, before_ms) = before.and_then(|it| ms(it).map(|ms| (it, ms)))?;
    (after_ms < before_ms).then(|| {
        let before = Shown::new(before).quoted();
        let words = format!("it says it was built at {shown}, before what was recorded ({before})");
        (Severity::High, words)
    })
}

/// What two manifests, or configs, say of their origin.
pub(super) fn origin(
    platform: Option<&Shown>,
    changes: &[OriginChange],
    now_ms: u64,
    findings: &mut Findings,
) {
    for OriginChange { field: FieldChange { name, before, after }, .. } in changes {
        let short = name.as_str().trim_start_matches("org.opencontainers.image.");
        if short == "created" {
            let both = [before, after].map(|it| it.as_ref().map(Shown::as_str));
            if let Some((severity, words)) = date(both, now_ms) {
                findings.add_in(platform, severity, Kind::Date, words);
            }
        }
        let (Some(before), Some(severity)) = (before, severity_of(short)) else { continue };
        let words = match after {
            Some(after) => {
                format!("its {short} is said to be {}, before {}", after.quoted(), before.quoted())
            }
            None => format!("it no longer says its {short}, before {}", before.quoted()),
        };
        findings.add_in(platform, severity, Kind::Source, words);
    }
}

/// Of a claim of that name which changed; that revision and date change is what rebuilds do.
fn severity_of(short: &str) -> Option<Severity> {
    match short {
        "source" => Some(Severity::High),
        "base.digest" | "base.name" | "version" => Some(Severity::Medium),
        _ => None,
    }
}

/// What is seen in the whole, after all else.
pub(super) fn whole(case: &Case<'_>, triage: &Triage, findings: &mut Findings) {
    let is_other = findings.worst() > Severity::Low;
    if let Some(signatures) = case.signatures {
        let lost = signatures.lost();
        if !lost.is_empty() {
            let severity = if is_other { Severity::High } else { Severity::Medium };
            let words = format!("what was recorded had what this has not: {}", lost.join(", "));
            findings.add(severity, Kind::Vouching, words);
        }
        if signatures.after.has_nothing() && lost.is_empty() {
            let words = "nothing is attached to the new manifest: no signature, no attestation";
            findings.add(Severity::Low, Kind::Vouching, words);
        }
        if signatures.after.signature == Presence::Present {
            let words = "it has a signature; nobody checked whose";
            findings.add(Severity::Low, Kind::Vouching, words);
        }
    }
    let kinds = findings.high_kinds();
    if kinds.len() > 1 {
        let words = format!("several such signs at once: {}", kinds.join(", "));
        findings.add(Severity::Critical, Kind::Other, words);
    }
    if case.is_young {
        let worst = findings.worst();
        let severity = if worst > Severity::Low { worst.worse() } else { worst };
        findings.add(severity, Kind::Other, YOUNG_PIN);
    }
    let is_silent = triage.images.is_empty() && triage.platforms.is_none();
    if findings.is_empty() && !is_silent {
        let words = "the same content, with other words around it";
        findings.add(Severity::Low, Kind::Other, words);
    }
}
