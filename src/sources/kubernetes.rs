//! Kubernetes objects as JSON: `kubectl get … -o json`, `kubectl create --dry-run=client -o json`,
//! several behind each other.
//!
//! Source: Kubernetes API, `PodSpec`. Whatever has a `spec` with containers counts, whatever its
//! kind is and wherever it is nested: pods, lists, everything with a pod template.

use super::json::{Key, mention, walk};
use super::{Found, Lines, SourceError};

/// The lists of a pod's specification that hold containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Reads objects.
///
/// # Errors
/// It is no JSON.
pub fn read(text: &str) -> Result<Found, SourceError> {
    let lines = Lines::of(text);
    let mut found = Found::default();
    walk(text, names_image, |path, value| {
        if names_image(path) {
            mention(&mut found, &lines, &value, 0);
        }
    })?;
    Ok(found)
}

fn names_image(path: &[Key]) -> bool {
    match path {
        [.., spec, list, Key::Index(_), image] if spec.is("spec") && image.is("image") => {
            CONTAINERS.iter().any(|name| list.is(name))
        }
        [.., spec, volumes, Key::Index(_), image, reference] => {
            spec.is("spec")
                && volumes.is("volumes")
                && image.is("image")
                && reference.is("reference")
        }
        _ => false,
    }
}
