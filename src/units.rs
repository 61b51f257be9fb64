//! Sizes and durations with their unit, as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use thiserror::Error;

/// A number of bytes, written `20GiB`, `500MB`, `1.5 TiB` or as a plain number of bytes.
///
/// `KiB MiB GiB TiB` are powers of 1024, `kB MB GB TB` powers of 1000; case does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A number of bytes, or a share of the disk, written `80%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSize {
    /// So many bytes.
    Bytes(u64),
    /// A share of the disk, in percent.
    Share(Percent),
}

/// A share in whole percent, 0 to 100, written `80%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// A duration, written `7d`, `1h 30m`, `500ms` or `0`; at most a century.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is no size or duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// It is not a duration.
    #[error("a duration is numbers with units, for example \"30s\", \"1h 30m\", \"7d\", or 0")]
    SpoilsDuration,
    /// It is not a share.
    #[error("a share is a whole number of percent, for example \"80%\"")]
    SpoilsShare,
    /// It is not a size.
    #[error("a size is a number with a unit, for example \"500MB\" or \"20GiB\"")]
    SpoilsSize,
    /// A duration is longer than a century.
    #[error("a duration is at most 100 years")]
    TooLong,
    /// A size does not fit 64 bits.
    #[error("the size is too large")]
    TooLarge,
}

const UNITS: [(&str, u64); 13] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// Names that [`ByteSize`] prints: of [`UNITS`], without the one-letter forms and bytes.
const PRINTED: usize = 8;

const CENTURY: Duration = Duration::from_hours(36_525 * 24);

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let (_, factor) = UNITS
            .into_iter()
            .find(|(name, _)| unit.eq_ignore_ascii_case(name) || unit.is_empty() && *name == "B")
            .ok_or(UnitError::SpoilsSize)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let spoilt = whole.is_empty() || fraction.is_empty() || fraction.contains('.');
        if spoilt || fraction.len() > 6 {
            return Err(UnitError::SpoilsSize);
        }
        let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
        let tenths: u64 = fraction.parse().map_err(|_| UnitError::SpoilsSize)?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let bytes = u128::from(whole) * u128::from(factor)
            + u128::from(tenths) * u128::from(factor) / scale;
        u64::try_from(bytes).map(Self).map_err(|_| UnitError::TooLarge)
    }
}

impl Percent {
    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let share = u128::from(whole) * u128::from(self.0.min(100)) / 100;
        u64::try_from(share).unwrap_or(whole)
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.trim().strip_suffix('%').ok_or(UnitError::SpoilsShare)?.trim_end();
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
        let percent = digits.parse().ok().filter(|percent| is_number && *percent <= 100);
        percent.map(Self).ok_or(UnitError::SpoilsShare)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.0))
    }
}

impl DiskSize {
    /// How many bytes it is, on a disk of `disk` bytes.
    pub fn bytes(self, disk: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(percent) => percent.of(disk),
        }
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => ByteSize(*bytes).fmt(f),
            Self::Share(percent) => write!(f, "{percent} of the disk"),
        }
    }
}

impl FromStr for DiskSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.contains('%') {
            return text.parse().map(Self::Share);
        }
        text.parse().map(|ByteSize(bytes)| Self::Bytes(bytes))
    }
}

impl fmt::Display for ByteSize {
    /// The exact size where a unit gives it in few digits, else rounded down to one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let exact = UNITS[..PRINTED]
            .iter()
            .find(|(_, factor)| bytes >= *factor && bytes % factor == 0 && bytes / factor < 10_000);
        if let Some((name, factor)) = exact {
            return f.pad(&format!("{}{name}", bytes / factor));
        }
        let binary = UNITS[..PRINTED].iter().step_by(2).find(|(_, factor)| bytes >= *factor);
        match binary {
            None => f.pad(&format!("{bytes}B")),
            Some((name, factor)) => {
                let tenths = u128::from(bytes) * 10 / u128::from(*factor);
                f.pad(&format!("{}.{}{name}", tenths / 10, tenths % 10))
            }
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let duration =
            humantime::parse_duration(text.trim()).map_err(|_| UnitError::SpoilsDuration)?;
        if duration > CENTURY { Err(UnitError::TooLong) } else { Ok(Self(duration)) }
    }
}

impl fmt::Display for Span {
    /// The shortest exact form down to milliseconds: `7d`, `1h30m`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest_ms = self.0.as_millis();
        let mut parts = Vec::new();
        for (name, unit_ms) in
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
        {
            if rest_ms >= unit_ms {
                parts.push(format!("{}{name}", rest_ms / unit_ms));
                rest_ms %= unit_ms;
            }
        }
        if parts.is_empty() { f.pad("0") } else { f.pad(&parts.concat()) }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sizes("a size such as \"20GiB\"", ByteSize))
    }
}

impl<'de> Deserialize<'de> for DiskSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a size such as \"20GiB\", or a share of the disk such as \"80%\"";
        deserializer.deserialize_any(Sizes(expected, DiskSize::Bytes))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a plain number of bytes, or a text: what is expected, and what a number means.
struct Sizes<T>(&'static str, fn(u64) -> T);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Sizes<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        let negative = |_| E::invalid_value(Unexpected::Signed(number), &self);
        u64::try_from(number).map(self.1).map_err(negative)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\" or \"7d\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Span, E> {
                if number == 0 { Ok(Span::default()) } else { Err(no_unit(number)) }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

fn no_unit<E: serde::de::Error>(number: i64) -> E {
    E::custom(format!("the number {number} needs a unit, for example \"{number}s\""))
}

/// A time in milliseconds since the Unix epoch, in UTC and to the second: `2026-04-22 09:13:00Z`.
pub fn utc(ms: u64) -> String {
    rfc3339(ms).map_or_else(|| format!("{ms} ms"), |stamp| stamp.replace('T', " "))
}

/// The same as in RFC 3339, `2026-04-22T09:13:00Z`; `None` behind the year 9999.
pub fn rfc3339(ms: u64) -> Option<String> {
    let stamp = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(stamp.strftime("%FT%TZ").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("20GiB", 20 << 30),
            ("500MB", 500_000_000),
            ("1.5 TiB", 3 << 39),
            ("17", 17),
            ("0", 0),
            ("1k", 1024),
            ("2 gib", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GiB", "1.GiB", ".5G", "1.2.3M", "-1", "1 XB", "١GiB", "1.1234567G"] {
            assert_eq!(text.parse::<ByteSize>(), Err(UnitError::SpoilsSize), "{text}");
        }
        assert_eq!("99999999TiB".parse::<ByteSize>(), Err(UnitError::TooLarge));
    }

    #[test]
    fn sizes_print_exactly_where_that_is_short() {
        for (bytes, text) in [
            (20 << 30, "20GiB"),
            (500_000_000, "500MB"),
            (0, "0B"),
            (1023, "1023B"),
            (1_234_567_891, "1.1GiB"),
            (1536 << 20, "1536MiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_share_of_the_disk_is_a_size_too() {
        for (text, size, printed) in [
            ("80%", DiskSize::Share(Percent(80)), "80% of the disk"),
            ("100 %", DiskSize::Share(Percent(100)), "100% of the disk"),
            ("20GiB", DiskSize::Bytes(20 << 30), "20GiB"),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
            assert_eq!(size.to_string(), printed);
        }
        for text in ["101%", "%", "-1%", "+1%", "1.5%", "80%%"] {
            assert_eq!(text.parse::<DiskSize>(), Err(UnitError::SpoilsShare), "{text}");
        }
        assert_eq!("80%".parse::<DiskSize>().unwrap().bytes(1000), 800);
        assert_eq!(Percent(100).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn durations_are_read_and_printed_short() {
        for (text, printed) in [
            ("7d", "7d"),
            ("168h", "7d"),
            ("1h 30m", "1h30m"),
            ("0", "0"),
            ("1500ms", "1s500ms"),
            ("24h", "1d"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), printed);
        }
        assert_eq!("7".parse::<Span>(), Err(UnitError::SpoilsDuration));
        assert_eq!("-1s".parse::<Span>(), Err(UnitError::SpoilsDuration));
        assert_eq!("101y".parse::<Span>(), Err(UnitError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_spans_print_what_they_read(text in ".*", ms in 0..u64::from(u32::MAX)) {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Span>();
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}
