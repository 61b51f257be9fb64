//! immutag: tags that stay what they were.

pub mod admin;
pub mod alert;
pub mod app;
pub mod banner;
pub mod blob;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decide;
pub mod event;
pub mod http;
pub mod ledger;
pub mod metrics;
pub mod notify;
pub mod oci;
pub mod pin;
pub mod policy;
pub mod pull;
pub mod secret;
pub mod serve;
pub mod telemetry;
pub mod units;
pub mod upstream;
