//! What the doctor says of a client.

use serde::Serialize;

use crate::cli::clients::ClientKind;

/// How far a client is protected, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    /// It asks immutag and nobody else: refused means refused, and down means down.
    Protected,
    /// It asks immutag first, and the registry when that refuses plainly or is down: what is held
    /// is served as recorded, and block's form stops it, while immutag runs.
    HoldOnly,
    /// It asks the registry itself.
    Bypassable,
}

/// One thing that the doctor found about one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Finding {
    /// Which client.
    pub(super) client: ClientKind,
    /// For which registry; `None`: for all.
    pub(super) registry: Option<String>,
    /// How far it is protected, as far as this goes: the worst of a client's findings counts.
    pub(super) standing: Standing,
    /// Where: a file, with its line where there is one, or a process.
    pub(super) place: Option<String>,
    /// What is there, in words.
    pub(super) what: String,
    /// What to do about it; empty where nothing is to be done.
    pub(super) fix: String,
}
