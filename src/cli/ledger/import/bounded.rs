//! JSON documents that others wrote: read as they come, only what is wanted of them is kept.

use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;

use anyhow::Context as _;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The largest document, in bytes. `kubectl get pods -A` of 5,000 pods takes about 75 MB.
pub(super) const DOCUMENT_LIMIT: u64 = 128 << 20;

/// The most entries of a list.
const ENTRIES: usize = 200_000;

/// A list of at most 200,000 entries.
#[derive(Debug)]
pub(super) struct Bounded<T>(pub(super) Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Bounded::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    if entries.len() >= ENTRIES {
                        return Err(A::Error::custom("the list has more than 200,000 entries"));
                    }
                    entries.push(entry);
                }
                Ok(Bounded(entries))
            }
        }
        deserializer.deserialize_any(Entries(PhantomData))
    }
}

/// Reads one document, and nothing behind it.
pub(super) fn document<T: DeserializeOwned>(input: impl Read) -> anyhow::Result<T> {
    let mut input = Limited { input, left: DOCUMENT_LIMIT };
    let mut reader = serde_json::Deserializer::from_reader(io::BufReader::new(&mut input));
    let document = T::deserialize(&mut reader).context("the JSON is not what it should be")?;
    reader.end().context("something follows behind the JSON")?;
    Ok(document)
}

/// Reads a text, all of it.
pub(super) fn text(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut input = io::BufReader::new(Limited { input, left: DOCUMENT_LIMIT });
    input.read_to_string(&mut text)?;
    Ok(text)
}

/// Fails, rather than ends, where too much comes.
struct Limited<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            let mut one = [0];
            return match self.input.read(&mut one)? {
                0 => Ok(0),
                _ => Err(io::Error::other("the document is larger than 128 MiB")),
            };
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}
