//! Files that hold a secret. No message quotes what is in them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The most that such a file may hold, in bytes.
const LIMIT_BYTES: u64 = 1 << 20;

/// The text of a file that only its owner may use. An error is a sentence for a person.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    let named = path.display();
    let file = open(path)?;
    let mode = file.metadata().map_err(|error| cannot(path, &error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{named} holds a secret and has mode {mode:04o}, so that others may use it: \
             chmod 600 it"
        ));
    }
    read(path, file)
}

/// The text of a file that everybody may read. An error is a sentence for a person.
pub(super) fn read_text_file(path: &Path) -> Result<String, String> {
    read(path, open(path)?)
}

fn open(path: &Path) -> Result<File, String> {
    // Before it is opened: to open a pipe would wait for ever.
    if !path.metadata().map_err(|error| cannot(path, &error))?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    File::open(path).map_err(|error| cannot(path, &error))
}

fn read(path: &Path, file: File) -> Result<String, String> {
    let size_bytes = file.metadata().map_err(|error| cannot(path, &error))?.len();
    if size_bytes > LIMIT_BYTES {
        return Err(format!("{} is larger than {LIMIT_BYTES} bytes", path.display()));
    }
    let mut text = String::new();
    file.take(LIMIT_BYTES).read_to_string(&mut text).map_err(|error| cannot(path, &error))?;
    Ok(text)
}

fn cannot(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
