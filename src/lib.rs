//! immutag: tags that stay what they were.

pub mod clock;
pub mod config;
pub mod event;
pub mod ledger;
pub mod oci;
pub mod pin;
pub mod policy;
pub mod secret;
pub mod units;
pub mod upstream;
