//! Links: which repository of which upstream may see which digest.
//!
//! A link comes only from a successful answer of the upstream for that repository, never from a
//! manifest that names the digest: a cache hit is no permission. Bytes are shared, links are not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::oci::{Digest, MediaType, Registry, Repository};

/// The links below a data directory: `links/<2 hex>/<hex>` in `cache/`, and in `held/` for what
/// pins need; one small file each.
pub struct Links {
    root: PathBuf,
    held: PathBuf,
    recent: moka::sync::Cache<[u8; 32], Option<MediaType>>,
}

/// What a repository may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The media type that the upstream gave, for a manifest.
    pub media_type: Option<MediaType>,
}

impl Links {
    /// Opens the links below `data_dir`.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("cache").join("links");
        let held = data_dir.join("held").join("links");
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&held)?;
        Ok(Self { root, held, recent: moka::sync::Cache::new(20_000) })
    }

    /// The link of `digest` in a repository, if the upstream ever gave one.
    pub fn find(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<Link> {
        let key = key(registry, repository, digest);
        if let Some(media_type) = self.recent.get(&key) {
            return Some(Link { media_type });
        }
        // Without the closing newline the file is torn, and no link.
        let whole = |text: String| text.strip_suffix('\n').map(str::to_owned);
        let read = |root: &PathBuf| fs::read_to_string(place(root, &key)).ok().and_then(whole);
        let text = [&self.root, &self.held].into_iter().find_map(read)?;
        let media_type = match text.as_str() {
            "" => None,
            text => Some(text.parse().ok()?),
        };
        self.recent.insert(key, media_type.clone());
        Some(Link { media_type })
    }

    /// Writes down that the upstream gave `digest` for this repository.
    pub fn add(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
        media_type: Option<MediaType>,
    ) -> io::Result<()> {
        let key = key(registry, repository, digest);
        if self.recent.get(&key).is_some_and(|known| known == media_type) {
            return Ok(());
        }
        write(&place(&self.root, &key), media_type.as_ref())?;
        self.recent.insert(key, media_type);
        Ok(())
    }

    /// Keeps the link of `digest` for as long as a pin needs it, whatever becomes of the cache.
    pub fn hold(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
    ) -> io::Result<()> {
        let Some(link) = self.find(registry, repository, digest) else { return Ok(()) };
        let path = place(&self.held, &key(registry, repository, digest));
        write(&path, link.media_type.as_ref())
    }
}

fn write(path: &Path, media_type: Option<&MediaType>) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a link's path has a parent"))?;
    fs::write(path, format!("{}\n", media_type.map_or("", MediaType::as_str)))
}

fn place(root: &Path, key: &[u8; 32]) -> PathBuf {
    let hex = Digest::sha256(*key).hex();
    root.join(&hex[..2]).join(hex)
}

fn key(registry: &Registry, repository: &Repository, digest: &Digest) -> [u8; 32] {
    Sha256::digest(format!("{registry}\0{repository}\0{digest}")).into()
}
