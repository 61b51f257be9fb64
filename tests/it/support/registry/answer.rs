//! The scripted registry's lawful answers; faults come on top.

use std::sync::Mutex;

use bytes::Bytes;

use super::super::content::OCI_INDEX;
use super::super::server::{Reply, Request};
use super::super::vast::Vast;
use super::{Access, Repository, State, Tag};

/// Logs the request, answers it, and applies the faults planned for it.
pub(super) fn answer(state: &Mutex<State>, request: &Request) -> Reply {
    let (reply, faults) = {
        let mut state = state.lock().expect("no holder panics");
        state.log.push(request.clone());
        let reply = match state.refuse_stranger(request) {
            Some(refusal) => refusal,
            None => state.route(request),
        };
        (reply, state.plan.take(request))
    };
    faults.apply(reply)
}

impl State {
    fn refuse_stranger(&mut self, request: &Request) -> Option<Reply> {
        let credentials = request.fields.get("Authorization");
        match &self.access {
            Access::AnybodyWithCredentials => None,
            Access::Anybody => {
                if credentials.is_some() {
                    let what = format!("{} {}: unasked credentials", request.method, request.path);
                    self.violations.push(what);
                }
                None
            }
            Access::Basic(expected) => {
                let challenge = r#"Basic realm="scripted""#;
                (credentials != Some(expected)).then(|| unauthorized(challenge))
            }
            Access::Token(tokens) => {
                let repository = parse(&request.path).map(|(repository, _)| repository);
                let token = credentials.and_then(|text| text.strip_prefix("Bearer "));
                let allowed = token.is_some_and(|token| tokens.allows(token, repository));
                (!allowed).then(|| unauthorized(&tokens.challenge(repository)))
            }
        }
    }

    fn route(&mut self, request: &Request) -> Reply {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Reply::error(405, "UNSUPPORTED");
        }
        if request.path == "/v2/" {
            return Reply::new(200).body("application/json", "{}");
        }
        let Some((repository, what)) = parse(&request.path) else {
            return Reply::error(404, "NAME_UNKNOWN");
        };
        let Some(repository) = self.repositories.get_mut(repository) else {
            return Reply::error(404, "NAME_UNKNOWN");
        };
        match what {
            What::Blob(digest) => repository.blob(digest, request),
            What::Manifest(reference) => repository.manifest(reference, request),
            What::Referrers(digest) => repository.referrers(digest),
            What::Tags => repository.list_tags(request),
        }
    }
}

/// What a path names inside a repository.
enum What<'a> {
    Blob(&'a str),
    Manifest(&'a str),
    Referrers(&'a str),
    Tags,
}

fn parse(path: &str) -> Option<(&str, What<'_>)> {
    let path = path.strip_prefix("/v2/")?;
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return Some((repository, What::Tags));
    }
    let (rest, last) = path.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    match kind {
        "blobs" => Some((repository, What::Blob(last))),
        "manifests" => Some((repository, What::Manifest(last))),
        "referrers" => Some((repository, What::Referrers(last))),
        _ => None,
    }
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::error(401, "UNAUTHORIZED").field("WWW-Authenticate", challenge)
}

impl Repository {
    fn manifest(&mut self, reference: &str, request: &Request) -> Reply {
        let digest = self.resolve(reference, request);
        let Some(manifest) = digest.and_then(|digest| self.manifests.get(&digest)) else {
            return Reply::error(404, "MANIFEST_UNKNOWN");
        };
        Reply::new(200)
            .field("Docker-Content-Digest", manifest.digest())
            .body(&manifest.media_type, manifest.blob.bytes.clone())
    }

    fn resolve(&mut self, reference: &str, request: &Request) -> Option<String> {
        if reference.contains(':') {
            return Some(reference.to_owned());
        }
        let mut accepts = request.fields.all("Accept");
        if let Some(child) = self.down_converted.get(reference)
            && !accepts.any(|line| line.contains(OCI_INDEX) || line.contains(".list.v2"))
        {
            return Some(child.clone());
        }
        Some(match self.tags.get_mut(reference)? {
            Tag::At(digest) => digest.clone(),
            Tag::Every(digests, since, period) => {
                let turn = since.elapsed().as_nanos() / period.as_nanos();
                let count = u128::try_from(digests.len()).expect("a usize fits");
                digests[usize::try_from(turn % count).expect("below a usize")].clone()
            }
            Tag::Turns(digests, turn) => {
                let digest = digests[*turn % digests.len()].clone();
                *turn += 1;
                digest
            }
        })
    }

    fn blob(&self, digest: &str, request: &Request) -> Reply {
        if let Some(vast) = self.vast.get(digest) {
            return of_vast(vast, request);
        }
        let Some(bytes) = self.blobs.get(digest) else {
            return Reply::error(404, "BLOB_UNKNOWN");
        };
        let range = request.fields.get("Range").map(|text| range(text, bytes.len()));
        let reply = match range {
            None => Reply::new(200).body("application/octet-stream", bytes.clone()),
            Some(Some((from, to))) => part(bytes, from, to),
            Some(None) => {
                Reply::new(416).field("Content-Range", &format!("bytes */{}", bytes.len()))
            }
        };
        reply.field("Docker-Content-Digest", digest).field("Accept-Ranges", "bytes")
    }

    fn referrers(&self, digest: &str) -> Reply {
        let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        let bytes = self.referrers.get(digest).cloned().unwrap_or(Bytes::from(empty));
        Reply::new(200).body(OCI_INDEX, bytes)
    }

    fn list_tags(&self, request: &Request) -> Reply {
        let value = |name: &str| {
            let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let last = value("last").unwrap_or_default();
        let limit = value("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let rest: Vec<&String> = self.tags.keys().filter(|tag| **tag > last).collect();
        let page = &rest[..limit.min(rest.len())];
        let name = request.path.trim_start_matches("/v2/").trim_end_matches("/tags/list");
        let body = serde_json::json!({ "name": name, "tags": page }).to_string();
        let reply = Reply::new(200).body("application/json", body);
        match page.last() {
            Some(end) if page.len() < rest.len() => {
                let next = format!("<{}?n={limit}&last={end}>; rel=\"next\"", request.path);
                reply.field("Link", &next)
            }
            _ => reply,
        }
    }
}

/// The first and last byte that a single range means, if it means any.
fn range(text: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1)?;
    let (from, to) = match (from.parse().ok(), to.parse().ok()) {
        (Some(from), Some(to)) => (from, last.min(to)),
        (Some(from), None) => (from, last),
        (None, Some(count)) => (size.saturating_sub(count), last),
        (None, None) => return None,
    };
    (from <= to).then_some((from, to))
}

fn of_vast(vast: &Vast, request: &Request) -> Reply {
    let size = usize::try_from(vast.size_bytes).expect("it fits");
    let range = request.fields.get("Range").and_then(|text| range(text, size));
    let (from, to) = range.map_or((0, size), |(from, last)| (from, last + 1));
    let mut reply = Reply::new(if range.is_some() { 206 } else { 200 });
    if range.is_some() {
        reply = reply.field("Content-Range", &format!("bytes {from}-{}/{size}", to - 1));
    }
    reply.vast = Some((vast.clone(), from as u64, to as u64));
    let reply = reply.field("Content-Type", "application/octet-stream");
    reply.field("Docker-Content-Digest", &vast.digest).field("Accept-Ranges", "bytes")
}

fn part(bytes: &Bytes, from: usize, to: usize) -> Reply {
    Reply::new(206)
        .body("application/octet-stream", bytes.slice(from..=to))
        .field("Content-Range", &format!("bytes {from}-{to}/{}", bytes.len()))
}
