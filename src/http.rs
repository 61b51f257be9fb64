//! The registry listeners: HTTP in, the pull path, HTTP out.

pub mod answer;
pub mod body;
mod handle;
mod links;
pub mod listener;
pub mod route;
pub mod tombstone;

pub use handle::Registry;
