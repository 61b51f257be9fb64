//! Byte ranges.
//!
//! Source: RFC 9110, section 14. A server may ignore a `Range` it does not like: several ranges,
//! other units and what is malformed get the whole.

/// What a `Range` header asks for, of content whose size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// One range: answer 206 with [`content_range`].
    Single {
        /// The first byte's offset.
        first: u64,
        /// The last byte's offset, inclusive; less than the size.
        last: u64,
    },
    /// No byte of it exists: answer 416 with [`unsatisfied_content_range`].
    Unsatisfiable,
    /// No range, or none that we follow: answer 200 with everything.
    Whole,
}

impl RangeRequest {
    /// Reads the value of a `Range` header against content of `size` bytes.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let spec = header.and_then(|header| header.split_once('='));
        let Some((unit, spec)) = spec else { return Self::Whole };
        if !unit.trim_start().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        match spec.trim().split_once('-') {
            Some(("", suffix)) => Self::suffix(suffix, size),
            Some((first, last)) => Self::from_first(first, last, size),
            None => Self::Whole,
        }
    }

    fn suffix(suffix: &str, size: u64) -> Self {
        match offset(suffix) {
            None => Self::Whole,
            Some(0) => Self::Unsatisfiable,
            // Nothing can be named in empty content, yet the suffix is lawful: all of nothing.
            Some(_) if size == 0 => Self::Whole,
            Some(length) => Self::Single { first: size.saturating_sub(length), last: size - 1 },
        }
    }

    fn from_first(first: &str, last: &str, size: u64) -> Self {
        let last = if last.is_empty() { Some(u64::MAX) } else { offset(last) };
        let (Some(first), Some(last)) = (offset(first), last) else { return Self::Whole };
        if first > last {
            Self::Whole
        } else if first >= size {
            Self::Unsatisfiable
        } else {
            Self::Single { first, last: last.min(size - 1) }
        }
    }
}

/// Digits and nothing else; more than 64 bits is as good as the largest offset.
fn offset(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The value of `Content-Range` for a 206.
pub fn content_range(first: u64, last: u64, size: u64) -> String {
    format!("bytes {first}-{last}/{size}")
}

/// The value of `Content-Range` for a 416.
pub fn unsatisfied_content_range(size: u64) -> String {
    format!("bytes */{size}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_what_the_rfc_says() {
        const fn single(first: u64, last: u64) -> RangeRequest {
            RangeRequest::Single { first, last }
        }
        const NONE: RangeRequest = RangeRequest::Unsatisfiable;
        const WHOLE: RangeRequest = RangeRequest::Whole;
        for (header, size, expected) in [
            ("bytes=0-0", 10, single(0, 0)),
            ("bytes=0-9", 10, single(0, 9)),
            ("bytes=3-", 10, single(3, 9)),
            ("bytes=0-", 10, single(0, 9)),
            ("bytes=3-99", 10, single(3, 9)),
            ("bytes=9-9", 10, single(9, 9)),
            ("Bytes= 3-4 ", 10, single(3, 4)),
            ("bytes=-3", 10, single(7, 9)),
            ("bytes=-99", 10, single(0, 9)),
            ("bytes=3-99999999999999999999999", 10, single(3, 9)),
            ("bytes=-99999999999999999999999", 10, single(0, 9)),
            ("bytes=10-", 10, NONE),
            ("bytes=10-20", 10, NONE),
            ("bytes=99999999999999999999999-", 10, NONE),
            ("bytes=18446744073709551615-", u64::MAX, NONE),
            ("bytes=-0", 10, NONE),
            ("bytes=0-", 0, NONE),
            ("bytes=-5", 0, WHOLE),
            ("bytes=4-3", 10, WHOLE),
            ("bytes=0-1,3-4", 10, WHOLE),
            ("bytes=0-5,2-7", 10, WHOLE),
            ("bytes=0-1,", 10, WHOLE),
            ("bytes=-", 10, WHOLE),
            ("bytes=", 10, WHOLE),
            ("bytes", 10, WHOLE),
            ("", 10, WHOLE),
            ("bytes=a-b", 10, WHOLE),
            ("bytes=+1-2", 10, WHOLE),
            ("bytes=1--2", 10, WHOLE),
            ("bytes=--2", 10, WHOLE),
            ("bytes=0x1-2", 10, WHOLE),
            ("bytes =0-1", 10, WHOLE),
            ("bytes=0 - 1", 10, WHOLE),
            ("items=0-1", 10, WHOLE),
            ("bytes=٣-", 10, WHOLE),
        ] {
            assert_eq!(RangeRequest::parse(Some(header), size), expected, "{header} of {size}");
        }
        assert_eq!(RangeRequest::parse(None, 10), RangeRequest::Whole);
    }

    #[test]
    fn content_range_names_the_bytes_and_the_size() {
        assert_eq!(content_range(3, 9, 10), "bytes 3-9/10");
        assert_eq!(unsatisfied_content_range(10), "bytes */10");
    }

    proptest! {
        #[test]
        fn a_single_range_lies_inside(
            header in "(bytes=)?[0-9,-]{0,24}|.{0,40}",
            size in prop_oneof![0u64..20, any::<u64>()],
        ) {
            if let RangeRequest::Single { first, last } = RangeRequest::parse(Some(&header), size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
