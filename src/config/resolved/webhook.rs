//! Whom events are told.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::event::EventKind;
use crate::secret::Secret;
use crate::triage::Severity;

/// A receiver that is told of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Its name: unique, 1 to 32 of `a-z`, `0-9` and `-`, so it is fit for a file and a label.
    pub name: String,
    /// Where messages are sent. Its path may be a password (Slack's is): never shown.
    pub url: Secret,
    /// Http is allowed for it.
    pub plain_http: bool,
    /// Private and loopback addresses are allowed for it.
    pub allow_private: bool,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The outbound proxy; `None`: from the environment; `Some("")`: none.
    pub proxy: Option<String>,
    /// What a message looks like.
    pub format: WebhookFormat,
    /// The keys that messages are signed with, each `whsec_<base64>`, valid; empty: not signed.
    pub secrets: Vec<Secret>,
    /// The kinds of events that are told.
    pub events: Vec<EventKind>,
    /// What is less severe is not told.
    pub min_severity: Severity,
    /// How long one try may take, from connecting to the answer's header.
    pub timeout: Duration,
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookFormat {
    /// `CloudEvents` 1.0, JSON, structured mode.
    #[default]
    Cloudevents,
    /// `{"text": …}`, as Slack and Mattermost take it.
    Slack,
}

impl WebhookFormat {
    /// The name, as the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloudevents => "cloudevents",
            Self::Slack => "slack",
        }
    }
}

impl WebhookConfig {
    /// What is told unless it is configured: all that asks somebody to act, or says that somebody
    /// did. Not the daily round (`pinned`, `observed`, `repeated`, …).
    pub const DEFAULT_EVENTS: [EventKind; 17] = [
        EventKind::Conflict,
        EventKind::Healed,
        EventKind::Flapped,
        EventKind::RolledBack,
        EventKind::Deleted,
        EventKind::Followed,
        EventKind::Accepted,
        EventKind::Approved,
        EventKind::Rejected,
        EventKind::Revoked,
        EventKind::Unrevoked,
        EventKind::Forgotten,
        EventKind::RollbackAccepted,
        EventKind::Bypassed,
        EventKind::Flooded,
        EventKind::LedgerImported,
        EventKind::Restored,
    ];

    /// How long one try may take, unless it is configured.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
}
