//! Sizes with their unit.
