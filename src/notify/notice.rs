//! What a receiver is told, in plain words and numbers.

use serde::Serialize;

use crate::triage::Severity;

/// One message. Whoever makes it has bounded and escaped what is not our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// The same at every try, and no other message has it: by it receivers drop doubles.
    #[serde(skip)]
    pub id: String,
    /// When it happened, in milliseconds since the Unix epoch.
    #[serde(skip)]
    pub time_ms: u64,
    /// What happened: the name of an event's kind, `skipped` or `test`.
    pub kind: String,
    /// The same in a sentence or two.
    pub text: String,
    /// How bad that may be.
    pub severity: Severity,
    /// Why it is as severe as that.
    pub reasons: Vec<String>,
    /// The tag, `registry/repository:tag`.
    pub tag: Option<String>,
    /// What the ledger holds, or a person decided about.
    pub pinned: Option<String>,
    /// Since when it does, RFC 3339.
    pub pinned_since: Option<String>,
    /// The pin is so young that it may itself be the hostile one.
    pub pin_is_young: bool,
    /// What the upstream answers.
    pub observed: Option<String>,
    /// Since when it does, RFC 3339.
    pub since: Option<String>,
    /// What the rule does: `record`, `alert`, `hold`, `block`.
    pub reaction: Option<String>,
    /// The rule that decided, by its name.
    pub rule: Option<String>,
    /// Who decided, or the client's address.
    pub who: Option<String>,
    /// What stands beside the event in the ledger.
    pub why: Option<String>,
    /// What changed between the two, in a line.
    pub changes: Option<String>,
    /// Who pulled which digest.
    pub pulls: Vec<Pulled>,
    /// What a person can do about it.
    pub commands: Vec<Command>,
    /// That it happened more than once since the last message.
    pub repeats: Option<Repeats>,
    /// The event's place in the ledger.
    pub sequence: Option<u64>,
    /// The ledger, as it is now.
    pub ledger: Option<Head>,
}

/// Who pulled a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pulled {
    /// The digest.
    pub digest: String,
    /// How many pulls there were, those of clients that are not listed included.
    pub total: u64,
    /// Clients, the latest first.
    pub clients: Vec<Puller>,
}

/// A client that pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Puller {
    /// Its address.
    pub client: String,
    /// How often.
    pub count: u64,
    /// When first, RFC 3339.
    pub first: String,
    /// When last, RFC 3339.
    pub last: String,
}

/// A command that ends the matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Command {
    /// What it does.
    pub to: String,
    /// What to type.
    pub run: String,
}

/// Events that one message stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Repeats {
    /// How many, this one included.
    pub count: u64,
    /// The sequence number of the first.
    pub first_sequence: u64,
    /// When that was, RFC 3339.
    pub first: String,
}

/// A ledger's head: kept somewhere else, it proves later what the ledger held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// The ledger's id.
    pub id: String,
    /// The sequence number of its last event.
    pub size: u64,
    /// The hash of its last batch, hex.
    pub hash: String,
}
