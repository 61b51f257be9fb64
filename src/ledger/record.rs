//! The bytes of one event: what the log keeps and what a transparency log would have as leaves.
//!
//! Version (1 byte), kind (1), sequence (8), time in ms (8), then ten fields in this order, each
//! behind four bytes of length: reference, pinned digest, observed digest, media type, size,
//! provenance, who, why, rule, count. Numbers are big-endian; what is not there is an empty field.
//! There is exactly one encoding of an event: [`decode`] refuses every other.

use thiserror::Error;

use super::take;
use crate::event::{Event, EventKind};
use crate::oci::{Algorithm, Digest, MediaType};
use crate::pin::{Content, PinKey, Provenance};

/// The version that this program writes, and the only one that it reads.
pub(crate) const VERSION: u8 = 1;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RecordError {
    /// The record ends early, or goes on.
    #[error("the record is shorter or longer than its fields")]
    SpoilsLayout,
    /// A field does not parse, or is not written as this program would write it.
    #[error("the record's field \"{0}\" is not what this version writes")]
    SpoilsField(&'static str),
    /// A later version wrote a kind of event that this one cannot judge.
    #[error("the record is of kind {0}, which this version does not know; use a newer immutag")]
    UnknownKind(u8),
    /// A later version wrote the record.
    #[error("the record is of version {0}, this immutag reads version 1; use a newer one")]
    UnknownVersion(u8),
}

/// The bytes of `event`.
pub(crate) fn encode(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(320);
    out.extend_from_slice(&[VERSION, event.kind as u8]);
    out.extend_from_slice(&event.sequence.to_be_bytes());
    out.extend_from_slice(&event.time_ms.to_be_bytes());
    let content = event.observed.as_ref();
    let reference = event.key.as_ref().map(PinKey::to_bytes).unwrap_or_default();
    take::put_prefixed(&mut out, &reference);
    put_digest(&mut out, event.pinned.as_ref());
    put_digest(&mut out, content.map(|content| &content.digest));
    take::put_prefixed(&mut out, content.map_or(b"", |c| c.media_type.as_str().as_bytes()));
    let size = content.map(|content| content.size_bytes.to_be_bytes());
    take::put_prefixed(&mut out, size.as_ref().map_or(&[], |size| size.as_slice()));
    let provenance = event.provenance.map(|provenance| [number(provenance)]);
    take::put_prefixed(&mut out, provenance.as_ref().map_or(&[], |number| number.as_slice()));
    take::put_prefixed(&mut out, event.who.as_bytes());
    take::put_prefixed(&mut out, event.why.as_bytes());
    take::put_prefixed(&mut out, event.rule.as_bytes());
    take::put_prefixed(&mut out, &event.count.to_be_bytes());
    out
}

/// The event whose bytes these are.
///
/// # Errors
/// Everything that [`encode`] would not have written; an unknown version or kind by name.
pub(crate) fn decode(bytes: &[u8]) -> Result<Event, RecordError> {
    let mut rest = bytes;
    let version = take::u8(&mut rest).ok_or(RecordError::SpoilsLayout)?;
    if version != VERSION {
        return Err(RecordError::UnknownVersion(version));
    }
    let kind = take::u8(&mut rest).ok_or(RecordError::SpoilsLayout)?;
    let kind = EventKind::from_number(kind).ok_or(RecordError::UnknownKind(kind))?;
    let sequence = take::u64(&mut rest).ok_or(RecordError::SpoilsLayout)?;
    let time_ms = take::u64(&mut rest).ok_or(RecordError::SpoilsLayout)?;
    let mut field = || take::prefixed(&mut rest).ok_or(RecordError::SpoilsLayout);
    let key = optional(field()?, "reference", PinKey::from_bytes)?;
    let pinned = optional(field()?, "pinned", digest)?;
    let observed = content(field()?, field()?, field()?)?;
    let provenance = optional(field()?, "provenance", provenance)?;
    let who = text(field()?, "who")?;
    let why = text(field()?, "why")?;
    let rule = text(field()?, "rule")?;
    let count = u64_field(field()?).ok_or(RecordError::SpoilsField("count"))?;
    let event =
        Event { sequence, time_ms, kind, key, pinned, observed, provenance, who, why, rule, count };
    // Names and media types have several spellings; only the canonical one is a record.
    if !rest.is_empty() {
        return Err(RecordError::SpoilsLayout);
    }
    if encode(&event) != bytes {
        return Err(RecordError::SpoilsField("reference or media type"));
    }
    Ok(event)
}

fn put_digest(out: &mut Vec<u8>, digest: Option<&Digest>) {
    let mut field = Vec::with_capacity(65);
    if let Some(digest) = digest {
        field.push(match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        field.extend_from_slice(digest.as_bytes());
    }
    take::put_prefixed(out, &field);
}

fn digest(field: &[u8]) -> Option<Digest> {
    match field.split_first()? {
        (1, raw) => Some(Digest::sha256(raw.try_into().ok()?)),
        (2, raw) => Some(Digest::sha512(raw.try_into().ok()?)),
        _ => None,
    }
}

fn content(raw: &[u8], media: &[u8], size: &[u8]) -> Result<Option<Content>, RecordError> {
    if raw.is_empty() && media.is_empty() && size.is_empty() {
        return Ok(None);
    }
    let digest = digest(raw).ok_or(RecordError::SpoilsField("observed"))?;
    let media_type = std::str::from_utf8(media)
        .ok()
        .and_then(|text| text.parse::<MediaType>().ok())
        .ok_or(RecordError::SpoilsField("media type"))?;
    let size_bytes = u64_field(size).ok_or(RecordError::SpoilsField("size"))?;
    Ok(Some(Content { digest, media_type, size_bytes }))
}

fn optional<T>(
    field: &[u8],
    name: &'static str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, RecordError> {
    if field.is_empty() {
        return Ok(None);
    }
    parse(field).map(Some).ok_or(RecordError::SpoilsField(name))
}

fn text(field: &[u8], name: &'static str) -> Result<String, RecordError> {
    std::str::from_utf8(field).map(str::to_owned).map_err(|_| RecordError::SpoilsField(name))
}

fn u64_field(field: &[u8]) -> Option<u64> {
    field.try_into().ok().map(u64::from_be_bytes)
}

const fn number(provenance: Provenance) -> u8 {
    match provenance {
        Provenance::FirstSeen => 1,
        Provenance::Pushed => 2,
        Provenance::Approved => 3,
        Provenance::Imported => 4,
    }
}

fn provenance(field: &[u8]) -> Option<Provenance> {
    use Provenance::{Approved, FirstSeen, Imported, Pushed};
    [FirstSeen, Pushed, Approved, Imported].into_iter().find(|known| field == [number(*known)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Draft;

    fn any_digest() -> impl Strategy<Value = Digest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Digest::sha256),
            any::<[u8; 64]>().prop_map(Digest::sha512)
        ]
    }

    fn any_content() -> impl Strategy<Value = Content> {
        (any_digest(), "[a-z]{1,9}/[a-z.+]{1,20}", any::<u64>()).prop_map(
            |(digest, media_type, size_bytes)| Content {
                digest,
                media_type: media_type.parse().unwrap(),
                size_bytes,
            },
        )
    }

    fn any_key() -> impl Strategy<Value = PinKey> {
        ("[a-z]{1,9}\\.io", "[a-z]{1,9}/[a-z]{1,9}", "[a-zA-Z0-9_]{1,20}").prop_map(
            |(registry, repository, tag)| PinKey {
                registry: registry.parse().unwrap(),
                repository: repository.parse().unwrap(),
                tag: tag.parse().unwrap(),
            },
        )
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let what = (
            proptest::sample::select(EventKind::ALL.to_vec()),
            proptest::option::of(any_key()),
            proptest::option::of(any_digest()),
            proptest::option::of(any_content()),
        );
        let words = (proptest::option::of(0..4usize), ".*", ".*", ".*", any::<[u64; 3]>());
        (what, words).prop_map(|((kind, key, pinned, observed), (from, who, why, rule, n))| {
            use Provenance::{Approved, FirstSeen, Imported, Pushed};
            let provenance = from.map(|at| [FirstSeen, Pushed, Approved, Imported][at]);
            let draft = Draft::new(kind, key);
            Draft { pinned, observed, provenance, who, why, rule, count: n[0], ..draft }
                .at(n[1], n[2])
        })
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(event in any_event()) {
            prop_assert_eq!(decode(&encode(&event)), Ok(event));
        }

        #[test]
        fn decoding_never_panics_and_accepts_one_spelling_only(
            event in any_event(),
            at in any::<proptest::sample::Index>(),
            byte: u8,
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = decode(&noise);
            let mut bytes = encode(&event);
            let at = at.index(bytes.len());
            let _ = decode(&bytes[..at]);
            bytes[at] = byte;
            if let Ok(event) = decode(&bytes) {
                prop_assert_eq!(encode(&event), bytes);
            }
        }
    }

    #[test]
    fn a_later_version_and_an_unknown_kind_are_refused_by_name() {
        let mut bytes = encode(&Draft::new(EventKind::Created, None).at(1, 2));
        bytes[1] = 99;
        assert_eq!(decode(&bytes), Err(RecordError::UnknownKind(99)));
        bytes[0] = 2;
        assert_eq!(decode(&bytes), Err(RecordError::UnknownVersion(2)));
    }

    #[test]
    fn the_bytes_of_a_record_never_change() {
        let event = Draft { why: "id".into(), ..Draft::new(EventKind::Created, None) }.at(1, 2);
        let expected = concat!(
            "0101",
            "0000000000000001",
            "0000000000000002",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "000000026964",
            "00000000",
            "000000080000000000000000"
        );
        assert_eq!(super::super::files::hex(&encode(&event)), expected);
    }
}
