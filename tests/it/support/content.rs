//! Images made from a seed: the same seed gives the same bytes, everywhere and always.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The size of a layer's one file, unless the test asks for another.
const SMALL: usize = 2048;

/// Bytes and the digest that they hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

impl Blob {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), bytes }
    }
}

/// A manifest with its media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) blob: Blob,
}

impl Manifest {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self { media_type: media_type.to_owned(), blob: Blob::new(bytes) }
    }

    pub(crate) fn digest(&self) -> &str {
        &self.blob.digest
    }
}

/// One image that real clients can pull: a config, and layers with one file each.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Manifest,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    pub(crate) architecture: String,
}

impl Image {
    /// A small OCI image for linux/amd64.
    pub(crate) fn new(seed: &str) -> Self {
        Self::build(seed, "amd64", SMALL, false)
    }

    /// The same with a Docker schema 2 manifest.
    pub(crate) fn docker(seed: &str) -> Self {
        Self::build(seed, "amd64", SMALL, true)
    }

    /// An OCI image for another architecture.
    pub(crate) fn for_architecture(seed: &str, architecture: &str) -> Self {
        Self::build(seed, architecture, SMALL, false)
    }

    /// An OCI image whose layer holds one file of `size_bytes`.
    pub(crate) fn sized(seed: &str, size_bytes: usize) -> Self {
        Self::build(seed, "amd64", size_bytes, false)
    }

    /// An OCI image for linux/amd64 with a layer of each of these sizes, each with one file.
    pub(crate) fn layered(seed: &str, sizes_bytes: &[usize]) -> Self {
        let layer = |(number, size): (usize, &usize)| {
            let bytes = noise(&format!("{seed} {number}"), *size);
            Blob::new(tar(&format!("{number}.bin"), &bytes))
        };
        let layers: Vec<_> = sizes_bytes.iter().enumerate().map(layer).collect();
        Self::assemble(seed, "amd64", layers, false)
    }

    /// The same OCI image with this as what its config says of running it.
    pub(crate) fn configured(&self, inner: &Value) -> Self {
        let mut config: Value = serde_json::from_slice(&self.config.bytes).expect("JSON");
        config["config"] = inner.clone();
        self.with_config(&config)
    }

    /// The same OCI image with a history, which builders with layers ask for.
    pub(crate) fn with_history(&self) -> Self {
        let mut config: Value = serde_json::from_slice(&self.config.bytes).expect("JSON");
        config["history"] = self.layers.iter().map(|_| json!({"created_by": "COPY"})).collect();
        self.with_config(&config)
    }

    fn with_config(&self, config: &Value) -> Self {
        let config = Blob::new(config.to_string());
        let mut manifest: Value = serde_json::from_slice(&self.manifest.blob.bytes).expect("JSON");
        manifest["config"]["digest"] = config.digest.as_str().into();
        manifest["config"]["size"] = config.bytes.len().into();
        let manifest = Manifest::new(OCI_MANIFEST, manifest.to_string());
        Self { manifest, config, ..self.clone() }
    }

    pub(crate) fn digest(&self) -> &str {
        self.manifest.digest()
    }

    fn build(seed: &str, architecture: &str, size_bytes: usize, docker: bool) -> Self {
        let layer = Blob::new(tar("seed.bin", &noise(seed, size_bytes)));
        Self::assemble(seed, architecture, vec![layer], docker)
    }

    fn assemble(seed: &str, architecture: &str, layers: Vec<Blob>, docker: bool) -> Self {
        let (media_type, config_type, layer_type) = if docker {
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
        } else {
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = Blob::new(format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Labels":{{"seed":"{seed}"}}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            diff_ids.join("\",\"")
        ));
        let listed: Vec<_> = layers.iter().map(|layer| descriptor(layer_type, layer)).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{},"layers":[{}]}}"#,
            descriptor(config_type, &config),
            listed.join(","),
        );
        let manifest = Manifest::new(media_type, manifest);
        Self { manifest, config, layers, architecture: architecture.to_owned() }
    }
}

/// An index of images, one for each architecture.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) manifest: Manifest,
    pub(crate) images: Vec<Image>,
}

impl Index {
    /// An OCI index of linux images; the first architecture's image comes first.
    pub(crate) fn new(seed: &str, architectures: &[&str]) -> Self {
        let image = |architecture: &&str| Image::for_architecture(seed, architecture);
        Self::of(architectures.iter().map(image).collect())
    }

    /// An OCI index of these images.
    pub(crate) fn of(images: Vec<Image>) -> Self {
        Self::typed(OCI_INDEX, images)
    }

    /// An index of these images under `media_type` (a Docker list, say).
    pub(crate) fn typed(media_type: &str, images: Vec<Image>) -> Self {
        let children: Vec<String> = images.iter().map(child).collect();
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            children.join(",")
        );
        Self { manifest: Manifest::new(media_type, bytes), images }
    }

    pub(crate) fn digest(&self) -> &str {
        self.manifest.digest()
    }
}

/// `sha256:<hex>` of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex_of(&Sha256::digest(bytes))
}

/// `sha256:<hex>` of this hash.
pub(crate) fn hex_of(hash: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in hash {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

/// Bytes that do not compress, made from the seed.
pub(crate) fn noise(seed: &str, size_bytes: usize) -> Vec<u8> {
    let start = Sha256::digest(seed.as_bytes());
    let mut state = u64::from_le_bytes(start[..8].try_into().expect("8 bytes")) | 1;
    let mut bytes = Vec::with_capacity(size_bytes + 8);
    while bytes.len() < size_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size_bytes);
    bytes
}

fn child(image: &Image) -> String {
    let entry = descriptor(&image.manifest.media_type, &image.manifest.blob);
    let platform =
        format!(r#","platform":{{"architecture":"{}","os":"linux"}}}}"#, image.architecture);
    entry.strip_suffix('}').expect("a descriptor is an object").to_owned() + &platform
}

fn descriptor(media_type: &str, blob: &Blob) -> String {
    let (digest, size) = (&blob.digest, blob.bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

/// A ustar archive of one file, mode 0644, owned by root, of 1970.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}
