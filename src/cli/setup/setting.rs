//! What `setup` comes to: files, and what is to be known about them.

use serde::Serialize;
use thiserror::Error;

/// The first words of every file that is immutag's own: such a file may be replaced.
pub(super) const MARK: &str = "Written by `immutag setup";

/// Settings for one client, or one set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// What they are for: `docker`, `egress nftables`.
    pub(super) subject: &'static str,
    pub(super) files: Vec<SettingFile>,
    pub(super) notes: Vec<Note>,
}

/// A file as it stands where there is none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SettingFile {
    /// Absolute, or relative to the working directory where no place is prescribed.
    pub(super) path: String,
    pub(super) content: String,
    pub(super) merge: Merge,
}

/// How a file goes together with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Certificates are added to the others.
    Certificates,
    /// containerd's `config.toml`: one key is set.
    ContainerdConfig,
    /// A `hosts.toml`: it takes the place of another that holds mirrors and nothing else.
    Hosts,
    /// JSON: each list gets our elements, everything else stays.
    JsonLists,
    /// It is immutag's own: it takes the place of one that immutag wrote, and of no other.
    Own,
    /// TOML: our tables get our keys, everything else stays.
    TomlTables,
}

/// Something that is to be known about settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Note {
    pub(super) about: About,
    pub(super) text: String,
}

/// What a note is about, in the order in which notes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum About {
    /// For which version, and how that is known.
    Version,
    /// What no longer goes round immutag.
    Closed,
    /// What still can.
    Open,
    /// Where pushes go.
    Pushes,
    /// What is to be done so that it holds.
    Then,
}

/// Why there are no settings, or none that could be written safely. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// The client has no words for "every registry".
    #[error("{client} has no setting for every registry: name each one with --registry")]
    LacksWildcard {
        /// The client.
        client: &'static str,
    },
    /// A listener is needed that is not configured.
    #[error("no {kind} listener is configured: add one, or say where it is with --{kind} URL")]
    NeedsListener {
        /// The listener's kind.
        kind: &'static str,
    },
    /// A file that is there does not allow it.
    #[error("{path}: {why}. Nothing was changed")]
    Unmergeable {
        /// The file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// What was asked for protects nothing.
    #[error("{0}")]
    Useless(String),
}

impl Setting {
    pub(super) fn new(subject: &'static str) -> Self {
        Self { subject, files: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn file(&mut self, path: impl Into<String>, content: String, merge: Merge) {
        self.files.push(SettingFile { path: path.into(), content, merge });
    }

    /// Adds a note, once, behind the others of its kind.
    pub(super) fn note(&mut self, about: About, text: impl Into<String>) {
        let note = Note { about, text: text.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
            self.notes.sort_by_key(|note| note.about);
        }
    }
}

impl About {
    /// The word that stands before a note.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Pushes => "pushes",
            Self::Then => "then",
        }
    }
}
