//! Platforms that sources ask for, beside those that an index has.

use crate::oci::{Manifest, Platform};

/// The platforms of an index, if none of them is the one that is wanted.
///
/// `None` where nothing is to be told: there is one that fits, what is wanted is no platform that
/// could be read, or the manifest is no index, whose platform stands in its config.
pub(super) fn missing(wanted: &str, manifest: &Manifest) -> Option<Vec<String>> {
    let (os, architecture, variant) = parse(wanted)?;
    if !manifest.kind.is_index() {
        return None;
    }
    let images = manifest.children.iter().filter(|child| !child.is_attestation);
    let platforms: Vec<_> = images.filter_map(|child| child.platform.as_ref()).collect();
    let fits = |platform: &&Platform| {
        let has = platform.variant.as_str();
        // Clients take an older arm where the wanted one is not there, and v8 is what arm64 is.
        let fits = variant.is_empty() || has.is_empty() || has <= variant;
        platform.os == os && platform.architecture == architecture && fits
    };
    let is_there = platforms.is_empty() || platforms.iter().any(fits);
    (!is_there).then(|| platforms.into_iter().map(text).collect())
}

/// Operating system, architecture and variant of `linux/arm/v7` or `arm64`.
///
/// Source: containerd's platforms package, "Normalization".
fn parse(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<_> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [architecture] => ("linux", *architecture, ""),
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => return None,
    };
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        // The machine's own, or one that only the builder knows.
        "" | "local" | "linux" | "windows" => return None,
        other => other,
    };
    Some((os, architecture, variant))
}

fn text(platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    let glue = if variant.is_empty() { "" } else { "/" };
    format!("{os}/{architecture}{glue}{variant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str)]) -> Manifest {
        let children = platforms.iter().enumerate().map(|(number, (architecture, variant))| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                "digest": format!("sha256:{number:064x}"),
                "platform": {"os": "linux", "architecture": architecture, "variant": variant},
            })
        });
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": children.collect::<Vec<_>>(),
        });
        Manifest::parse(index.to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn a_platform_that_an_index_lacks_is_told_and_no_other() {
        let index = index(&[("amd64", ""), ("arm64", "v8"), ("arm", "v6")]);
        let fitting = [
            "linux/amd64",
            "amd64",
            "linux/x86_64",
            "linux/arm64",
            "linux/arm64/v8",
            "linux/arm/v7",
        ];
        for wanted in fitting.into_iter().chain(["local", "$BUILDPLATFORM", "linux", "a/b/c/d", ""])
        {
            let told = missing(wanted, &index);
            assert!(told.is_none() || wanted.starts_with('$'), "{wanted}: {told:?}");
        }
        for wanted in ["linux/riscv64", "windows/amd64", "linux/arm/v5"] {
            assert_eq!(
                missing(wanted, &index).unwrap(),
                ["linux/amd64", "linux/arm64/v8", "linux/arm/v6"]
            );
        }
    }
}
