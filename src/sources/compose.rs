//! Compose projects, as `docker compose config --format json` writes them.
//!
//! Source: Compose specification, "services": `image`, `build`, `platform`, `volumes` of the type
//! `image`; Compose build specification, "`additional_contexts`".

use std::collections::BTreeMap;

use super::json::{Key, Value, mention, walk};
use super::{Found, Lines, SourceError};

/// How a build context names an image.
const IMAGE_SCHEME: &str = "docker-image://";

/// Reads a project. A service that is built has no image of its own, whatever it is called: the
/// images behind it are in its Dockerfile.
///
/// # Errors
/// It is no JSON, or has no services.
pub fn read(text: &str) -> Result<Found, SourceError> {
    let lines = Lines::of(text);
    let mut project = Project::default();
    walk(text, wants, |path, value| project.take(path, value))?;
    if !project.has_services {
        return Err(SourceError::Malformed("it has no services".to_owned()));
    }
    Ok(project.found(&lines))
}

#[derive(Default)]
struct Project {
    has_services: bool,
    /// By where it begins: a name that comes twice is two services here.
    services: BTreeMap<usize, Service>,
    contexts: Vec<(Value, usize)>,
}

#[derive(Default)]
struct Service {
    name: String,
    images: Vec<Value>,
    is_built: bool,
    platform: Option<String>,
    volumes: BTreeMap<usize, Volume>,
}

#[derive(Default)]
struct Volume {
    is_image: bool,
    source: Option<Value>,
}

/// What of a service is looked at.
fn wants(path: &[Key]) -> bool {
    let [services, Key::Name(_), rest @ ..] = path else { return false };
    services.is("services")
        && match rest {
            [key] => key.is("image") || key.is("platform"),
            [volumes, Key::Index(_), key] => {
                volumes.is("volumes") && (key.is("type") || key.is("source"))
            }
            [build, contexts, _] => build.is("build") && contexts.is("additional_contexts"),
            _ => false,
        }
}

impl Project {
    fn take(&mut self, path: &[Key], value: Value) {
        match path {
            [services] if services.is("services") => self.has_services = value.is_object,
            [services, Key::Name(name)] if services.is("services") => {
                let service = Service { name: name.clone(), ..Service::default() };
                self.services.insert(value.at, service);
            }
            [services, Key::Name(_), rest @ ..] if services.is("services") => {
                self.take_part(rest, value);
            }
            _ => {}
        }
    }

    /// A part of the service that was begun last.
    fn take_part(&mut self, path: &[Key], value: Value) {
        let Some(mut service) = self.services.last_entry() else { return };
        let service = service.get_mut();
        match path {
            [key] if key.is("build") => service.is_built = true,
            [key] if key.is("image") => service.images.push(value),
            [key] if key.is("platform") => service.platform = value.text,
            [volumes, Key::Index(index), key] if volumes.is("volumes") => {
                let volume = service.volumes.entry(*index).or_default();
                if key.is("type") {
                    volume.is_image = value.text.as_deref() == Some("image");
                } else if key.is("source") {
                    volume.source = Some(value);
                }
            }
            [build, contexts, key] if build.is("build") && contexts.is("additional_contexts") => {
                let text = value.text.as_deref().unwrap_or_default();
                // A list has `name=docker-image://…`.
                let at = match key {
                    Key::Index(_) => text.find('=').map_or(0, |at| at + 1),
                    Key::Name(_) => 0,
                };
                if text.get(at..).is_some_and(|text| text.starts_with(IMAGE_SCHEME)) {
                    self.contexts.push((value, at + IMAGE_SCHEME.len()));
                }
            }
            _ => {}
        }
    }

    fn found(self, lines: &Lines<'_>) -> Found {
        let mut found = Found::default();
        for (at, service) in self.services {
            let (line, _) = lines.place(at);
            let why = match (service.is_built, service.images.is_empty()) {
                (true, true) => Some("the service names no image: it is built"),
                (true, false) => Some("the service is built: its image is what it is called then"),
                (false, true) => Some("the service names no image"),
                (false, false) => None,
            };
            if let Some(why) = why {
                found.skip(line, &service.name, why);
            } else {
                for image in &service.images {
                    let before = found.mentions.len();
                    mention(&mut found, lines, image, 0);
                    for mention in &mut found.mentions[before..] {
                        mention.platform.clone_from(&service.platform);
                    }
                }
            }
            let volumes = service.volumes.into_values().filter(|volume| volume.is_image);
            for source in volumes.filter_map(|volume| volume.source) {
                mention(&mut found, lines, &source, 0);
            }
        }
        for (context, skip) in &self.contexts {
            mention(&mut found, lines, context, *skip);
        }
        found.mentions.sort_by_key(|mention| (mention.line, mention.column));
        found
    }
}
