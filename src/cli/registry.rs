//! A registry to try things with: real HTTP on the loopback, content from memory, and tags that
//! anybody may overwrite, as in most registries.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::oci::{ComputedDigest, Digest, ManifestKind};

const MANIFEST: &str = ManifestKind::OciManifest.as_str();

/// A registry on a port of its own; it ends when it is dropped.
pub(super) struct TestRegistry {
    /// Where it listens.
    pub(super) address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    _serving: JoinSet<()>,
}

/// Something that was built and can be pushed.
pub(super) struct Release {
    /// The digest of its manifest.
    pub(super) digest: Digest,
    manifest: Bytes,
    blobs: [Bytes; 2],
}

#[derive(Default)]
struct Shelf {
    /// By `<repository>:<tag>`.
    tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, Bytes>,
    blobs: HashMap<Digest, Bytes>,
}

impl Release {
    /// An image whose only layer is `program`: enough for who runs nothing.
    pub(super) fn of(program: &str) -> Self {
        let config = Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}");
        Self::new(config, Bytes::copy_from_slice(program.as_bytes()))
    }

    /// An image that clients can unpack: one layer, an archive with one file that holds `text`.
    pub(super) fn unpackable(text: &str) -> Self {
        let layer = Bytes::from(archive(text));
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            "x86_64" => "amd64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer)] },
        });
        Self::new(Bytes::from(config.to_string()), layer)
    }

    fn new(config: Bytes, layer: Bytes) -> Self {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(&config),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest_of(&layer),
                "size": layer.len(),
            }],
        });
        let manifest = Bytes::from(manifest.to_string());
        Self { digest: digest_of(&manifest), manifest, blobs: [config, layer] }
    }
}

impl TestRegistry {
    /// Listens on a free port.
    pub(super) async fn start() -> io::Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        let shelf = Arc::<Mutex<Shelf>>::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(socket, Arc::clone(&shelf)));
        Ok(Self { address, shelf, _serving: serving })
    }

    /// Pushes `release` to `repository` as `tag`, over whatever was there.
    pub(super) fn push(&self, repository: &str, tag: &str, release: &Release) {
        let mut content = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        content.manifests.insert(release.digest, release.manifest.clone());
        for blob in &release.blobs {
            content.blobs.insert(digest_of(blob), blob.clone());
        }
        content.tags.insert(format!("{repository}:{tag}"), release.digest);
    }
}

/// A tar archive (POSIX.1-1988 ustar) with the file `canary`.
fn archive(text: &str) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut head = [0; BLOCK];
    let fields: [(usize, &str); 8] = [
        (0, "canary"),
        (100, "0000644"),
        (108, "0000000"),
        (116, "0000000"),
        (124, &format!("{:011o}", text.len())),
        (136, "00000000000"),
        (148, "        "),
        (156, "0"),
    ];
    for (at, field) in fields.into_iter().chain([(257, "ustar"), (263, "00")]) {
        head[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = head.to_vec();
    archive.extend_from_slice(text.as_bytes());
    // The file is filled up to whole blocks, and two empty ones end the archive.
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

fn digest_of(bytes: &[u8]) -> Digest {
    ComputedDigest::of(bytes, None).digest()
}

async fn serve(socket: TcpListener, shelf: Arc<Mutex<Shelf>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let shelf = Arc::clone(&shelf);
        let answer = service_fn(move |request: Request<Incoming>| {
            let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let response = answer(&shelf, request.method(), request.uri().path());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        connections.spawn(async move {
            // A client that leaves is no failure of the registry.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn answer(shelf: &Shelf, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let found = (method == Method::GET || method == Method::HEAD).then(|| find(shelf, path));
    let Some((digest, media_type, bytes)) = found.flatten() else {
        let mut missing = Response::new(Full::default());
        *missing.status_mut() = StatusCode::NOT_FOUND;
        return missing;
    };
    // hyper leaves the body of a HEAD's answer out, and keeps its length.
    let mut response = Response::new(Full::new(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(digest) = HeaderValue::from_str(&digest.to_string()) {
        headers.insert("docker-content-digest", digest);
    }
    response
}

fn find(shelf: &Shelf, path: &str) -> Option<(Digest, &'static str, Bytes)> {
    let path = path.strip_prefix("/v2/")?;
    if let Some((_, digest)) = path.split_once("/blobs/") {
        let digest = digest.parse().ok()?;
        return Some((digest, "application/octet-stream", shelf.blobs.get(&digest)?.clone()));
    }
    let (repository, reference) = path.split_once("/manifests/")?;
    let tagged = shelf.tags.get(&format!("{repository}:{reference}")).copied();
    let digest = tagged.or_else(|| reference.parse().ok())?;
    Some((digest, MANIFEST, shelf.manifests.get(&digest)?.clone()))
}
