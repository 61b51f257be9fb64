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

impl Standing {
    /// As a table shows it: what is bad is loud.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::HoldOnly => "HOLD ONLY",
            Self::Bypassable => "BYPASSABLE",
        }
    }
}

impl Finding {
    /// Something that is as it should be, or no more than worth knowing.
    pub(super) fn protected(client: ClientKind, what: impl Into<String>) -> Self {
        Self::new(client, Standing::Protected, what)
    }

    /// A way to the registry that is taken when immutag refuses plainly or is down.
    pub(super) fn hold_only(client: ClientKind, what: impl Into<String>) -> Self {
        Self::new(client, Standing::HoldOnly, what)
    }

    /// A way round immutag.
    pub(super) fn bypassable(client: ClientKind, what: impl Into<String>) -> Self {
        Self::new(client, Standing::Bypassable, what)
    }

    /// A finding for all registries, without place and fix.
    pub(super) fn new(client: ClientKind, standing: Standing, what: impl Into<String>) -> Self {
        let (registry, place, fix) = (None, None, String::new());
        Self { client, registry, standing, place, what: what.into(), fix }
    }

    /// Whether the client is set to immutag, for a registry.
    pub(super) fn is_set(&self) -> bool {
        self.registry.is_some() && self.standing != Standing::Bypassable
    }

    /// Whether it is worth knowing without being good or bad for the protection.
    pub(super) fn is_note(&self) -> bool {
        let is_well = self.standing == Standing::Protected;
        is_well && (self.registry.is_none() || !self.fix.is_empty())
    }

    /// The same for one registry.
    #[must_use]
    pub(super) fn of(self, registry: &str) -> Self {
        Self { registry: Some(registry.to_owned()), ..self }
    }

    /// The same at a place.
    #[must_use]
    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    /// The same with what to do about it.
    #[must_use]
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}
