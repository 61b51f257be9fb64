//! What refers to locked content, in locked mode: signatures, attestations, and the like. It passes
//! as far as no client could run it.
//!
//! What a client runs is not told by what things are called. containerd and Buildah go by the
//! config's media type; Docker goes by the config's content alone, and Docker and Buildah unpack
//! layers of any media type. So the content is looked at: of an image's config each layer must be
//! something that nobody can unpack, as a cosign signature is.

use std::collections::HashSet;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::asking::Origin;
use super::leads::Sought;
use super::refusal::{Reason, Refusal};
use super::{ManifestReply, ManifestRequest, Pull, place};
use crate::config::ListenerKind;
use crate::oci::{ComputedDigest, Descriptor, Digest, Manifest, ManifestKind};
use crate::pin::PinKey;

/// The largest config that is looked at, in bytes.
const CONFIG_BYTES: u64 = 1 << 20;

/// The largest layer that is fetched to be looked at, in bytes.
const LAYER_BYTES: u64 = 32 << 20;

/// The most layers of a referrer with an image's config.
const LAYERS: usize = 32;

/// A manifest that may refer to something.
pub(super) struct Referrer {
    digest: Digest,
    manifest: Manifest,
    subject: Digest,
}

impl Pull {
    /// A manifest that has a subject, if the repository has it.
    pub(super) async fn referrer(
        self: &Arc<Self>,
        origin: &Origin,
        digest: Digest,
    ) -> Result<Option<Referrer>, Refusal> {
        let found = match self.stored_or_fetched(origin, digest).await {
            Ok(found) => found,
            Err(why) if why.reason == Reason::ManifestUnknown => return Ok(None),
            Err(why) => return Err(why),
        };
        let parsed = Manifest::parse(&found.bytes, Some(&found.content.media_type));
        let Ok(manifest) = parsed else { return Ok(None) };
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        Ok(subject.map(|subject| Referrer { digest, manifest, subject }))
    }

    /// Whether a manifest refers to what locked content leads to, and is nothing that a client
    /// could run; if so, it and its blobs may be had from now on.
    pub(super) async fn refers(
        self: &Arc<Self>,
        origin: &Origin,
        roots: &HashSet<Digest>,
        referrer: Option<&Referrer>,
    ) -> Result<bool, Refusal> {
        let Some(Referrer { digest, manifest, subject }) = referrer else { return Ok(false) };
        let refers = self.leads_to(origin, roots, subject) && !has_image_config(manifest);
        let passes = refers && self.runs_nowhere(origin, manifest).await?;
        if passes {
            self.let_refer(origin, *digest, manifest);
        }
        Ok(passes)
    }

    /// An index of referrers lets nothing through but itself: each of them has a subject.
    fn let_refer(&self, origin: &Origin, digest: Digest, manifest: &Manifest) {
        let at = place(&origin.upstream.name, &origin.repository);
        for blob in manifest.config.iter().chain(&manifest.layers) {
            self.memory.leads.attached.insert((Arc::clone(&at), blob.digest), ());
        }
        self.memory.leads.referring.insert((at, digest), ());
    }

    /// A tag that the lock file does not have: refused, unless it is the tag by which clients find
    /// what refers to locked content.
    pub(super) async fn unlocked(
        self: &Arc<Self>,
        request: ManifestRequest,
        key: &PinKey,
    ) -> Result<ManifestReply, Refusal> {
        let lock = self.settings.load().lock.clone();
        let required = || match &lock {
            Some(lock) => lock.requires_tag(key),
            None => Refusal::new(Reason::PinRequired, "there is no lock file").of(key),
        };
        let subject = key.tag.subject().ok_or_else(required)?;
        let (origin, listener) = (request.origin(), request.asker.listener);
        match self.pass(&request.asker, &origin, subject, Sought::Content).await {
            Err(refusal) if refusal.reason == Reason::PinRequired => return Err(required()),
            admitted => admitted.map_err(|refusal| refusal.of(key))?,
        }
        let replied = self.referring_tag(request, &origin, required).await;
        replied.map_err(|refusal| match refusal.reason {
            // That there is no signature is no reason to stop.
            Reason::ManifestUnknown => refusal.of(key),
            _ if listener == ListenerKind::Mirror => refusal.required(required),
            _ => refusal.of(key),
        })
    }

    /// What is behind a tag of referrers must be seen, also for a HEAD: the client goes on by its
    /// digest.
    async fn referring_tag(
        self: &Arc<Self>,
        request: ManifestRequest,
        origin: &Origin,
        required: impl Fn() -> Refusal,
    ) -> Result<ManifestReply, Refusal> {
        let reply = self.uncovered(ManifestRequest { is_head: false, ..request }, None).await?;
        let bytes = reply.bytes.as_deref().unwrap_or_default();
        let manifest = Manifest::parse(bytes, reply.media_type.as_ref()).ok();
        let manifest = manifest.ok_or_else(&required)?;
        if !self.runs_nowhere(origin, &manifest).await? {
            return Err(required());
        }
        if let Some(digest) = reply.digest {
            self.let_refer(origin, digest, &manifest);
        }
        Ok(reply)
    }

    /// Whether no client could run it. An index passes by itself alone, and so runs nowhere.
    async fn runs_nowhere(
        self: &Arc<Self>,
        origin: &Origin,
        manifest: &Manifest,
    ) -> Result<bool, Refusal> {
        if manifest.kind.is_index() {
            return Ok(true);
        }
        let Some(config) = &manifest.config else { return Ok(false) };
        // Of Docker's own kind nothing is an artifact.
        if manifest.kind == ManifestKind::DockerManifest || has_image_layers(manifest, config) {
            return Ok(false);
        }
        if !has_image_config(manifest) && !self.says_root_fs(origin, config).await? {
            return Ok(true);
        }
        if manifest.layers.is_empty() || manifest.layers.len() > LAYERS {
            return Ok(false);
        }
        for layer in &manifest.layers {
            let begins = self.beginning(origin, layer, LAYER_BYTES, BLOCK as u64).await?;
            if begins.is_none_or(|begins| could_be_unpacked(&begins)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the content of a config is, or could be, an image's: Docker runs it then, whatever
    /// its media type is.
    async fn says_root_fs(
        self: &Arc<Self>,
        origin: &Origin,
        config: &Descriptor,
    ) -> Result<bool, Refusal> {
        if is_empty(&config.digest) {
            return Ok(false);
        }
        let content = self.beginning(origin, config, CONFIG_BYTES, CONFIG_BYTES + 1).await?;
        Ok(content.is_none_or(|content| could_have_root_fs(&content)))
    }

    /// The first bytes of a blob, which is fetched if it is not here; `None` if it is, or says that
    /// it is, larger than `limit`, or cannot be kept.
    async fn beginning(
        self: &Arc<Self>,
        origin: &Origin,
        blob: &Descriptor,
        limit: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let Descriptor { digest, size_bytes, .. } = *blob;
        if size_bytes > limit {
            return Ok(None);
        }
        let is_here =
            self.edges.links.find(&origin.upstream.name, &origin.repository, &digest).is_some();
        let mut stored = if is_here { self.open_stored(digest).await } else { None };
        if stored.is_none() {
            self.fetch_blob(origin, digest).await?;
            stored = self.open_stored(digest).await;
        }
        let read = move || {
            let stored = stored.filter(|stored| stored.size_bytes <= limit)?;
            let mut bytes = vec![0; usize::try_from(length.min(stored.size_bytes)).ok()?];
            stored.file.read_exact_at(&mut bytes, 0).ok()?;
            Some(bytes)
        };
        Ok(tokio::task::spawn_blocking(read).await.ok().flatten())
    }
}

/// Whether it is `{}`, the config of an artifact.
fn is_empty(digest: &Digest) -> bool {
    ComputedDigest::of(b"{}", Some(digest)).supports(digest)
}

/// Whether it has layers of an image, and not the config of an artifact. What has that one is no
/// image to any client, unless its media type is an image's.
fn has_image_layers(manifest: &Manifest, config: &Descriptor) -> bool {
    let is_artifact = is_empty(&config.digest) && !has_image_config(manifest);
    !is_artifact && manifest.has_image_layers()
}

/// Whether it says that its config is an image's.
fn has_image_config(manifest: &Manifest) -> bool {
    const CONFIGS: [&str; 2] = [
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    ];
    let config = manifest.config.as_ref().map(|config| config.media_type.as_str());
    config.is_some_and(|media_type| CONFIGS.contains(&media_type))
}

/// Whether Go could read a root file system out of a config. It takes keys in any case, `ſ` for `s`,
/// and strings that are no UTF-8.
fn could_have_root_fs(config: &[u8]) -> bool {
    let text = String::from_utf8_lossy(config);
    if !text.trim_ascii_start().starts_with('{') {
        return false;
    }
    let folded = |key: &str| key.replace('\u{17f}', "s").to_ascii_lowercase();
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(keys) => keys.keys().any(|key| folded(key) == "rootfs"),
        // What only Go can read, for what we know.
        Err(_) => true,
    }
}

/// The length of a block of a tar file, in bytes.
const BLOCK: usize = 512;

/// Whether a layer that begins so could be unpacked: it is compressed, or the first block is a
/// header of a tar file, or nothing, by which tar files end.
fn could_be_unpacked(begins: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let is_skippable = matches!(begins, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if begins.is_empty() || is_skippable || COMPRESSED.iter().any(|magic| begins.starts_with(magic))
    {
        return true;
    }
    let Some(header) = begins.get(..BLOCK) else { return false };
    header.iter().all(|byte| *byte == 0) || is_tar_header(header)
}

/// Whether the checksum agrees, as Go reads it: octal digits, up to whatever is none.
fn is_tar_header(header: &[u8]) -> bool {
    const AT: std::ops::Range<usize> = 148..156;
    let said = &header[AT];
    let octal = said.iter().skip_while(|byte| matches!(byte, b' ' | 0));
    let octal = octal.take_while(|byte| matches!(byte, b'0'..=b'7'));
    let said = octal.fold(0_i64, |sum, digit| sum * 8 + i64::from(digit - b'0'));
    let summed = |value: fn(u8) -> i64| {
        let blank = |(at, byte): (usize, &u8)| if AT.contains(&at) { 32 } else { value(*byte) };
        header.iter().enumerate().map(blank).sum::<i64>()
    };
    said == summed(i64::from) || said == summed(|byte| i64::from(byte.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar header with a name, its checksum as `write` makes it of the sum.
    fn header(write: impl Fn(u32) -> String) -> Vec<u8> {
        let mut header = vec![b' '; BLOCK];
        header[..11].copy_from_slice(b"{\"a\": \"b\"} ");
        let sum = header.iter().map(|byte| u32::from(*byte)).sum();
        let text = write(sum);
        header[148..148 + text.len()].copy_from_slice(text.as_bytes());
        header
    }

    #[test]
    fn a_layer_that_some_client_unpacks_is_seen_by_its_first_bytes() {
        for begins in [
            &b"\x1f\x8b\x08"[..],
            b"BZh9",
            b"\xfd7zXZ\0",
            b"\x28\xb5\x2f\xfd",
            b"\x50\x2a\x4d\x18",
            b"",
            &[0; BLOCK],
            &header(|sum| format!("{sum:06o}\0 ")),
            &header(|sum| format!("{sum:o}\0 9")),
            &header(|sum| format!("  {sum:o}")),
        ] {
            assert!(could_be_unpacked(begins), "{begins:?}");
        }
        let json = format!("{{\"critical\": \"{}\"}}", "x".repeat(BLOCK));
        for begins in [json.as_bytes(), b"{}", &header(|sum| format!("{:o}", sum + 1))] {
            assert!(!could_be_unpacked(begins), "{begins:?}");
        }
    }

    #[test]
    fn a_config_that_go_may_find_a_root_file_system_in_is_an_images() {
        for config in [
            r#"{"rootfs": {}}"#,
            r#" {"RootFS": {}}"#,
            r#"{"root\u0066s": 1}"#,
            "{\"rootf\u{17f}\": 1}",
            r#"{"a": "\ud800", "rootfs": 1}"#,
        ] {
            assert!(could_have_root_fs(config.as_bytes()), "{config}");
        }
        assert!(could_have_root_fs(b"{\"a\": \"\xff\", \"rootfs\": 1}"));
        for config in ["{}", r#"{"a": {"rootfs": 1}}"#, "an sbom", "", "[]", "null"] {
            assert!(!could_have_root_fs(config.as_bytes()), "{config}");
        }
    }
}
