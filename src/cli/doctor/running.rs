//! The running immutag: whether it answers where clients ask, and what it knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::finding::{Finding, Standing};
use crate::cli::clients::{ClientKind, Endpoint, Endpoints};
use crate::config::ListenerKind;

/// How long one question may take. It is this host or the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes.
const LIMIT: usize = 64 << 10;

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

/// An answer, whole.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

/// Why there is none.
enum Failure {
    Silent(String),
    Untrusted(String),
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
        let mut troubles = Vec::new();
        let listening = match client {
            ClientKind::Crio | ClientKind::Podman => self.direct.as_ref().or(self.mirror.as_ref()),
            _ => self.mirror.as_ref(),
        };
        let set: Vec<_> = findings.iter().filter(|finding| finding.is_set()).collect();
        if set.is_empty() {
            return troubles;
        }
        let trouble = listening.and_then(|Listening { url, state }| {
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
            Some(weigh(finding, &set).fix("immutag serve; --mirror and --direct name other places"))
        });
        troubles.extend(trouble);
        for registry in &self.unknown {
            let of_it: Vec<_> = set
                .iter()
                .copied()
                .filter(|finding| finding.registry.as_ref() == Some(registry))
                .collect();
            if !of_it.is_empty() {
                let finding = Finding::protected(client, "immutag does not know this registry");
                let fix = format!("[upstream.{registry:?}] in the configuration of immutag");
                troubles.push(weigh(finding, &of_it).of(registry).fix(fix));
            }
        }
        troubles
    }
}

/// Gives a trouble the weight that it has for a client with these findings.
pub(super) fn weigh(trouble: Finding, set: &[&Finding]) -> Finding {
    let falls_back = set.iter().any(|finding| finding.standing == Standing::HoldOnly);
    let (standing, then) = if falls_back {
        (Standing::Bypassable, "this client goes to the registry NOW")
    } else {
        (Standing::Protected, "this client's pulls fail until that is mended")
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

async fn get(endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
    let asked = tokio::time::timeout(PATIENCE, connect_and_get(endpoint, target));
    asked.await.unwrap_or_else(|_| Err(Failure::Silent("no answer in time".to_owned())))
}

async fn connect_and_get(endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
    let silent = |why: String| Failure::Silent(why);
    let address = Address::parse(&endpoint.to_string())
        .ok_or_else(|| silent("this is no address".to_owned()))?;
    let host = address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = address.port.unwrap_or(if endpoint.is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| silent(error.to_string()))?;
    if !endpoint.is_tls {
        return exchange(stream, &endpoint.authority, target).await.map_err(silent);
    }
    let name = ServerName::try_from(host).map_err(|error| silent(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(trust().map_err(silent)?));
    match connector.connect(name, stream).await {
        Ok(stream) => exchange(stream, &endpoint.authority, target).await.map_err(silent),
        Err(error) => Err(Failure::Untrusted(error.to_string())),
    }
}

/// The system's authorities.
fn trust() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider))
        .map_err(|error| error.to_string())?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

async fn exchange<S>(stream: S, host: &str, target: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| error.to_string();
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .uri(target)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = requests.send_request(request).await.map_err(words)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LIMIT).collect().await.map_err(|error| error.to_string())?;
    // The answer is whole: how the connection ends says nothing more.
    connection.abort();
    Ok(Answer { headers: head.headers, body: body.to_bytes() })
}
