//! Tables in a TOML file of somebody else's: ours are put in, and what is there stays.

use toml_edit::{Array, DocumentMut, Item, TableLike, TomlError, Value};

/// Puts the tables of `ours` into `existing`: in a list our elements come first and the others
/// stay.
///
/// # Errors
/// Words, where `existing` is no TOML, or says something else than ours at the same place.
pub(super) fn merge(existing: &str, ours: &str) -> Result<String, String> {
    let mut document: DocumentMut = existing.parse().map_err(|error| not_toml(&error))?;
    let ours: DocumentMut = ours.parse().map_err(|error| format!("{error}"))?;
    merge_table(document.as_table_mut(), ours.as_table(), "")?;
    Ok(document.to_string())
}

/// That a file is no TOML, and where, in one line.
pub(super) fn not_toml(error: &TomlError) -> String {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or_default();
    // Without a place the message is all there is.
    let why =
        if place == error.message() { String::new() } else { format!(": {}", error.message()) };
    format!("it is no TOML ({place}{why}): repair it, or move it away")
}

fn merge_table(theirs: &mut dyn TableLike, ours: &dyn TableLike, path: &str) -> Result<(), String> {
    for (key, item) in ours.iter() {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.\"{key}\"") };
        let Some(found) = theirs.get_mut(key) else {
            theirs.insert(key, unplaced(item));
            continue;
        };
        if let Some(table) = item.as_table_like() {
            let found = found.as_table_like_mut();
            merge_table(found.ok_or_else(|| differs(&path))?, table, &path)?;
        } else if let Some(list) = item.as_array() {
            put_first(found.as_array_mut().ok_or_else(|| differs(&path))?, list);
        } else if found.as_bool().is_none() || found.as_bool() != item.as_bool() {
            return Err(differs(&path));
        }
    }
    Ok(())
}

/// An item that stands behind what is there, not where it stood in ours.
fn unplaced(item: &Item) -> Item {
    let mut item = item.clone();
    if let Some(table) = item.as_table_mut() {
        table.set_position(None);
        for (_, inner) in table.iter_mut() {
            *inner = unplaced(inner);
        }
    }
    item
}

fn differs(path: &str) -> String {
    format!("`{path}` says something else there: change it by hand")
}

/// Our elements, then those that are there besides.
fn put_first(theirs: &mut Array, ours: &Array) {
    let texts = |list: &Array| -> Vec<String> {
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (mine, before) = (texts(ours), texts(theirs));
    let others = before.iter().filter(|text| !mine.contains(text)).cloned();
    let wanted: Vec<String> = mine.iter().cloned().chain(others).collect();
    if wanted != before {
        theirs.clear();
        theirs.extend(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "# ours\n[registry.\"docker.io\"]\n  mirrors = [\"127.0.0.1:5050\"]\n\n\
                        [registry.\"127.0.0.1:5050\"]\n  http = true\n";

    #[test]
    fn tables_are_added_and_the_rest_stays_as_it_is_written() {
        let existing = "debug = true # loud\n\n[worker.oci]\n  enabled=true\n";
        let merged = merge(existing, OURS).unwrap();
        assert_eq!(merged, format!("{existing}{OURS}"));
        assert_eq!(merge(&merged, OURS).unwrap(), merged);
    }

    #[test]
    fn our_mirror_comes_first_and_others_stay() {
        let existing = "[registry.\"docker.io\"]\n  mirrors = [\"other\", \"127.0.0.1:5050\"] # m\n  \
                        capath = 1\n\n[worker.oci]\n  a = 1\n";
        let merged = merge(existing, OURS).unwrap();
        insta::assert_snapshot!(merged, @r#"
        [registry."docker.io"]
          mirrors = ["127.0.0.1:5050", "other"] # m
          capath = 1

        [registry."127.0.0.1:5050"]
          http = true

        [worker.oci]
          a = 1
        "#);
        assert_eq!(merge(&merged, OURS).unwrap(), merged);
    }

    #[test]
    fn what_says_something_else_is_refused() {
        for (existing, words) in [
            ("[registry", "no TOML"),
            ("registry = 1\n", "`registry` says"),
            (
                "[registry.\"docker.io\"]\nmirrors = \"x\"\n",
                "`registry.\"docker.io\".\"mirrors\"` says",
            ),
            ("[registry.\"127.0.0.1:5050\"]\nhttp = false\n", "\"http\"` says"),
        ] {
            let refusal = merge(existing, OURS).unwrap_err();
            assert!(refusal.contains(words), "{existing}: {refusal}");
        }
    }
}
