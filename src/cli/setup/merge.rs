//! How a file of ours goes together with the one that is there.

use super::setting::{MARK, Merge, Refusal, SettingFile};
use super::{containerd, hosts, json_lists, toml_tables};

/// The file as it is to be; the same text where nothing is to be done.
///
/// # Errors
/// [`Refusal::Unmergeable`] where something would be lost, or the file cannot be read.
pub(super) fn merged(file: &SettingFile, existing: Option<&str>) -> Result<String, Refusal> {
    let ours = &file.content;
    let Some(existing) = existing.filter(|text| !text.trim().is_empty()) else {
        return Ok(ours.clone());
    };
    if existing == ours {
        return Ok(ours.clone());
    }
    let result = match file.merge {
        Merge::Certificates => Ok(with_certificate(existing, ours)),
        Merge::ContainerdConfig => containerd::merge(existing, ours),
        Merge::Hosts => hosts::objection(existing).map_or_else(|| Ok(ours.clone()), Err),
        Merge::JsonLists => json_lists::merge(existing, ours),
        Merge::Own if is_ours(existing) => Ok(ours.clone()),
        Merge::Own => Err("immutag did not write it, and cannot merge it: put in by hand what \
                           this command prints without --write, or move it away"
            .to_owned()),
        Merge::TomlTables => toml_tables::merge(existing, ours),
    };
    result.map_err(|why| Refusal::Unmergeable { path: file.path.clone(), why })
}

/// Whether immutag wrote a file: its first lines say so.
fn is_ours(existing: &str) -> bool {
    existing.lines().take(2).any(|line| line.starts_with('#') && line.contains(MARK))
}

fn with_certificate(existing: &str, ours: &str) -> String {
    if existing.contains(ours.trim()) {
        return existing.to_owned();
    }
    format!("{}\n{ours}", existing.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(merge: Merge, content: &str) -> SettingFile {
        SettingFile { path: "/a".to_owned(), content: content.to_owned(), merge }
    }

    #[test]
    fn a_file_is_replaced_only_where_immutag_wrote_it() {
        let ours = file(Merge::Own, "# Written by `immutag setup k3s`.\nmirrors: {}\n");
        let shell = "#!/usr/sbin/nft -f\n# Written by `immutag setup egress nftables`: x\n";
        for (existing, is_replaced) in [
            (None, true),
            (Some(" \n"), true),
            (Some("# Written by `immutag setup k3s`.\nmirrors: 1\n"), true),
            (Some(shell), true),
            (Some("mirrors: 1\n"), false),
            (Some("a: 1\nb: 2\n# Written by `immutag setup k3s`.\n"), false),
        ] {
            match merged(&ours, existing) {
                Ok(text) => assert!(is_replaced && text == ours.content, "{existing:?}"),
                Err(refusal) => assert!(!is_replaced, "{existing:?}: {refusal}"),
            }
        }
    }

    #[test]
    fn a_certificate_is_added_once() {
        let ours = file(Merge::Certificates, "-----BEGIN-----\nb\n");
        let once = merged(&ours, Some("-----BEGIN-----\na\n")).unwrap();
        assert_eq!(once, "-----BEGIN-----\na\n-----BEGIN-----\nb\n");
        assert_eq!(merged(&ours, Some(&once)).unwrap(), once);
    }
}
