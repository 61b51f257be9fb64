//! Links: which repository of which upstream may see which digest.
//!
//! A link comes only from a successful answer of the upstream for that repository, never from a
//! manifest that names the digest: a cache hit is no permission. Bytes are shared, links are not.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::oci::{Digest, MediaType, Registry, Repository};

/// The links below a data directory: `links/<2 hex>/<hex>` in `cache/`, and in `held/` for what
/// pins need; one small file each.
pub struct Links {
    root: PathBuf,
    held: PathBuf,
    recent: moka::sync::Cache<[u8; 32], Option<MediaType>>,
}

/// How many links the cache keeps: an endless stream of digests must not fill the disk with them.
/// One takes an inode, and a block on most file systems.
const MAX_LINKS: u64 = 200_000;

/// Prefixes of two hex digits, each a directory with its share of the links.
const PREFIXES: u64 = 256;

/// How long a link is remembered without looking at its file.
const REMEMBERED: Duration = Duration::from_hours(6);

/// How old the last use in a file's times may be before a use is written there.
const STALE: Duration = Duration::from_hours(24);

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
        let recent = moka::sync::Cache::builder();
        let recent = recent.max_capacity(20_000).time_to_live(REMEMBERED).build();
        Ok(Self { root, held, recent })
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
        note_use(&place(&self.root, &key));
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

    /// Removes the links that were used least recently where there are too many. It waits for the
    /// disk. What pins need stays.
    pub fn trim(&self) -> io::Result<()> {
        self.trim_to(MAX_LINKS)
    }

    fn trim_to(&self, max_links: u64) -> io::Result<()> {
        // The names are hashes: each directory has its share, within little.
        let share = usize::try_from(max_links.div_ceil(PREFIXES)).unwrap_or(usize::MAX);
        for directory in fs::read_dir(&self.root)? {
            let directory = directory?;
            if !directory.file_type()?.is_dir() {
                continue;
            }
            let all = fs::read_dir(directory.path())?;
            let paths: Vec<_> = all.map(|link| Ok(link?.path())).collect::<io::Result<_>>()?;
            if paths.len() <= share {
                continue;
            }
            // One that has just gone is one less.
            let used = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
            let mut links: Vec<_> = paths.into_iter().filter_map(used).collect();
            links.sort_unstable();
            // Some more go, so that not each new one costs a look at all.
            let kept = share - share / 10;
            for (_, path) in &links[..links.len().saturating_sub(kept)] {
                fs::remove_file(path)?;
            }
        }
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

/// Keeps a link that is in use from being the oldest, with a write a day at most.
fn note_use(path: &Path) {
    let is_stale = |file: &File| {
        let used = file.metadata().and_then(|metadata| metadata.modified()).ok();
        used.and_then(|used| used.elapsed().ok()).is_some_and(|since| since > STALE)
    };
    // Without it the link may go early: the upstream is asked again then.
    let _ = File::open(path).and_then(|file| {
        if is_stale(&file) { file.set_modified(SystemTime::now()) } else { Ok(()) }
    });
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
    fn the_links_used_least_recently_go_where_there_are_too_many_and_held_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, repository) = (Registry::docker_io(), "library/app".parse().unwrap());
        let digest = |number: u8| Digest::sha256([number; 32]);
        let links = Links::open(folder.path()).unwrap();
        let place_of = |number| place(&links.root, &key(&registry, &repository, &digest(number)));
        let day = Duration::from_hours(24);
        for number in 0..200 {
            links.add(&registry, &repository, &digest(number), None).unwrap();
            let age = day * (300 - u32::from(number));
            let file = File::open(place_of(number)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        links.hold(&registry, &repository, &digest(0)).unwrap();
        fs::write(links.root.join("core"), "somebody else's").unwrap();
        // By a process that remembers nothing: a use is written down.
        let links = Links::open(folder.path()).unwrap();
        let finds =
            |links: &Links, number| links.find(&registry, &repository, &digest(number)).is_some();
        assert!(finds(&links, 1));
        links.trim_to(PREFIXES).unwrap();
        let links = Links::open(folder.path()).unwrap();
        let stay: Vec<u8> = (0..200).filter(|number| finds(&links, *number)).collect();
        assert!(stay.contains(&0) && stay.contains(&1) && stay.contains(&199), "{stay:?}");
        for number in (0..200).filter(|number| !stay.contains(number)) {
            let newer = |other: &u8| {
                (*other > number || *other <= 1)
                    && place_of(*other).parent() == place_of(number).parent()
            };
            assert!(stay.iter().any(newer), "{number} went and nothing newer is beside it");
        }
        assert!(stay.len() < 200);
    }

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
