//! References, one a line: what `immutag export references` writes, or a person keeps.

use super::{Found, MENTIONS, Mention, reference};

/// The longest line, in bytes.
const LINE_BYTES: usize = 4 << 10;

/// Reads references. Blank lines and comments (`# …`, also behind a reference) count as nothing.
pub fn read(text: &str) -> Found {
    let mut found = Found::default();
    let mut start = 0;
    for (number, full) in (1..).zip(text.split_inclusive('\n')) {
        let begin = start;
        start += full.len();
        let line = full.trim_start_matches('\u{feff}');
        let line = line.split_once(" #").map_or(line, |(line, _)| line);
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        if found.mentions.len() >= MENTIONS {
            found.skip(number, "", "there are more than 10,000 images in the file");
            return found;
        }
        if name.len() > LINE_BYTES {
            found.skip(number, name, "the line is too long to be a reference");
            continue;
        }
        let before = full.len() - full.trim_start_matches('\u{feff}').trim_start().len();
        match reference(name) {
            Ok((reference, is_immutable)) => found.mention(Mention {
                reference,
                is_immutable,
                platform: None,
                line: number,
                column: full[..before].trim_start_matches('\u{feff}').chars().count() as u64 + 1,
                span: Some(begin + before..begin + before + name.len()),
                default_span: None,
                is_frontend: false,
            }),
            Err(why) => found.skip(number, name, why),
        }
    }
    found
}
