//! Lists as they are, and as they must not be.
