//! Where a record lies in the log, and how it is read from there alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::segment::{self, Position};
use super::shared::lock;
use super::{record, take};
use crate::event::Event;

/// Where a record lies in its segment or batch, and what its bytes come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the record's length, in bytes from the beginning.
    pub(crate) offset: u32,
    /// Told from another by each changed byte, but for one case in four billion.
    pub(crate) check: u32,
}

impl Place {
    /// The place of a record whose length stands at `offset`.
    pub(crate) fn new(offset: usize, record: &[u8]) -> Self {
        Self { offset: u32::try_from(offset).unwrap_or(u32::MAX), check: check(record) }
    }

    /// The place in a segment where the batch begins at `offset`.
    pub(crate) fn behind(self, offset: u64) -> Self {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(self.offset);
        Self { offset, ..self }
    }
}

/// Where an attachment lies in the log, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot(u64);

impl Spot {
    /// Somewhere that these bytes cannot say: the index knows.
    const FAR: Self = Self(u64::MAX);

    /// The spot of a position.
    pub(crate) fn new(at: Position) -> Self {
        let parts = u32::try_from(at.segment).ok().zip(u32::try_from(at.offset).ok());
        parts.map_or(Self::FAR, |(segment, offset)| {
            Self(u64::from(segment) << 32 | u64::from(offset))
        })
    }

    /// The position of a spot; `None`: ask the index.
    pub(crate) fn position(self) -> Option<Position> {
        let at = Position { segment: self.0 >> 32, offset: self.0 & u64::from(u32::MAX) };
        (self != Self::FAR).then_some(at)
    }

    /// As a snapshot has it.
    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The reverse of [`Spot::to_bytes`].
    pub(crate) fn from_bytes(mut rest: &[u8]) -> Option<Self> {
        take::u64(&mut rest).map(Self)
    }
}

/// Each step is one-to-one in both of its inputs, so no one changed word is lost.
fn check(bytes: &[u8]) -> u32 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sum = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum.rotate_left(29) ^ u64::from_be_bytes(word)).wrapping_mul(ODD);
    }
    u32::try_from(sum >> 32).unwrap_or_default()
}

/// Reads single records. What it gives was written there: its check and its encoding are right.
pub(crate) struct Records {
    log: PathBuf,
    files: Mutex<HashMap<u64, Arc<File>>>,
}

/// Whether a reader may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// No: what is not in the kernel's memory is [`io::ErrorKind::WouldBlock`].
    None,
    /// As long as it takes.
    Endless,
}

/// Most records are shorter.
const AT_ONCE: usize = 1024;
/// No record is longer: ten fields, of which three are texts of at most 4 KiB.
const MOST: usize = 64 << 10;
/// How many segments are kept open.
const OPEN: usize = 64;

impl Records {
    /// Reads from the segments in `log`.
    pub(crate) fn new(log: PathBuf) -> Self {
        Self { log, files: Mutex::new(HashMap::new()) }
    }

    /// The event whose record is at a place in a segment; `None` if something else is there.
    pub(crate) fn read(
        &self,
        segment: u64,
        place: Place,
        patience: Patience,
    ) -> io::Result<Option<Event>> {
        let file = self.file(segment)?;
        let at = u64::from(place.offset);
        let mut bytes = vec![0; AT_ONCE];
        let have = read(&file, &mut bytes, at, patience)?;
        bytes.truncate(have);
        let Some(size) = take::u32(&mut bytes.as_slice()) else { return Ok(None) };
        let Some(end) = usize::try_from(size).ok().map(|size| size + 4).filter(|it| *it <= MOST)
        else {
            return Ok(None);
        };
        if end > bytes.len() {
            bytes.resize(end, 0);
            if read(&file, &mut bytes, at, patience)? < end {
                return Ok(None);
            }
        }
        let record = &bytes[4..end];
        Ok(record::decode(record).ok().filter(|_| check(record) == place.check))
    }

    fn file(&self, segment: u64) -> io::Result<Arc<File>> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let path = segment::path(&self.log, segment);
        let file = Arc::new(File::open(path)?);
        if files.len() >= OPEN {
            files.clear();
        }
        files.insert(segment, Arc::clone(&file));
        Ok(file)
    }
}

/// Fills `bytes` as far as the file goes.
fn read(file: &File, bytes: &mut [u8], at: u64, patience: Patience) -> io::Result<usize> {
    let flags = match patience {
        Patience::None => ReadWriteFlags::NOWAIT,
        Patience::Endless => ReadWriteFlags::empty(),
    };
    let mut have = 0;
    while have < bytes.len() {
        let mut into = [IoSliceMut::new(&mut bytes[have..])];
        match preadv2(file, &mut into, at + have as u64, flags) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(Errno::INTR) => {}
            // Not every file system can say.
            Err(Errno::OPNOTSUPP) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_is_its_position_or_says_that_it_cannot_be() {
        let most = u64::from(u32::MAX);
        for (segment, offset) in [(1, 0), (77, 4096), (most, 0), (most, most - 1)] {
            let at = Position { segment, offset };
            let spot = Spot::from_bytes(&Spot::new(at).to_bytes()).unwrap();
            assert_eq!(spot.position(), Some(at));
        }
        for (segment, offset) in [(most + 1, 0), (1, most + 1), (most, most)] {
            assert_eq!(Spot::new(Position { segment, offset }).position(), None);
        }
    }

    #[test]
    fn each_flipped_bit_changes_the_check() {
        let mut bytes: Vec<u8> = (0..77).collect();
        let whole = check(&bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert_ne!(check(&bytes), whole, "byte {at}, bit {bit}");
                bytes[at] ^= 1 << bit;
            }
        }
        assert_ne!(check(&bytes[..76]), whole);
    }
}
