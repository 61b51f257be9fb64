//! The demo's client: pulls as containerd does, HEAD by tag, then manifest and layer by digest.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::oci::manifest::CANONICAL_ACCEPT;
use crate::oci::{ComputedDigest, Digest, Manifest, ManifestKind};

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The words after the status.
    pub(super) phrase: String,
    pub(super) digest: Option<Digest>,
    pub(super) warnings: Vec<String>,
    pub(super) body: Bytes,
}

/// What a pull came to.
pub(super) struct Pulled {
    pub(super) digest: Digest,
    pub(super) warnings: Vec<String>,
    /// What a container of this image would run: the text in its layer.
    pub(super) program: String,
}

/// Asks once, on a connection of its own.
pub(super) async fn ask(
    address: SocketAddr,
    method: Method,
    target: &str,
) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(address).await.context("connecting to immutag")?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, address.to_string())
        .header(header::ACCEPT, CANONICAL_ACCEPT)
        .body(Empty::<Bytes>::new())?;
    let response = requests.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("reading the answer")?.to_bytes();
    drop(requests);
    connection.await??;
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let phrase = head.extensions.get::<hyper::ext::ReasonPhrase>();
    let standard = head.status.canonical_reason().unwrap_or_default();
    Ok(Answer {
        status: head.status.as_u16(),
        phrase: phrase.map_or_else(
            || standard.to_owned(),
            |phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        ),
        digest: head
            .headers
            .get("docker-content-digest")
            .and_then(|value| text(value).parse().ok()),
        warnings: head.headers.get_all(header::WARNING).iter().map(text).collect(),
        body,
    })
}

/// Pulls `repository:tag` of `registry` through the mirror listener at `mirror`; with a status
/// other than 200, the first answer is the end of it.
pub(super) async fn pull(
    mirror: SocketAddr,
    registry: &str,
    repository: &str,
    tag: &str,
) -> anyhow::Result<Result<Pulled, Answer>> {
    let target = |what: String| format!("/v2/{repository}/{what}?ns={registry}");
    let head = ask(mirror, Method::HEAD, &target(format!("manifests/{tag}"))).await?;
    if head.status != 200 {
        return Ok(Err(head));
    }
    let digest = head.digest.context("a HEAD's answer names a digest")?;
    let manifest = fetch(mirror, &target(format!("manifests/{digest}")), digest).await?;
    let parsed =
        Manifest::parse(&manifest, ManifestKind::OciManifest.as_str().parse().ok().as_ref())?;
    let layer = parsed.layers.first().context("the demo's images have a layer")?.digest;
    let layer = fetch(mirror, &target(format!("blobs/{layer}")), layer).await?;
    let program = String::from_utf8(layer.to_vec())?;
    Ok(Ok(Pulled { digest, warnings: head.warnings, program }))
}

/// Content by digest, hashed here as every client does.
async fn fetch(mirror: SocketAddr, target: &str, digest: Digest) -> anyhow::Result<Bytes> {
    let answer = ask(mirror, Method::GET, target).await?;
    ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.phrase);
    let computed = ComputedDigest::of(&answer.body, None).digest();
    ensure!(computed == digest, "{target} is {computed}");
    Ok(answer.body)
}
