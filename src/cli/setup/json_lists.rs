//! Lists in a JSON file of somebody else's: ours come first, and not a byte around them changes.

use std::ops::Range;

use serde_json::{Map, Value};

/// A member of the outermost object, and where its value stands.
struct Member {
    key: String,
    value: Range<usize>,
    key_start: usize,
}

/// Puts the lists of `ours` into `existing`: where there is such a list, our elements come first
/// and the others stay.
///
/// # Errors
/// Words, where `existing` is no object, has a key twice, or has something else than a list there.
pub(super) fn merge(existing: &str, ours: &str) -> Result<String, String> {
    let parse = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is no JSON ({error}): repair it first")),
    };
    let (mut expected, ours): (Map<_, _>, Map<_, _>) = (parse(existing)?, parse(ours)?);
    let mut text = existing.to_owned();
    for (key, list) in ours {
        let list = union(&list, expected.get(&key)).map_err(|why| format!("`{key}` {why}"))?;
        if expected.get(&key) != Some(&list) {
            text = with_member(&text, &key, &list)?;
            expected.insert(key, list);
        }
    }
    // Whatever the text looked like: what comes out says what it said, and ours.
    if parse(&text)? != expected {
        return Err("it cannot be changed safely: put the keys in by hand".to_owned());
    }
    Ok(text)
}

/// Our elements, then those that are there besides.
fn union(ours: &Value, theirs: Option<&Value>) -> Result<Value, &'static str> {
    let ours = ours.as_array().ok_or("is no list of ours")?;
    let theirs = match theirs {
        None => &[],
        Some(theirs) => theirs.as_array().ok_or("is no list there")?.as_slice(),
    };
    let others = theirs.iter().filter(|element| !ours.contains(element));
    Ok(ours.iter().chain(others).cloned().collect())
}

fn with_member(text: &str, key: &str, value: &Value) -> Result<String, String> {
    let members = members(text);
    if members.iter().filter(|member| member.key == key).count() > 1 {
        return Err(format!("it has `{key}` twice"));
    }
    let indent = members.first().map_or("  ", |first| indent_of(text, first.key_start));
    let value = format!("{value:#}").replace('\n', &format!("\n{indent}"));
    if let Some(member) = members.iter().find(|member| member.key == key) {
        let (before, after) = (&text[..member.value.start], &text[member.value.end..]);
        return Ok(format!("{before}{value}{after}"));
    }
    let member = format!("\"{key}\": {value}");
    Ok(match members.last() {
        Some(last) => {
            let (before, after) = text.split_at(last.value.end);
            format!("{before},\n{indent}{member}{after}")
        }
        None => format!("{{\n{indent}{member}\n}}\n"),
    })
}

/// The white space between the line's begin and `at`; two spaces if there is anything else.
fn indent_of(text: &str, at: usize) -> &str {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = &text[line..at];
    if !before.is_empty() && before.trim().is_empty() { before } else { "  " }
}

/// The members of the outermost object of a text that is valid JSON.
fn members(text: &str) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = text.find('{').map_or(text.len(), |open| open + 1);
    while let Some(found) = text[at..].find('"') {
        let key_start = at + found;
        let key_end = end_of(text, key_start);
        let key = serde_json::from_str(&text[key_start..key_end]).unwrap_or_default();
        let colon = text[key_end..].find(':').map_or(text.len(), |colon| key_end + colon + 1);
        let blank = text[colon..].len() - text[colon..].trim_start().len();
        let value = colon + blank..end_of(text, colon + blank);
        at = value.end;
        members.push(Member { key, value, key_start });
    }
    members
}

/// Where the value that begins at `start` ends.
fn end_of(text: &str, start: usize) -> usize {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for (offset, byte) in text[start..].bytes().enumerate() {
        if is_string {
            is_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            if is_string || depth > 0 {
                continue;
            }
            return start + offset + 1;
        }
        match byte {
            b'"' => is_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return start + offset + 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b',' | b'}' | b']' if depth == 0 => return start + offset,
            _ if depth == 0 && byte.is_ascii_whitespace() => return start + offset,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "{\"registry-mirrors\": [\"http://127.0.0.1:5050\"]}";

    #[test]
    fn a_list_is_added_and_the_rest_stays_as_it_is_written() {
        let existing = "{\n    \"log-level\":   \"warn\",\n    \"labels\": [\"a}\\\"]\"]\n}\n";
        let merged = merge(existing, OURS).unwrap();
        let expected = "{\n    \"log-level\":   \"warn\",\n    \"labels\": [\"a}\\\"]\"],\n    \
                        \"registry-mirrors\": [\n      \"http://127.0.0.1:5050\"\n    ]\n}\n";
        assert_eq!(merged, expected);
        assert_eq!(merge(&merged, OURS).unwrap(), merged);
    }

    #[test]
    fn ours_come_first_and_others_stay() {
        let existing =
            "{\"registry-mirrors\":[\"http://other\",\"http://127.0.0.1:5050\"],\"a\":{}}";
        let merged: Value = serde_json::from_str(&merge(existing, OURS).unwrap()).unwrap();
        let expected = serde_json::json!({
            "registry-mirrors": ["http://127.0.0.1:5050", "http://other"],
            "a": {},
        });
        assert_eq!(merged, expected);
    }

    #[test]
    fn any_object_takes_the_list() {
        for existing in [
            "{}",
            " {\n}\n",
            "{\"a\":1}",
            "{\"a\" : null , \"b\":[[],{\"registry-mirrors\":1}] }",
            "{\"\\u0061\\\\\": \"\\\\\", \"registry-mirrors\": []}",
            "{\"a\": -1.5e3\n}",
        ] {
            let mut expected: Map<String, Value> = serde_json::from_str(existing).unwrap();
            expected.insert(
                "registry-mirrors".to_owned(),
                serde_json::json!(["http://127.0.0.1:5050"]),
            );
            let merged = merge(existing, OURS).unwrap();
            assert_eq!(serde_json::from_str::<Map<_, _>>(&merged).unwrap(), expected, "{merged}");
        }
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        for (existing, words) in [
            ("{", "no JSON"),
            ("[]", "no JSON object"),
            ("{\"registry-mirrors\": \"http://other\"}", "is no list there"),
            ("{\"registry-mirrors\": [\"a\"], \"registry-mirrors\": [\"b\"]}", "twice"),
            ("{\"a\": 1,}", "no JSON"),
        ] {
            let refusal = merge(existing, OURS).unwrap_err();
            assert!(refusal.contains(words), "{existing}: {refusal}");
        }
    }
}
