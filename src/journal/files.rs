//! The files: appended to by one writer, begun anew each day and when they are large, removed when
//! they are old or too much.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};

use super::Options;
use super::folder::{Name, date_of, list};

/// The journal's files. None is kept open: they are written once a second, and whoever removes one
/// gets a new one.
pub(super) struct Files {
    pub(super) options: Options,
    /// Sizes in bytes.
    sizes: BTreeMap<Name, u64>,
}

impl Files {
    /// What is there. A folder that cannot be read counts as empty: the next write tells why.
    pub(super) fn new(options: Options) -> Self {
        let sizes = list(&options.folder).unwrap_or_default().into_iter().collect();
        Self { options, sizes }
    }

    /// How much they take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Adds whole lines to the file of the day `now_ms`, all of them or, with an error, none.
    pub(super) fn append(&mut self, lines: &[u8], now_ms: u64) -> io::Result<()> {
        let size_bytes = lines.len() as u64;
        self.check_free(size_bytes)?;
        self.make_room(size_bytes)?;
        let name = self.name_for(now_ms, size_bytes);
        let mut file = self.open(name)?;
        let before = self.end_line(name, &mut file)?;
        let written = file.write_all(lines);
        let after = if written.is_ok() { before + size_bytes } else { before };
        if written.is_err() {
            // Lines that are counted as lost must not be there. If a part stays, the next line
            // begins after it.
            let _ = file.set_len(before);
        }
        self.sizes.insert(name, after);
        written
    }

    /// Removes the files that hold nothing younger than `keep`, as of `now_ms`.
    pub(super) fn expire(&mut self, now_ms: u64) -> io::Result<()> {
        let keep_ms = u64::try_from(self.options.keep.as_millis()).unwrap_or(u64::MAX);
        let Some(limit_ms) = now_ms.checked_sub(keep_ms) else { return Ok(()) };
        let limit = date_of(limit_ms);
        while let Some(entry) = self.sizes.first_entry()
            && entry.key().date < limit
        {
            let name = *entry.key();
            self.remove(name)?;
        }
        Ok(())
    }

    fn check_free(&self, size_bytes: u64) -> io::Result<()> {
        let above = self.options.folder.parent().unwrap_or(&self.options.folder);
        let disk = rustix::fs::statvfs(above)?;
        let of_blocks = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let least = self.options.min_free.bytes(of_blocks(disk.f_blocks));
        if of_blocks(disk.f_bavail) < least.saturating_add(size_bytes) && least > 0 {
            let words = "the disk's free space is at cache.min-free";
            return Err(io::Error::new(io::ErrorKind::StorageFull, words));
        }
        Ok(())
    }

    fn make_room(&mut self, size_bytes: u64) -> io::Result<()> {
        while self.bytes().saturating_add(size_bytes) > self.options.max_bytes {
            let Some(oldest) = self.sizes.keys().next().copied() else { break };
            self.remove(oldest)?;
        }
        Ok(())
    }

    fn remove(&mut self, name: Name) -> io::Result<()> {
        match std::fs::remove_file(self.options.folder.join(name.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.sizes.remove(&name);
                Ok(())
            }
        }
    }

    /// The file that takes `size_bytes` more on the day `now_ms`.
    fn name_for(&self, now_ms: u64, size_bytes: u64) -> Name {
        let date = date_of(now_ms);
        let of_day = Name { date, number: 0 }..=Name { date, number: u32::MAX };
        let fits = |size: u64| size.saturating_add(size_bytes) <= self.options.file_bytes;
        match self.sizes.range(of_day).next_back() {
            Some((name, size)) if fits(*size) => *name,
            Some((name, _)) => Name { date, number: name.number.saturating_add(1) },
            None => Name { date, number: 0 },
        }
    }

    fn open(&self, name: Name) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.options.folder)?;
        let path = self.options.folder.join(name.to_string());
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
    }

    /// Ends a line that a kill or a full disk left torn; the file's length then, in bytes.
    fn end_line(&mut self, name: Name, file: &mut File) -> io::Result<u64> {
        let length = file.metadata()?.len();
        let is_new = length == 0;
        if (is_new || self.sizes.get(&name) != Some(&length))
            && let Ok(files) = list(&self.options.folder)
        {
            // Somebody may have removed files, or put some there.
            self.sizes = files.into_iter().collect();
        }
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last == [b'\n'] {
            return Ok(length);
        }
        file.write_all(b"\n")?;
        Ok(length + 1)
    }
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
