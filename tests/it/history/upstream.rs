//! The upstream: it moves tags, deletes them, and fails now and then.

use std::sync::atomic::{AtomicBool, Ordering};

use super::checker::Move;
use super::random::Random;
use super::stage::Images;
use super::{now, pause};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::registry::ScriptedRegistry;
use crate::support::server::Ending;

/// What moves the upstream's tags.
pub(super) struct Upstream<'a> {
    pub(super) registry: &'a ScriptedRegistry,
    pub(super) images: &'a Images,
    pub(super) is_over: &'a AtomicBool,
}

impl Upstream<'_> {
    /// Moves tags until it is over.
    pub(super) fn play(&self, random: &mut Random) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut gate = Gate::closed();
        for step in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                break;
            }
            let tag = self.images.pick(random, step);
            match random.below(100) {
                0..82 => {
                    let digest = random.one_of(&tag.digests).clone();
                    moves.push(Move { tag: tag.name.clone(), digest: digest.clone(), at: now() });
                    self.registry.retag("app", &tag.name, &digest);
                }
                82..88 => self.registry.delete_tag("app", &tag.name),
                _ => self.fail(random, &tag.name, &gate),
            }
            pause(random, 5, 40, self.is_over);
            // Whom the step before held up goes on.
            gate.open();
            gate = Gate::closed();
            if random.is_in(20) {
                self.registry.clear_faults();
            }
        }
        gate.open();
        moves
    }

    /// The next few requests go wrong: for this tag, or for all.
    fn fail(&self, random: &mut Random, tag: &str, gate: &Gate) {
        let fault = match random.below(5) {
            0 => Fault::Status(500),
            1 => Fault::Status(503),
            2 => Fault::Cut(20, Ending::Fin),
            3 => Fault::Cut(60, Ending::Reset),
            _ => Fault::Hold(gate.clone()),
        };
        let requests =
            if random.is_in(80) { format!("* manifests/{tag}") } else { "* manifests/".to_owned() };
        let times = usize::try_from(random.between(1, 4)).expect("a small number");
        self.registry.fault_times(&requests, fault, times);
    }
}
