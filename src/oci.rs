//! The vocabulary of the OCI specifications, pure: no I/O, no async, no clock.
//!
//! Everything here is parsed strictly from hostile bytes, and printing what was parsed gives the
//! bytes back.

pub mod descriptor;
pub mod digest;
pub mod error_code;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod range;
pub mod reference;
mod text;

pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, ComputedDigest, Digest, Hasher};
pub use error_code::{Envelope, ErrorCode};
pub use manifest::{CANONICAL_ACCEPT, MANIFEST_LIMIT, Manifest, ManifestError, ManifestKind};
pub use media_type::{Accept, MediaType, Representation};
pub use name::{NameError, Registry, Repository, Tag};
pub use range::RangeRequest;
pub use reference::{ManifestReference, Reference, ReferenceError};
