//! The tags of the history, what they may point to, and the rules over them.

use super::checker::Move;
use super::random::Random;
use super::{REGISTRY, now};
use crate::support::content::{Image, Index};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

/// A tag's name begins with the rule that it has.
const RULES: &str = r#"
[[rule]]
tag = { glob = "alert-*" }
on-conflict = "alert"
recheck = "0s"
[[rule]]
tag = { glob = "block-*" }
on-conflict = "block"
recheck = "0s"
[[rule]]
tag = { glob = "follow-*" }
on-conflict = "hold"
accept-after = "1s"
recheck = "100ms"
[[rule]]
tag = { glob = "grow-*" }
on-conflict = "hold"
settle = "1h"
recheck = "0s"
[[rule]]
on-conflict = "hold"
recheck = "2s"
"#;

const KINDS: [&str; 5] = ["alert", "block", "follow", "grow", "hold"];

/// How many different things a tag may point to.
const VARIANTS: usize = 4;

/// So many tags are played with from the beginning to the end.
const LASTING: usize = 10;

/// So many more are new at a time: others take their place, so that there are first sights.
const PASSING: usize = 10;

/// After so many steps of one player one more is new.
const STEPS_OF_A_TAG: u64 = 20;

/// A registry and immutag in front of it.
pub(super) struct Stage {
    pub(super) registry: ScriptedRegistry,
    pub(super) immutag: Immutag,
    pub(super) images: Images,
}

/// All tags, and the digests that each may point to.
pub(super) struct Images {
    tags: Vec<Tag>,
    begun: u64,
}

/// One tag.
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) digests: Vec<String>,
}

impl Stage {
    /// With so many tags: a history that is too long for them goes on with the last.
    pub(super) fn new(tags: usize) -> Self {
        let registry = ScriptedRegistry::start();
        let begun = now();
        let tags = (0..tags).map(|number| Tag::put(&registry, number)).collect();
        let immutag = Setup::new().upstream(REGISTRY, &registry.url()).rules(RULES).start();
        Self { registry, immutag, images: Images { tags, begun } }
    }
}

impl Images {
    /// A tag to play with at this step: one of the lasting ones, or one of those that are new.
    pub(super) fn pick(&self, random: &mut Random, step: u64) -> &Tag {
        if random.is_in(70) {
            return random.one_of(&self.tags[..LASTING]);
        }
        let most = self.tags.len() - PASSING;
        let passed = usize::try_from(step / STEPS_OF_A_TAG).unwrap_or(most);
        let from = (LASTING + passed).min(most);
        random.one_of(&self.tags[from..from + PASSING])
    }

    /// Where the tags pointed from the beginning on.
    pub(super) fn first_moves(&self) -> impl Iterator<Item = Move> {
        let first = |tag: &Tag| Move {
            tag: tag.name.clone(),
            digest: tag.digests[0].clone(),
            at: self.begun,
        };
        self.tags.iter().map(first)
    }
}

impl Tag {
    /// Puts there what it may point to, and points it to the first.
    fn put(registry: &ScriptedRegistry, number: usize) -> Self {
        let kind = KINDS[number % KINDS.len()];
        let name = format!("{kind}-{number}");
        let digests = (0..VARIANTS).map(|variant| put(registry, kind, &name, variant)).collect();
        let tag = Self { name, digests };
        registry.retag("app", &tag.name, &tag.digests[0]);
        tag
    }
}

/// Puts a variant of a tag there; one that may grow is an index with ever more platforms.
fn put(registry: &ScriptedRegistry, kind: &str, name: &str, variant: usize) -> String {
    if kind == "grow" && variant + 1 < VARIANTS {
        let index = Index::new(name, &["amd64", "arm64", "riscv64"][..=variant]);
        registry.put_index("app", &index);
        index.digest().to_owned()
    } else {
        let image = Image::new(&format!("{name} {variant}"));
        registry.put_image("app", &image);
        image.digest().to_owned()
    }
}
