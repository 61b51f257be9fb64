//! One process owns a data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::open::OpenError;

/// Holds the lock until it is dropped. The kernel lets go when the process ends, however it ends:
/// what stands in the file afterwards is no obstacle.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the data directory.
    ///
    /// # Errors
    /// [`OpenError::Locked`] with who holds it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, OpenError> {
        let path = data_dir.join("ledger.lock");
        let io = |error| OpenError::io(&path, error);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only for the message; the holder may be about to write it.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(OpenError::Locked { data_dir: data_dir.to_owned(), holder });
            }
            Err(error) => return Err(io(error.into())),
        }
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let text = format!("process {} on {host}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(io)?;
        Ok(Self { file })
    }

    /// Whether a process has it. To know it, it is taken for a moment where none has.
    pub(crate) fn is_held(data_dir: &Path) -> bool {
        let Ok(file) = File::open(data_dir.join("ledger.lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a child that was forked and has not yet begun its program.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
