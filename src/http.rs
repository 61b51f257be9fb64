//! The registry listeners: HTTP in, the pull path, HTTP out.

pub mod answer;
pub mod body;
mod handle;
mod head;
mod links;
pub mod listener;
pub mod route;
pub mod tls;
pub mod tombstone;

pub use handle::{Noting, Registry};
