//! Policy, pure: which tags are immutable, and what an observation means for one.

pub mod judge;
pub mod matcher;
pub mod rule;

pub use judge::{Judgement, Serve, Sight, Verdict, judge};
pub use rule::{Decision, Policy, Reaction, Rule};
