//! A point of the ledger's chain, as people and logs name it: `SIZE:HASH`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::cursor::{self, ReadError};
use super::files;
use super::scan::Link;
use super::shared::{Head, Shared};

/// How long a ledger was, in events, and the hash of the batch that made it so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The sequence number of the batch's last event.
    pub sequence: u64,
    /// The batch's hash, which stands for everything before it too.
    pub hash: [u8; 32],
}

/// A text that names no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a point of the ledger is SIZE:HASH, a number and 64 hex digits, as `ledger status` has it"
)]
pub struct PointError;

/// What a ledger has to say of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It went through it.
    Contained,
    /// A batch ends there, but with another hash.
    Forked,
    /// No batch ends there.
    Inside,
    /// It never was so long.
    Shorter,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, files::hex(&self.hash))
    }
}

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let (sequence, hash) = text.split_once(':').ok_or(PointError)?;
        let is_number = !sequence.is_empty() && sequence.bytes().all(|it| it.is_ascii_digit());
        let sequence = sequence.parse().ok().filter(|_| is_number).ok_or(PointError)?;
        Ok(Self { sequence, hash: files::from_hex(hash).ok_or(PointError)? })
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl From<Link> for Point {
    fn from(link: Link) -> Self {
        Self { sequence: link.sequence, hash: link.hash }
    }
}

/// Says `None` if the ledger went through the point; else, in words, that it did not.
pub(crate) fn against(shared: &Shared, point: Point) -> Result<Option<String>, ReadError> {
    let head = shared.head();
    let reached = reach(&shared.log, shared.id, &head, point)?;
    let here = Point::from(head.last);
    Ok(match reached {
        Reached::Contained => None,
        Reached::Forked => Some(format!(
            "the ledger has another history: at event {} it had another hash than {point}",
            point.sequence
        )),
        Reached::Inside => Some(format!(
            "the ledger has another history, or {point} was mistyped: it never ended with event {}",
            point.sequence
        )),
        Reached::Shorter => {
            Some(format!("the ledger was rolled back: it ends at {here}, and once was at {point}"))
        }
    })
}

/// Whether the log up to `head` goes through a point.
pub(crate) fn reach(
    log: &std::path::Path,
    id: super::batch::LedgerId,
    head: &Head,
    point: Point,
) -> Result<Reached, ReadError> {
    if point.sequence > head.last.sequence {
        return Ok(Reached::Shorter);
    }
    if point.sequence == 0 {
        return Ok(Reached::Inside);
    }
    let mut cursor = cursor::seek(log, id, point.sequence, head)?;
    cursor.read(head)?;
    let last = cursor.last();
    Ok(if last.sequence != point.sequence {
        Reached::Inside
    } else if last.hash != point.hash {
        Reached::Forked
    } else {
        Reached::Contained
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_reads_back_as_it_is_printed_and_in_no_other_way() {
        let point = Point { sequence: 17, hash: [0xab; 32] };
        let text = point.to_string();
        assert_eq!(text, format!("17:{}", "ab".repeat(32)));
        assert_eq!(text.parse(), Ok(point));
        let hash = "ab".repeat(32);
        for bad in ["", "17", &hash, &format!("+17:{hash}"), &format!(":{hash}"), &text[..66]] {
            assert_eq!(bad.parse::<Point>(), Err(PointError), "{bad}");
        }
    }
}
