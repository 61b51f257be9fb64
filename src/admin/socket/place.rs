//! Where the socket is, and how it comes there without a moment in which others may connect.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The most bytes that the path of a Unix socket may have (`sun_path`, with its NUL).
const PATH_LIMIT: usize = 107;

/// The socket's name in the data directory.
const NAME: &str = "admin.sock";

/// Where it is made, beside its place: mode 0700 from its first moment.
const NURSERY: &str = ".admin.sock.new";

/// The server's socket. It goes when this does.
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone with its directory; a stale one is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The socket's path for people.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Makes the socket, mode 0600, in place of a stale one.
///
/// The caller has the data directory for itself: it holds the ledger's lock. A crash on the way
/// leaves a directory that the next call clears away.
pub fn bind(data_dir: &Path) -> io::Result<Socket> {
    let nursery = data_dir.join(NURSERY);
    let newborn = nursery.join("s");
    clear(&nursery, &newborn)?;
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let listener = {
        let (_open, short) = shortened(&newborn)?;
        UnixListener::bind(short)?
    };
    std::fs::set_permissions(&newborn, Permissions::from_mode(0o600))?;
    let path = path(data_dir);
    std::fs::rename(&newborn, &path)?;
    let socket = Socket { listener, path };
    clear(&nursery, &newborn)?;
    Ok(socket)
}

/// Connects to the server of a data directory.
pub async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let (_open, short) = shortened(&path(data_dir))?;
    UnixStream::connect(short).await
}

fn clear(nursery: &Path, newborn: &Path) -> io::Result<()> {
    let ignore_missing = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    ignore_missing(std::fs::remove_file(newborn))?;
    ignore_missing(std::fs::remove_dir(nursery))
}

/// The path, or one that fits a socket's address, by a descriptor of its directory that must stay
/// open for as long as the path is used.
fn shortened(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().as_bytes().len() <= PATH_LIMIT {
        return Ok((None, path.to_owned()));
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((Some(directory), short))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt as _;

    use super::*;

    fn assert_is_private(path: &Path) {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let stale = std::os::unix::net::UnixListener::bind(path(folder.path())).unwrap();
        drop(stale);
        assert!(connect(folder.path()).await.is_err());
        std::fs::create_dir(folder.path().join(NURSERY)).unwrap();
        std::fs::write(folder.path().join(NURSERY).join("s"), "left by a crash").unwrap();
        let socket = bind(folder.path()).unwrap();
        assert_is_private(&path(folder.path()));
        assert!(connect(folder.path()).await.is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(socket);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_data_directory_may_have_a_long_name() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let _socket = bind(&deep).unwrap();
        assert_is_private(&path(&deep));
        assert!(connect(&deep).await.is_ok());
    }
}
