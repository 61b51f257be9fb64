//! Two images of one platform: layers, config, and what they say of themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{Config, is_config};
use super::findings::{Findings, Kind};
use super::layers::LayerChange;
use super::read::{ORIGIN, Read};
use super::{Case, Few, Severity, Triage, judge};
use crate::oci::Digest;
use crate::printable::Shown;

/// A value that changed, came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FieldChange {
    /// What it is called.
    pub name: Shown,
    /// What it was.
    pub before: Option<Shown>,
    /// What it is.
    pub after: Option<Shown>,
}

/// What an image says of its origin, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OriginChange {
    /// `annotation`, of the manifest; or `label`, in the config.
    pub place: Shown,
    /// What changed.
    #[serde(flatten)]
    pub field: FieldChange,
}

/// How a config changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigChange {
    /// What decides how a container runs.
    pub run: Vec<FieldChange>,
    /// New names in the environment. No value is shown, nor a hash of one: a value may be a
    /// secret, and a short one is soon guessed from its hash.
    pub env_added: Few<Shown>,
    /// Names that are gone.
    pub env_removed: Few<Shown>,
    /// Names that have another value.
    pub env_changed: Few<Shown>,
    /// Labels, but for those that tell of the origin.
    pub labels: Few<FieldChange>,
    /// When it says it was built.
    pub created: Option<FieldChange>,
}

/// How the image of a platform changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageChange {
    /// The platform; `None` for a tag that is a single image.
    pub platform: Option<Shown>,
    /// Its manifest's digest before.
    pub before: Digest,
    /// Its manifest's digest now.
    pub after: Digest,
    /// Its manifest's media type, if that changed.
    pub media_type: Option<FieldChange>,
    /// Its layers.
    pub layers: LayerChange,
    /// Whether its config is the same, by its digest.
    pub is_same_config: bool,
    /// Its config; `None` if it is the same, or was not looked at.
    pub config: Option<ConfigChange>,
    /// What it says of its origin, where that differs.
    pub origin: Vec<OriginChange>,
}

impl FieldChange {
    /// The change from one value to another; `None` if there is none.
    pub(super) fn between(name: &str, before: Option<&str>, after: Option<&str>) -> Option<Self> {
        let [old, new] = [before, after].map(|value| value.map(Shown::new));
        (before != after).then(|| Self { name: Shown::new(name), before: old, after: new })
    }
}

/// Compares two images.
pub(super) fn compare(
    platform: Option<&Shown>,
    [before, after]: [&Read; 2],
    case: &Case<'_>,
    triage: &mut Triage,
    findings: &mut Findings,
) {
    let (old, new) = (&before.manifest, &after.manifest);
    let is_same_config =
        old.config.as_ref().map(|it| it.digest) == new.config.as_ref().map(|it| it.digest);
    let (old_type, new_type) = (old.media_type.as_str(), new.media_type.as_str());
    let mut change = ImageChange {
        platform: platform.cloned(),
        before: before.digest,
        after: after.digest,
        media_type: FieldChange::between("media type", Some(old_type), Some(new_type)),
        layers: LayerChange::between(old, new),
        is_same_config,
        config: None,
        origin: Vec::new(),
    };
    origin(platform, [before, after], case.now_ms, &mut change.origin, findings);
    let configs = [old, new]
        .map(|manifest| manifest.config.as_ref().and_then(|config| case.material.config(config)));
    if let [Some(old), Some(new)] = &configs
        && !is_same_config
    {
        compare_configs([old, new], &mut change);
        let labels = [&old.labels, &new.labels];
        let place = "label";
        origin_of(place, |name| labels.map(|all| all.get(name)), &mut change.origin);
        judge::configs(platform, [old, new], &change, case.now_ms, findings);
    } else if !is_same_config {
        let is_image = [old, new].iter().all(|manifest| {
            manifest.config.as_ref().is_some_and(|config| is_config(&config.media_type))
        });
        let why = if is_image { "was not looked at" } else { "is none of an image" };
        findings.add_in(
            platform,
            Severity::Medium,
            Kind::Other,
            format!("the config is another, and {why}"),
        );
        let name = platform.map_or("the image", Shown::as_str);
        triage.unseen.push(format!("{name}: its config {why}"));
    }
    judge::image(platform, &change, findings);
    triage.images.push(change);
}

/// What two manifests say of their origin in annotations, where that differs.
pub(super) fn origin(
    platform: Option<&Shown>,
    [before, after]: [&Read; 2],
    now_ms: u64,
    to: &mut Vec<OriginChange>,
    findings: &mut Findings,
) {
    let both = [&before.annotations, &after.annotations];
    origin_of("annotation", |name| both.map(|all| all.get(name)), to);
    judge::origin(platform, to, now_ms, findings);
}

fn origin_of<'a>(
    place: &str,
    values: impl Fn(&str) -> [Option<&'a String>; 2],
    to: &mut Vec<OriginChange>,
) {
    for name in ORIGIN {
        let [before, after] = values(name).map(|value| value.map(String::as_str));
        let field = FieldChange::between(name, before, after);
        to.extend(field.map(|field| OriginChange { place: Shown::new(place), field }));
    }
}

fn compare_configs([old, new]: [&Config; 2], change: &mut ImageChange) {
    change.layers.claims_same_content =
        !change.layers.is_same() && !old.diff_ids.is_empty() && old.diff_ids == new.diff_ids;
    let run = super::config::RUN.into_iter().filter_map(|name| {
        let [before, after] = [old, new].map(|config| config.run.get(name).map(String::as_str));
        FieldChange::between(name, before, after)
    });
    let names = |from: &BTreeMap<String, String>, matching: &dyn Fn(&str, &str) -> bool| {
        let matching = from.iter().filter(|(name, value)| matching(name, value));
        matching.map(|(name, _)| Shown::new(name)).collect::<Few<_>>()
    };
    let labels =
        old.labels.keys().chain(new.labels.keys().filter(|it| !old.labels.contains_key(*it)));
    let labels = labels.filter(|name| !ORIGIN.contains(&name.as_str())).filter_map(|name| {
        let [before, after] = [old, new].map(|config| config.labels.get(name).map(String::as_str));
        FieldChange::between(name, before, after)
    });
    change.config = Some(ConfigChange {
        run: run.collect(),
        env_added: names(&new.env, &|name, _| !old.env.contains_key(name)),
        env_removed: names(&old.env, &|name, _| !new.env.contains_key(name)),
        env_changed: names(&new.env, &|name, value| {
            old.env.get(name).is_some_and(|before| before != value)
        }),
        labels: labels.collect(),
        created: FieldChange::between("created", old.created.as_deref(), new.created.as_deref()),
    });
}
