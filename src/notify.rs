//! Telling others: what a message says, its forms and signature, and the client that sends it.
//!
//! A receiver is hostile: it is reached through the address guard of upstreams, gets one bounded
//! request on a connection of its own, and what it answers is a status and perhaps a
//! `Retry-After`, nothing else. Redirects are not followed. Its URL may be a password and stands
//! in no message.

mod client;
mod cloud_event;
mod fault;
mod notice;
mod sign;
mod slack;

pub use client::{Notifier, Webhook, WebhookSetupError};
pub use cloud_event::time;
pub use fault::DeliveryFault;
pub use notice::{Command, Head, Notice, Pulled, Puller, Repeats};

#[cfg(test)]
mod tests;
