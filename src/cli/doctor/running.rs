//! The running immutag: whether it answers where clients ask, and what it knows.

use std::collections::BTreeSet;

use serde::Serialize;

use super::finding::{Finding, Standing};
use super::question::{Failure, get};
use crate::cli::clients::{ClientKind, Endpoint, Endpoints};
use crate::config::ListenerKind;

/// What answers at a listener's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub(super) enum State {
    /// Something else than immutag.
    Foreign,
    /// immutag's listener of the other kind.
    OtherKind,
    /// What should.
    Serves,
    /// Nobody.
    Silent(String),
    /// Somebody whose certificate the system does not trust: clients may.
    Untrusted(String),
}

/// A listener's address, and what answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Listening {
    pub(super) url: String,
    #[serde(flatten)]
    pub(super) state: State,
}

/// What the running immutag said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Running {
    pub(super) mirror: Option<Listening>,
    pub(super) direct: Option<Listening>,
    /// `ready`, `degraded`, `unready: …`; `None`: it was not asked, or did not say.
    pub(super) ledger: Option<String>,
    /// Registries that it does not know.
    pub(super) unknown: BTreeSet<String>,
}

/// Asks the listeners, and the admin listener if it is this host's.
pub(super) async fn ask(
    endpoints: &Endpoints,
    admin: Option<&Endpoint>,
    registries: &BTreeSet<String>,
) -> Running {
    let mirror = listening(endpoints.mirror.as_ref(), ListenerKind::Mirror).await;
    let direct = listening(endpoints.direct.as_ref(), ListenerKind::Direct).await;
    let mut running = Running { mirror, direct, ..Running::default() };
    if let Some(admin) = admin {
        running.ledger = ledger(admin).await;
    }
    let serves = |listening: &Option<Listening>| {
        listening.as_ref().is_some_and(|listening| listening.state == State::Serves)
    };
    for registry in registries {
        // No tag is named so: this asks no upstream.
        let target = match (&endpoints.mirror, &endpoints.direct) {
            (Some(mirror), _) if serves(&running.mirror) => {
                Some((mirror, format!("/v2/immutag/doctor/manifests/-?ns={registry}")))
            }
            (_, Some(direct)) if serves(&running.direct) => {
                Some((direct, format!("/v2/{registry}/immutag/doctor/manifests/-")))
            }
            _ => None,
        };
        let Some((endpoint, target)) = target else { continue };
        let Ok(answer) = get(endpoint, &target).await else { continue };
        let reason = answer.headers.get("immutag-reason");
        if reason.is_some_and(|reason| reason == "UPSTREAM_UNKNOWN") {
            running.unknown.insert(registry.clone());
        }
    }
    running
}

impl Running {
    /// What it means for a client that is set to it: one that asks nobody else cannot pull, one
    /// that may ask the registry does so now.
    pub(super) fn troubles(&self, client: ClientKind, findings: &[Finding]) -> Vec<Finding> {
        let set: Vec<_> = findings.iter().filter(|finding| finding.is_set()).collect();
        if set.is_empty() {
            return Vec::new();
        }
        let listening = match client {
            ClientKind::Crio | ClientKind::Podman => self.direct.as_ref().or(self.mirror.as_ref()),
            _ => self.mirror.as_ref(),
        };
        let down = listening.and_then(|listening| listening.trouble(client, &set));
        let unknown = self.unknown.iter().filter_map(|registry| {
            let is_of_it = |it: &&&Finding| it.registry.as_ref() == Some(registry);
            let of_it: Vec<_> = set.iter().filter(is_of_it).copied().collect();
            let finding = Finding::protected(client, "immutag does not know this registry");
            let fix = format!("[upstream.{registry:?}] in the configuration of immutag");
            let finding = weigh(finding, &of_it, &LOST).of(registry).fix(fix);
            (!of_it.is_empty()).then_some(finding)
        });
        down.into_iter().chain(unknown).collect()
    }
}

impl Listening {
    /// Why a client that asks there does not get through to immutag, if so.
    fn trouble(&self, client: ClientKind, set: &[&Finding]) -> Option<Finding> {
        let Self { url, state } = self;
        let what = match state {
            State::Serves => return None,
            State::Foreign => "what answers there is no immutag, or an older one".to_owned(),
            State::OtherKind => "it is immutag's listener of the other kind".to_owned(),
            State::Silent(why) => format!("immutag is DOWN ({why})"),
            State::Untrusted(why) => {
                let what = format!("{url}: {why}; clients need its authority");
                return Some(Finding::protected(client, what));
            }
        };
        let finding = Finding::protected(client, format!("{url}: {what}"));
        let fix = "immutag serve; --mirror and --direct name other places";
        Some(weigh(finding, set, &LOST).fix(fix))
    }
}

/// What a trouble comes to, for a client that falls back and for one that does not.
pub(super) struct Then {
    pub(super) open: &'static str,
    pub(super) closed: &'static str,
}

/// No way leads to immutag.
const LOST: Then = Then {
    open: "this client goes to the registry NOW",
    closed: "this client's pulls fail until that is mended",
};

/// Gives a trouble the weight that it has for a client with these findings.
pub(super) fn weigh(trouble: Finding, set: &[&Finding], then: &Then) -> Finding {
    let falls_back = set.iter().any(|finding| finding.standing == Standing::HoldOnly);
    let (standing, then) = if falls_back {
        (Standing::Bypassable, then.open)
    } else {
        (Standing::Protected, then.closed)
    };
    let what = format!("{}; {then}", trouble.what);
    Finding { standing, what, ..trouble }
}

async fn listening(endpoint: Option<&Endpoint>, kind: ListenerKind) -> Option<Listening> {
    let endpoint = endpoint?;
    let state = match get(endpoint, "/v2/").await {
        Ok(answer) => match answer.headers.get("immutag-listener") {
            Some(told) if told == kind.name() => State::Serves,
            Some(_) => State::OtherKind,
            None => State::Foreign,
        },
        Err(Failure::Silent(why)) => State::Silent(why),
        Err(Failure::Untrusted(why)) => State::Untrusted(why),
    };
    Some(Listening { url: endpoint.to_string(), state })
}

async fn ledger(admin: &Endpoint) -> Option<String> {
    let answer = get(admin, "/readyz").await.ok()?;
    let said: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let status = said["status"].as_str()?;
    let why = said["ledger"].as_str().filter(|why| *why != "ok");
    Some(why.map_or_else(|| status.to_owned(), |why| format!("{status}: {why}")))
}
