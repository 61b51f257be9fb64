//! Whether an index only gained platforms.

use std::collections::HashSet;

use super::Manifest;
use crate::oci::descriptor::{Descriptor, Platform};

/// See [`Manifest::extends`].
pub(super) fn extends(observed: &Manifest, pinned: &Manifest) -> bool {
    let same_head = observed.kind == pinned.kind
        && observed.subject == pinned.subject
        && observed.artifact_type == pinned.artifact_type;
    if !(observed.kind.is_index() && same_head) {
        return false;
    }
    let taken = Taken::of(pinned);
    let mut kept = pinned.children.iter().peekable();
    for child in &observed.children {
        if kept.next_if_eq(&child).is_none() && !taken.allows(child) {
            return false;
        }
    }
    kept.next().is_none()
}

/// For whom the pinned index has something.
enum Taken {
    /// A child without a platform may be anybody's.
    Everybody,
    Pairs(HashSet<Pair>),
}

/// An (os, architecture), normalised.
type Pair = (String, String);

impl Taken {
    fn of(pinned: &Manifest) -> Self {
        let platforms = pinned.children.iter().map(|child| child.platform.as_ref());
        let pairs = platforms.map(|platform| normalised(platform?)).collect::<Option<_>>();
        pairs.map_or(Self::Everybody, Self::Pairs)
    }

    fn allows(&self, added: &Descriptor) -> bool {
        let is_image = added.media_type.manifest_kind().is_some_and(|kind| !kind.is_index());
        let Some(platform) = added.platform.as_ref().filter(|_| is_image) else { return false };
        if platform.is_unknown() {
            return added.is_attestation;
        }
        // An attestation for a platform would be run by clients that do not know the annotation.
        match self {
            Self::Pairs(pairs) if !added.is_attestation => normalised(platform)
                .is_some_and(|pair| is_canonical(platform, &pair) && !serve(pairs, &pair)),
            _ => false,
        }
    }
}

/// Whether a client of the platform `pair` finds a child among `pairs`: its own, or one that it
/// takes where there is none of its own (containerd's `platforms.Only` and `platforms.Default`).
/// A child added for `pair` would come before that.
fn serve(pairs: &HashSet<Pair>, (os, architecture): &Pair) -> bool {
    let lesser: &[&str] = match (&**os, &**architecture) {
        (_, "amd64") => &["386"],
        ("windows", "arm64") => &["amd64", "386", "arm"],
        (_, "arm64") => &["arm"],
        _ => &[],
    };
    // On macOS and FreeBSD containers of Linux run, too.
    let systems = match &**os {
        "linux" | "windows" => vec![&**os],
        other => vec![other, "linux"],
    };
    pairs.iter().any(|(taken_os, taken)| {
        systems.contains(&&**taken_os) && (taken == architecture || lesser.contains(&&**taken))
    })
}

/// The pair as containerd's `platforms.Normalize` reads it; `None` where a client has to guess.
fn normalised(platform: &Platform) -> Option<Pair> {
    let (os, architecture) = (platform.os.to_lowercase(), platform.architecture.to_lowercase());
    let os = match &*os {
        "" => return None,
        "macos" => "darwin".into(),
        _ => os,
    };
    let architecture = match &*architecture {
        "" => return None,
        "aarch64" => "arm64".into(),
        "armel" | "armhf" => "arm".into(),
        "i386" => "386".into(),
        "x86-64" | "x86_64" => "amd64".into(),
        _ => architecture,
    };
    Some((os, architecture))
}

/// Whether every client reads the platform as `pair`: it is spelled so, in `GOOS`'s and `GOARCH`'s
/// letters. `x86_64` is `amd64` to some and nothing to others.
fn is_canonical(platform: &Platform, pair: &Pair) -> bool {
    let plain = |text: &str| {
        text != "unknown" && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
    };
    (&platform.os, &platform.architecture) == (&pair.0, &pair.1) && plain(&pair.0) && plain(&pair.1)
}

#[cfg(test)]
mod tests;
