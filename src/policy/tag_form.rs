//! What the form of a tag promises: a full version, a partial one, a commit, a build date.

/// Words that move by custom: `1.2.3-nightly` is no full version.
const MOVING_WORDS: [&str; 6] = ["canary", "dev", "edge", "latest", "nightly", "snapshot"];

/// What kind of version a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionForm {
    /// `^v?N.N.N(.N)*([-_.+]…)?$`, without a word that moves.
    Full,
    /// Full, but for this word.
    Moving(&'static str),
    /// Not a version.
    Other,
    /// `v?N(.N)?` with an optional suffix: `3`, `3.19`, `1.21-alpine`.
    Partial,
}

/// Reads `tag` as a version (design, section 3).
///
/// A word that moves must stand alone between separators (`-`, `_`, `.`, `+`) or ends, in any
/// case: `1.2.3-SNAPSHOT` and `1.2.3-dev.1` move; `1.2.3-nightly20250101` and `1.2.3.dev1` name one
/// build and are full, since a false hold costs staleness, a false follow a compromise.
///
/// `1.2.3rc1` is neither full (its suffix has no separator) nor partial (it has three numbers);
/// a build date such as `2025-01-31` is not partial.
pub fn version_form(tag: &str) -> VersionForm {
    let Some((count, suffix)) = numbers(tag.strip_prefix('v').unwrap_or(tag)) else {
        return VersionForm::Other;
    };
    if count >= 3 {
        return moving_word(suffix).map_or(VersionForm::Full, VersionForm::Moving);
    }
    let goes_on = suffix.strip_prefix('.').is_some_and(|rest| starts_with_digit(rest.as_bytes()));
    if goes_on || is_build_date(tag) { VersionForm::Other } else { VersionForm::Partial }
}

/// Whether `tag` is a commit id: `sha-` and 7 to 40 hex digits, or 40 hex digits.
pub fn is_commit_id(tag: &str) -> bool {
    let (hex, least) = tag.strip_prefix("sha-").map_or((tag, 40), |hex| (hex, 7));
    (least..=40).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a build date of this century stands in `tag`, alone between separators or ends:
/// `20250131`, `2025-01-31`, `20250131T1200`, `202501311200`, `v20250131-abc`, `noble-20250127`,
/// `RELEASE.2025-01-31T12-00-00Z`.
pub fn is_build_date(tag: &str) -> bool {
    let bytes = tag.strip_prefix('v').unwrap_or(tag).as_bytes();
    (0..bytes.len())
        .filter(|&at| at == 0 || is_separator(bytes[at - 1]))
        .any(|at| starts_with_date(&bytes[at..]))
}

/// How many dot-separated numbers `text` begins with, and what follows; `None` if none or if the
/// suffix does not begin with a separator.
fn numbers(text: &str) -> Option<(usize, &str)> {
    let mut rest = after_number(text)?;
    let mut count = 1;
    while let Some(next) = rest.strip_prefix('.').and_then(after_number) {
        rest = next;
        count += 1;
    }
    Some((count, rest))
}

/// What follows the number at the start of `text`: nothing, or a separator and more.
fn after_number(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &text[digits..];
    let is_whole = rest.as_bytes().first().is_none_or(|&byte| is_separator(byte));
    (digits > 0 && is_whole).then_some(rest)
}

fn moving_word(suffix: &str) -> Option<&'static str> {
    let is_there = |word: &&str| {
        suffix.split(['-', '_', '.', '+']).any(|part| part.eq_ignore_ascii_case(word))
    };
    MOVING_WORDS.into_iter().find(is_there)
}

fn starts_with_date(bytes: &[u8]) -> bool {
    date_then(bytes).is_some_and(|(is_compact, rest)| ends_date(rest, is_compact))
}

/// Whether the date at the start of `bytes` is without separators, and what follows it.
fn date_then(bytes: &[u8]) -> Option<(bool, &[u8])> {
    let (year, rest) = bytes.split_first_chunk::<4>()?;
    let (separator, rest) = match rest {
        [separator @ (b'-' | b'_'), rest @ ..] => (Some(separator), rest),
        rest => (None, rest),
    };
    let (month, rest) = rest.split_first_chunk::<2>()?;
    let rest = match (separator, rest) {
        (None, rest) => rest,
        (Some(first), [second, rest @ ..]) if first == second => rest,
        (Some(_), _) => return None,
    };
    let (day, rest) = rest.split_first_chunk::<2>()?;
    let is_date = year.starts_with(b"20")
        && year.iter().all(u8::is_ascii_digit)
        && (1..=12).contains(&two_digits(*month))
        && (1..=31).contains(&two_digits(*day));
    is_date.then_some((separator.is_none(), rest))
}

/// Whether a date may end before `rest`: at an end, a separator, a time (`T12…`), or, where the
/// date is compact, four or six digits of a time.
fn ends_date(rest: &[u8], is_compact: bool) -> bool {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = rest.get(digits).is_none_or(|&byte| is_separator(byte));
    match rest {
        [b'T' | b't', time @ ..] => starts_with_digit(time),
        _ if digits == 0 => ends,
        _ => ends && is_compact && matches!(digits, 4 | 6),
    }
}

/// The number of two digits; 0 if they are none.
fn two_digits([tens, ones]: [u8; 2]) -> u8 {
    if tens.is_ascii_digit() && ones.is_ascii_digit() {
        (tens - b'0') * 10 + (ones - b'0')
    } else {
        0
    }
}

fn starts_with_digit(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_digit)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.' | b'+')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::VersionForm::{Full, Moving, Other, Partial};
    use super::*;

    #[test]
    fn versions_are_full_partial_or_none() {
        for (tag, form) in [
            ("1.2.3", Full),
            ("v2.1.20", Full),
            ("2.1.20-debian", Full),
            ("v1.2.3-alpine", Full),
            ("1.2.3.4", Full),
            ("1.2.3+build", Full),
            ("1.2.3_1", Full),
            ("1.2.3-rc.1", Full),
            ("1.2.3.RELEASE", Full),
            ("1.2.3.4rc1", Full),
            ("2025.01.31", Full),
            ("1.2.3-nightly20250101", Full),
            ("1.2.3.dev1", Full),
            ("1.2.3-developer", Full),
            ("1.2.3-SNAPSHOT", Moving("snapshot")),
            ("1.2.3-dev.1", Moving("dev")),
            ("1.2.3_Nightly", Moving("nightly")),
            ("1.2.3-alpine-edge", Moving("edge")),
            ("v1.2.3-canary.4", Moving("canary")),
            ("1.2.3.latest", Moving("latest")),
            ("3", Partial),
            ("v3", Partial),
            ("3.19", Partial),
            ("1.21-alpine", Partial),
            ("3-slim", Partial),
            ("1.2.x", Partial),
            ("1.2-latest", Partial),
            ("1.2.3rc1", Other),
            ("3.13rc1", Other),
            ("20250131", Other),
            ("2025-01-31", Other),
            ("latest", Other),
            ("v", Other),
            ("vv1.2.3", Other),
            ("V1.2.3", Other),
            ("a1.2.3", Other),
            ("", Other),
        ] {
            assert_eq!(version_form(tag), form, "{tag}");
        }
    }

    #[test]
    fn commit_ids_are_hex_of_a_known_length() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        for (tag, is) in [
            ("sha-abcdef0", true),
            ("sha-ABCDEF0", true),
            ("sha-abcdef", false),
            ("sha-abcdefg", false),
            (sha1, true),
            (&format!("sha-{sha1}"), true),
            (&format!("sha-{sha1}0"), false),
            (&sha1[1..], false),
            ("abcdef0", false),
        ] {
            assert_eq!(is_commit_id(tag), is, "{tag}");
        }
    }

    #[test]
    fn build_dates_stand_alone() {
        for tag in [
            "20250131",
            "2025-01-31",
            "2025_01_31",
            "20250131T120000Z",
            "20250131-1",
            "202501311200",
            "20250131120000",
            "v20250131-abcdef0",
            "noble-20250127",
            "RELEASE.2025-01-31T12-00-00Z",
        ] {
            assert!(is_build_date(tag), "{tag}");
        }
        for tag in [
            "",
            "v",
            "2025",
            "2025-01",
            "20251301",
            "20250132",
            "20250100",
            "19990131",
            "x20250131",
            "202501311",
            "20250131x",
            "2025-01_31",
            "2025-01-311",
            "20250131Tx",
            "12345678",
        ] {
            assert!(!is_build_date(tag), "{tag}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", tag in "[v0-9T._+-]{0,24}") {
            for text in [text, tag] {
                let _ = (version_form(&text), is_commit_id(&text), is_build_date(&text));
            }
        }
    }
}
