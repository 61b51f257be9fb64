//! The upstream moves the tag.
