//! What an event means, in a sentence; how bad it may be; and the commands that end it.

use crate::event::{Event, EventKind};
use crate::notify::Command;
use crate::oci::Digest;
use crate::triage::Severity;

/// Where the author of a command puts a reason.
const REASON: &str = "--reason 'WHY'";

/// What the event's tag stood for right after it, as far as it changes what is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: what was imported is not confirmed yet.
    Claimed,
    /// A pin, or what is no matter here.
    #[default]
    Pinned,
    /// A pin that was too young to outlive its tag's deletion.
    TakenBack,
}

/// What happened, in a sentence or two. Tags and digests are of a form that needs no escape.
pub(super) fn sentence(event: &Event, reaction: Option<&str>, standing: Standing) -> String {
    let Event { kind, .. } = event;
    let tag = event.key.as_ref().map_or_else(|| "the ledger".to_owned(), ToString::to_string);
    let (pinned, observed) = (named(event.pinned), named(event.observed_digest()));
    let moved = format!("the upstream answers {observed}, the ledger holds {pinned}");
    let effect = effect(reaction);
    match kind {
        kind if standing == Standing::Claimed && is_open(*kind) => format!(
            "{tag} is not what was imported: the upstream answers {observed}, imported was \
             {pinned}. Clients are refused."
        ),
        EventKind::Accepted => {
            format!("{tag}: {observed} stood long enough and is the pin now, by the rule.")
        }
        EventKind::Approved => format!("{tag}: a person approved {observed}: it is the pin."),
        EventKind::Bypassed => format!(
            "{tag}: a client asked for {observed} right after it was refused to it: it had that \
             from the registry itself, and goes round immutag."
        ),
        EventKind::Confirmed => format!("{tag}: the upstream agrees with what was imported."),
        EventKind::Conflict => format!("{tag} moved: {moved}.{effect}"),
        EventKind::Deleted => {
            let effect = of_deletion(event, standing);
            format!("{tag}: the upstream says that the tag is gone.{effect}")
        }
        EventKind::Downgraded => format!("{tag}: the upstream answers a part of the pinned index."),
        EventKind::Extended => format!("{tag}: the pinned index gained platforms."),
        EventKind::Flapped => {
            format!("{tag} moved again, after it had been back: {moved}.{effect}")
        }
        EventKind::Followed => {
            format!(
                "{tag}: the pin followed the upstream from {pinned} to {observed}, by the rule."
            )
        }
        EventKind::Forgotten => {
            format!("{tag}: a person made the ledger forget it: the next answer is a first sight.")
        }
        EventKind::Healed => format!("{tag}: the upstream is back at the pin, {pinned}."),
        EventKind::Imported => format!("{tag}: a person imported {pinned}."),
        EventKind::Invalid => format!("{tag}: the upstream's answer broke a rule: see why."),
        EventKind::Observed => format!("{tag}: a new digest, {observed}."),
        EventKind::Pending => format!("{tag}: it is not served before it is old enough."),
        EventKind::Pinned => format!("{tag}: first sight, {observed} is the pin."),
        EventKind::Rejected => {
            format!("{tag}: a person rejected {observed}: it is never served for this tag.")
        }
        EventKind::Repeated => format!("{tag} is still moved: {moved}.{effect}"),
        EventKind::Revoked => format!("A person denied {pinned} everywhere."),
        EventKind::RolledBack => {
            format!("{tag} moved to a digest that it had before: {moved}.{effect}")
        }
        EventKind::Unrevoked => format!("A person took back that {pinned} is denied."),
        EventKind::Created
        | EventKind::Flooded
        | EventKind::LedgerImported
        | EventKind::Restored
        | EventKind::RollbackAccepted => of_ledger(*kind).to_owned(),
    }
}

/// What happened to the ledger, rather than to a tag.
const fn of_ledger(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "The ledger was created.",
        EventKind::Flooded => "An upstream has no more new tags taken in this hour: see why.",
        EventKind::LedgerImported => "A person imported another ledger: see why.",
        EventKind::Restored => "A person restored the ledger from a backup: see why.",
        _ => {
            "A person accepted a ledger that is older than its anchor: what was recorded since is \
             lost."
        }
    }
}

fn named(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string())
}

/// Whether a conflict is open by such an event, with what was imported as with a pin.
const fn is_open(kind: EventKind) -> bool {
    matches!(kind, EventKind::Conflict | EventKind::Flapped | EventKind::Repeated)
}

/// What clients get of a tag that is gone.
fn of_deletion(event: &Event, standing: Standing) -> &'static str {
    match standing {
        Standing::TakenBack => {
            " That was so soon after its first sight that it may have been taken back: clients are \
             refused."
        }
        Standing::Pinned if event.pinned.is_some() => " Clients get the recorded one.",
        Standing::Claimed | Standing::Pinned => "",
    }
}

/// What clients get while a conflict is open.
fn effect(reaction: Option<&str>) -> &'static str {
    match reaction {
        Some("alert") => " Clients get the new one.",
        Some("block") => " Clients are refused.",
        Some("hold") => " Clients get the recorded one.",
        _ => "",
    }
}

/// How bad an event may be, when nothing more is known of it.
pub(super) const fn severity(kind: EventKind) -> Severity {
    match kind {
        EventKind::Bypassed => Severity::Critical,
        EventKind::Conflict
        | EventKind::Flapped
        | EventKind::Followed
        | EventKind::Repeated
        | EventKind::Restored
        | EventKind::RollbackAccepted
        | EventKind::RolledBack => Severity::High,
        EventKind::Accepted
        | EventKind::Deleted
        | EventKind::Flooded
        | EventKind::Forgotten
        | EventKind::Invalid
        | EventKind::LedgerImported
        | EventKind::Revoked
        | EventKind::Unrevoked => Severity::Medium,
        _ => Severity::Low,
    }
}

/// Whether the event is about two manifests, of which the second came in the first one's place.
pub(super) const fn is_move(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Accepted
            | EventKind::Conflict
            | EventKind::Flapped
            | EventKind::Followed
            | EventKind::Repeated
            | EventKind::RolledBack
    )
}

/// What a person can do about it, with the reference and the digests filled in.
pub(super) fn commands(event: &Event, standing: Standing) -> Vec<Command> {
    let Some(key) = &event.key else { return Vec::new() };
    let command = |to: &str, run: String| Command { to: to.to_owned(), run };
    let mut commands = vec![command("look", format!("immutag ledger show {key}"))];
    let observed = event.observed_digest();
    if is_move(event.kind) && standing != Standing::Claimed {
        commands.push(command("see what changed", format!("immutag ledger diff {key}")));
    }
    match (event.kind, event.pinned, observed) {
        (EventKind::Accepted | EventKind::Followed, Some(pinned), Some(observed)) => {
            commands.push(command(
                "go back, and deny the new one everywhere",
                format!(
                    "immutag ledger approve {key} --digest {pinned} --revoke {observed} {REASON}"
                ),
            ));
        }
        (EventKind::Deleted, pinned, _) => {
            let approve =
                |pinned| format!("immutag ledger approve {key} --digest {pinned} {REASON}");
            let pinned = pinned.filter(|_| standing == Standing::TakenBack);
            commands.extend(pinned.map(|it| command("serve the recorded one", approve(it))));
            let deny = |pinned| format!("immutag ledger revoke {pinned} {REASON}");
            let to = "deny the recorded one everywhere, since it is hostile";
            commands.extend(pinned.map(|pinned| command(to, deny(pinned))));
            commands.push(command(
                "take the next answer for a first sight",
                format!("immutag ledger forget {key} {REASON}"),
            ));
        }
        (EventKind::Bypassed, ..) => commands.push(command(
            "find, on the client's host, the setting that is open",
            "immutag doctor".to_owned(),
        )),
        (kind, _, Some(observed)) if is_move(kind) && standing == Standing::Claimed => {
            commands.push(command(
                "take what the upstream answers",
                format!("immutag ledger approve {key} --digest {observed} {REASON}"),
            ));
            commands.push(command(
                "drop what was imported: the next answer is a first sight",
                format!("immutag ledger forget {key} {REASON}"),
            ));
        }
        (kind, pinned, Some(observed)) if is_move(kind) => {
            commands.extend(decisions(&key.to_string(), pinned, &observed, &command));
        }
        _ => {}
    }
    commands
}

fn decisions(
    key: &str,
    pinned: Option<Digest>,
    observed: &Digest,
    command: &dyn Fn(&str, String) -> Command,
) -> Vec<Command> {
    let approve = format!("immutag ledger approve {key} --digest {observed}");
    let mut commands = vec![
        command("take the new one", format!("{approve} {REASON}")),
        command(
            "keep the recorded one",
            format!("immutag ledger reject {key} --digest {observed} {REASON}"),
        ),
        command(
            "deny the new one everywhere",
            format!("immutag ledger revoke {observed} {REASON}"),
        ),
    ];
    commands.extend(pinned.map(|pinned| {
        command(
            "take the new one, since the recorded one is hostile",
            format!("{approve} --revoke {pinned} {REASON}"),
        )
    }));
    commands.push(command(
        "forget the tag: the next answer is a first sight",
        format!("immutag ledger forget {key} {REASON}"),
    ));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Draft;

    #[test]
    fn every_kind_has_a_sentence_that_names_what_it_is_about() {
        let key = crate::pin::PinKey {
            registry: "a.example".parse().unwrap(),
            repository: "app".parse().unwrap(),
            tag: "1.0.0".parse().unwrap(),
        };
        for kind in EventKind::ALL {
            let event = Draft::new(kind, Some(key.clone())).at(1, 1);
            let sentence = sentence(&event, Some("hold"), Standing::Pinned);
            assert!(sentence.ends_with('.') && sentence.len() > 20, "{sentence}");
            if is_move(kind) {
                assert!(sentence.contains("a.example/app:1.0.0"), "{sentence}");
            }
        }
    }
}
