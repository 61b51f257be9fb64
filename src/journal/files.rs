//! The files: appended to by one writer, begun anew each day and when they are large, removed when
//! they are old or too much.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};

use super::Options;
use super::folder::{Name, date_of, list};

/// The journal's files.
pub(super) struct Files {
    pub(super) options: Options,
    /// Sizes in bytes.
    sizes: BTreeMap<Name, u64>,
    current: Option<(Name, File)>,
}

impl Files {
    /// What is there. A folder that cannot be read counts as empty: the next write tells why.
    pub(super) fn new(options: Options) -> Self {
        let sizes = list(&options.folder).unwrap_or_default().into_iter().collect();
        Self { options, sizes, current: None }
    }

    /// How much they take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Adds whole lines to the file of the day `now_ms`, all of them or, with an error, none.
    pub(super) fn append(&mut self, lines: &[u8], now_ms: u64) -> io::Result<()> {
        let size_bytes = lines.len() as u64;
        self.forget_what_went();
        self.check_free(size_bytes)?;
        self.make_room(size_bytes)?;
        self.open(now_ms, size_bytes)?;
        let (name, file) = self.current.as_mut().expect("it was just opened");
        let written = file.write_all(lines);
        if written.is_err() {
            // Lines that are counted as lost must not be there, nor a part of one.
            let before = self.sizes.get(name).copied().unwrap_or(0);
            if file.set_len(before).is_err() {
                // The next line begins after whatever was left.
                self.current = None;
                self.read_folder();
            }
            return written;
        }
        *self.sizes.entry(*name).or_default() += size_bytes;
        Ok(())
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

    /// A file that somebody removed is not written on.
    fn forget_what_went(&mut self) {
        let went = |file: &File| file.metadata().map_or(true, |file| file.nlink() == 0);
        if self.current.as_ref().is_some_and(|(_, file)| went(file)) {
            self.current = None;
            self.read_folder();
        }
    }

    fn read_folder(&mut self) {
        if let Ok(files) = list(&self.options.folder) {
            self.sizes = files.into_iter().collect();
        }
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
        if self.current.as_ref().is_some_and(|(current, _)| *current == name) {
            self.current = None;
        }
        match std::fs::remove_file(self.options.folder.join(name.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.sizes.remove(&name);
                Ok(())
            }
        }
    }

    /// Makes the current file the one that takes `size_bytes` more on the day `now_ms`.
    fn open(&mut self, now_ms: u64, size_bytes: u64) -> io::Result<()> {
        let date = date_of(now_ms);
        let last = self.sizes.range(..=Name { date, number: u32::MAX }).next_back();
        let last = last.map(|(name, size)| (*name, *size)).filter(|(name, _)| name.date == date);
        let fits = |size: u64| size.saturating_add(size_bytes) <= self.options.file_bytes;
        let name = match last {
            Some((name, size)) if fits(size) => name,
            Some((name, _)) => Name { date, number: name.number.saturating_add(1) },
            None => Name { date, number: 0 },
        };
        if self.current.as_ref().is_some_and(|(current, _)| *current == name) {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.options.folder)?;
        let path = self.options.folder.join(name.to_string());
        let mut open = OpenOptions::new();
        let mut file = open.read(true).append(true).create(true).mode(0o600).open(path)?;
        let size = end_line(&mut file)?;
        self.sizes.insert(name, size);
        self.current = Some((name, file));
        Ok(())
    }
}

/// Ends a line that a kill or a power cut left torn; the file's length then, in bytes.
fn end_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
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

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
