//! The platforms of two indexes, and which of their images are looked into.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::findings::{Findings, Kind};
use super::material::Material;
use super::read::Read;
use super::{Case, Few, PLATFORMS_LOOKED_INTO, Severity, Triage, image};
use crate::oci::{Descriptor, Digest, Manifest, Platform};
use crate::printable::Shown;

/// How the platforms of an index changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlatformChange {
    /// New ones.
    pub gained: Few<Shown>,
    /// Those that are gone.
    pub lost: Few<Shown>,
    /// Those whose image is another.
    pub changed: Few<Shown>,
    /// How many have the same image.
    pub same: usize,
    /// Whether those that stayed stand in another order.
    pub is_reordered: bool,
    /// How many attestations were listed, and how many are.
    pub attestations: [usize; 2],
    /// How many of these are the same.
    pub same_attestations: usize,
}

/// The images of one platform, before and after.
pub(super) struct Pair<'a> {
    pub(super) platform: Option<Shown>,
    pub(super) before: Half<'a>,
    pub(super) after: Half<'a>,
}

/// One of them: the tag's own manifest, or one that the index lists.
#[derive(Clone, Copy)]
pub(super) enum Half<'a> {
    Root(&'a Read),
    Child(&'a Descriptor),
}

/// A manifest that was read before, or just now.
pub(super) enum Found<'a> {
    Before(&'a Read),
    Now(Box<Read>),
}

impl<'a> Half<'a> {
    /// The manifest, if it is at hand.
    pub(super) fn read(self, material: &Material) -> Option<Found<'a>> {
        match self {
            Self::Root(read) => Some(Found::Before(read)),
            Self::Child(child) => material.manifest(child).map(|read| Found::Now(Box::new(read))),
        }
    }
}

impl Found<'_> {
    pub(super) fn get(&self) -> &Read {
        match self {
            Self::Before(read) => read,
            Self::Now(read) => read,
        }
    }
}

/// A platform, and how many of the same stand before it in the index.
type Place<'a> = (Option<&'a Platform>, usize);

/// An index, by platform; what no client runs stands apart.
struct Listed<'a> {
    places: Vec<Place<'a>>,
    children: HashMap<Place<'a>, &'a Descriptor>,
    attestations: HashSet<Digest>,
}

impl<'a> Listed<'a> {
    fn of(index: &'a Manifest) -> Self {
        let (mut places, mut children) = (Vec::new(), HashMap::new());
        let (mut attestations, mut counts) = (HashSet::new(), HashMap::new());
        for child in &index.children {
            let platform = child.platform.as_ref();
            // The mark alone is only a claim: on a platform's image it hides nothing.
            if child.is_attestation && platform.is_some_and(Platform::is_unknown) {
                attestations.insert(child.digest);
                continue;
            }
            let count = counts.entry(platform).or_insert(0);
            let place = (platform, *count);
            *count += 1;
            places.push(place);
            children.insert(place, child);
        }
        Self { places, children, attestations }
    }
}

/// Compares what two manifests list, and the images of a few platforms.
pub(super) fn compare(
    before: &Read,
    after: &Read,
    case: &Case<'_>,
    triage: &mut Triage,
    findings: &mut Findings,
) {
    match (before.manifest.kind.is_index(), after.manifest.kind.is_index()) {
        (true, true) => {
            let change = between(&before.manifest, &after.manifest);
            image::origin(None, [before, after], case.now_ms, &mut triage.origin, findings);
            tell(&change, findings);
            triage.platforms = Some(change);
        }
        (true, false) => {
            let words = "an index became a single image: other platforms are lost";
            findings.add(Severity::High, Kind::Other, words);
        }
        (false, true) => {
            let words = "a single image became an index";
            findings.add(Severity::Medium, Kind::Other, words);
        }
        (false, false) => {}
    }
    let pairs = looked_into(before, after);
    for pair in &pairs {
        let both = [pair.before, pair.after].map(|half| half.read(case.material));
        let platform = pair.platform.as_ref();
        if let [Some(old), Some(new)] = &both {
            image::compare(platform, [old.get(), new.get()], case, triage, findings);
        } else {
            let name = platform.map_or("the image", Shown::as_str);
            triage.unseen.push(format!("{name}: its manifests were not at hand"));
            let words = "the image is another, and was not looked into";
            findings.add_in(platform, Severity::Medium, Kind::Other, words);
        }
    }
    let changed = triage.platforms.as_ref().map_or(0, |change| change.changed.count());
    let rest = changed.saturating_sub(pairs.len());
    if rest > 0 {
        triage.unseen.push(format!("{rest} more platforms that changed: only a few are opened"));
    }
}

fn tell(change: &PlatformChange, findings: &mut Findings) {
    let PlatformChange { gained, lost, changed, .. } = change;
    let [before, after] = change.attestations;
    let has_other = change.same_attestations != before || before != after;
    if !changed.is_empty() {
        let words = format!("other images for {changed}");
        findings.add(Severity::Medium, Kind::Other, words);
    }
    if !lost.is_empty() {
        findings.add(Severity::Medium, Kind::Other, format!("platforms are lost: {lost}"));
    }
    if !gained.is_empty() {
        findings.add(Severity::Medium, Kind::Other, format!("new platforms: {gained}"));
    }
    if change.is_reordered {
        let words = "the platforms stand in another order: a client may take another image";
        findings.add(Severity::Medium, Kind::Other, words);
    }
    if before > 0 && after == 0 && !changed.is_empty() {
        let words = "the index listed attestations of how it was built, and lists none now";
        findings.add(Severity::High, Kind::Vouching, words);
    } else if has_other {
        let is_all = changed.is_empty() && lost.is_empty() && gained.is_empty();
        let only = if is_all && !change.is_reordered { "only " } else { "" };
        let words =
            format!("{only}attestations in the index changed: {before} before, {after} now");
        findings.add(Severity::Low, Kind::Vouching, words);
    }
}

fn between(before: &Manifest, after: &Manifest) -> PlatformChange {
    let (old, new) = (Listed::of(before), Listed::of(after));
    let is_here = |all: &Listed<'_>, place| all.children.contains_key(place);
    let stays: Vec<_> = old.places.iter().filter(|place| is_here(&new, place)).collect();
    let name = |place: &Place<'_>| name_of(place.0);
    PlatformChange {
        gained: new.places.iter().filter(|it| !is_here(&old, it)).map(name).collect(),
        lost: old.places.iter().filter(|it| !is_here(&new, it)).map(name).collect(),
        changed: changed(&old, &new).map(|(place, _, _)| name_of(place.0)).collect(),
        same: stays.len() - changed(&old, &new).count(),
        is_reordered: !new.places.iter().filter(|it| is_here(&old, it)).eq(stays),
        attestations: [old.attestations.len(), new.attestations.len()],
        same_attestations: old.attestations.intersection(&new.attestations).count(),
    }
}

/// The places that list another manifest now, or call it something else.
fn changed<'l, 'a>(
    old: &'l Listed<'a>,
    new: &'l Listed<'a>,
) -> impl Iterator<Item = (Place<'a>, &'a Descriptor, &'a Descriptor)> {
    old.places.iter().filter_map(|place| {
        let (before, after) = (*old.children.get(place)?, *new.children.get(place)?);
        let is_same = before.digest == after.digest && before.media_type == after.media_type;
        (!is_same).then_some((*place, before, after))
    })
}

/// The images to look into: of indexes those of the platforms that changed, what most clients run
/// first; of an index and an image, what a client that reads no index would get.
pub(super) fn looked_into<'a>(before: &'a Read, after: &'a Read) -> Vec<Pair<'a>> {
    let of_index = |read: &'a Read| {
        let manifest = &read.manifest;
        let child = manifest.child("linux", "amd64").or_else(|| manifest.children.first());
        child.map(Half::Child)
    };
    let half = |read: &'a Read| {
        if read.manifest.kind.is_index() { of_index(read) } else { Some(Half::Root(read)) }
    };
    if before.manifest.kind.is_index() && after.manifest.kind.is_index() {
        let (old, new) = (Listed::of(&before.manifest), Listed::of(&after.manifest));
        let mut all: Vec<_> = changed(&old, &new).collect();
        all.sort_by_key(|(place, ..)| rank(place.0));
        all.truncate(PLATFORMS_LOOKED_INTO);
        let pair = |(place, before, after): (Place<'a>, _, _)| Pair {
            platform: Some(name_of(place.0)),
            before: Half::Child(before),
            after: Half::Child(after),
        };
        return all.into_iter().map(pair).collect();
    }
    let pair = |(before, after)| Pair { platform: None, before, after };
    half(before).zip(half(after)).map(pair).into_iter().collect()
}

fn rank(platform: Option<&Platform>) -> usize {
    let common = [("linux", "amd64"), ("linux", "arm64")];
    let is = |(os, architecture): &(&str, &str)| {
        platform.is_some_and(|it| it.os == *os && it.architecture == *architecture)
    };
    common.iter().position(is).unwrap_or(common.len())
}

fn name_of(platform: Option<&Platform>) -> Shown {
    let Some(it) = platform else { return Shown::new("an entry without a platform") };
    let mut name = format!("{}/{}", it.os, it.architecture);
    if !it.variant.is_empty() {
        name = format!("{name}/{}", it.variant);
    }
    if !it.os_version.is_empty() {
        name = format!("{name} ({})", it.os_version);
    }
    Shown::new(&name)
}
