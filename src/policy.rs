//! Policy, pure: which tags are immutable, and what an observation means for one.

pub mod builtin;
pub mod explain;
pub mod judge;
pub mod matcher;
pub mod pattern;
pub mod pending;
pub mod rule;
pub mod tag_form;
pub mod tag_matcher;

pub use judge::{Judgement, Serve, Sight, Verdict, judge};
pub use rule::{Decision, Policy, Reaction, Rule};
