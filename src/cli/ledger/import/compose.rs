//! `docker compose config --format json`, best with `--resolve-image-digests`.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::bail;
use serde::Deserialize;

use super::bounded::document;
use super::gather::Gather;

/// The most services of a project.
const SERVICES: usize = 10_000;

#[derive(Deserialize)]
struct Project {
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    image: Option<String>,
}

/// Reads a project; a tag's place is the number of its service, in the order of their names.
pub(super) fn read(input: impl Read) -> anyhow::Result<Gather> {
    let Project { services } = document(input)?;
    if services.len() > SERVICES {
        bail!("the project has more than {SERVICES} services");
    }
    let mut gather = Gather::default();
    for (place, (name, service)) in (1..).zip(&services) {
        match &service.image {
            Some(image) => gather.reference(image, place)?,
            None => gather.skip(place, name, "the service names no image: it is built"),
        }
    }
    Ok(gather)
}
