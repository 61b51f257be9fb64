//! Platforms, as they are named on a command line.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oci::Platform;

/// A platform whose content is wanted: `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WarmPlatform {
    os: String,
    architecture: String,
    /// Without one, every variant is wanted.
    variant: Option<String>,
}

impl WarmPlatform {
    pub(super) fn takes(&self, platform: &Platform) -> bool {
        platform.os == self.os
            && platform.architecture == self.architecture
            && self.variant.as_ref().is_none_or(|variant| *variant == platform.variant)
    }
}

impl FromStr for WarmPlatform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_word = |part: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (1..=64).contains(&part.len()) && part.bytes().all(is_plain)
        };
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, variant @ ..]
                if variant.len() <= 1 && parts.iter().all(|part| is_word(part)) =>
            {
                let variant = variant.first().map(ToString::to_string);
                Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
            }
            _ => Err("a platform is os/architecture[/variant]: linux/arm64".to_owned()),
        }
    }
}

impl std::fmt::Display for WarmPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { os, architecture, variant } = self;
        write!(f, "{os}/{architecture}")?;
        variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl TryFrom<String> for WarmPlatform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WarmPlatform> for String {
    fn from(platform: WarmPlatform) -> Self {
        platform.to_string()
    }
}

/// A platform, as people write it.
pub(super) fn text_of(platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    let glue = if variant.is_empty() { "" } else { "/" };
    format!("{os}/{architecture}{glue}{variant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_without_a_variant_takes_all_of_them() {
        let arm = |variant: &str| Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: variant.into(),
            ..Platform::default()
        };
        let takes = |wanted: &str, variant: &str| {
            wanted.parse::<WarmPlatform>().unwrap().takes(&arm(variant))
        };
        assert!(takes("linux/arm", "v7") && takes("linux/arm", "") && takes("linux/arm/v7", "v7"));
        assert!(!takes("linux/arm/v7", "v6") && !takes("linux/arm64", "v7"));
        for text in ["", "linux", "linux/", "/arm", "linux/arm/v7/x", "linux/a b", "linux/arm/"] {
            assert!(text.parse::<WarmPlatform>().is_err(), "{text}");
        }
    }
}
