//! Files as they are written, and as they must not be.
