//! Policy, pure: which tags are immutable, and what an observation means for one.

pub mod matcher;
pub mod rule;

pub use rule::{Decision, Policy, Reaction, Rule};
