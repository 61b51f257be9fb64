//! Links: which repository of which upstream may see which digest.
//!
//! A link comes only from a successful answer of the upstream for that repository, never from a
//! manifest that names the digest: a cache hit is no permission. Bytes are shared, links are not.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::oci::{Digest, MediaType, Registry, Repository};

/// The links below a data directory: `links/<2 hex>/<hex>` in `cache/`, and in `held/` for what
/// pins need; one small file each.
pub struct Links {
    root: PathBuf,
    held: PathBuf,
    recent: moka::sync::Cache<[u8; 32], Option<MediaType>>,
}

/// Names for what is being written; a crash leaves one of them, which the next of its name replaces.
static STAGED: AtomicU64 = AtomicU64::new(0);

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
        keep(&path, &line(link.media_type.as_ref()))
    }

    /// Whether the link is held, whatever the cache has.
    pub fn is_held(&self, registry: &Registry, repository: &Repository, digest: &Digest) -> bool {
        place(&self.held, &key(registry, repository, digest)).exists()
    }

    /// Holds the link no longer; one that lies in the cache, too, stays there. No error if it was
    /// not held.
    pub fn let_go(
        &self,
        registry: &Registry,
        repository: &Repository,
        digest: &Digest,
    ) -> io::Result<()> {
        match fs::remove_file(place(&self.held, &key(registry, repository, digest))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Unlike in `cache/`, a power cut or a kill must not take what stood here before, or what was
/// told to be held.
fn keep(path: &Path, line: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|held| held == line) {
        return Ok(());
    }
    let parent = path.parent().expect("a link's path has a parent");
    fs::create_dir_all(parent)?;
    let staged = parent.join(format!("staged-{:x}", STAGED.fetch_add(1, Ordering::Relaxed)));
    let mut file = File::create(&staged)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all())?;
    fs::rename(&staged, path)?;
    File::open(parent)?.sync_all()
}

fn write(path: &Path, media_type: Option<&MediaType>) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a link's path has a parent"))?;
    fs::write(path, line(media_type))
}

fn line(media_type: Option<&MediaType>) -> String {
    format!("{}\n", media_type.map_or("", MediaType::as_str))
}

fn place(root: &Path, key: &[u8; 32]) -> PathBuf {
    let hex = Digest::sha256(*key).hex();
    root.join(&hex[..2]).join(hex)
}

fn key(registry: &Registry, repository: &Repository, digest: &Digest) -> [u8; 32] {
    Sha256::digest(format!("{registry}\0{repository}\0{digest}")).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_held_link_is_never_half_written_and_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::open(folder.path()).unwrap();
        let (registry, repository) = (Registry::docker_io(), "library/app".parse().unwrap());
        let digest = Digest::sha256([7; 32]);
        links.add(&registry, &repository, &digest, Some(MediaType::octet_stream())).unwrap();
        links.hold(&registry, &repository, &digest).unwrap();
        let path = place(&links.held, &key(&registry, &repository, &digest));
        let inode = || path.metadata().unwrap().ino();
        let first = inode();
        links.hold(&registry, &repository, &digest).unwrap();
        assert_eq!(inode(), first);
        // A torn one of before is replaced as a whole: whoever reads meanwhile sees one or the other.
        fs::write(&path, "application/oct").unwrap();
        let reader = File::open(&path).unwrap();
        links.hold(&registry, &repository, &digest).unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "application/oct");
        fs::remove_dir_all(folder.path().join("cache")).unwrap();
        let found = Links::open(folder.path()).unwrap().find(&registry, &repository, &digest);
        assert_eq!(found.unwrap().media_type, Some(MediaType::octet_stream()));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "nothing is left over");
    }
}
