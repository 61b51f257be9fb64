//! Which tags a rule decides for.

use crate::pin::PinKey;

/// The conditions of a rule; all must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {}

impl Matcher {
    /// Whether the rule decides for `key`.
    pub fn matches(&self, _key: &PinKey) -> bool {
        true
    }
}
