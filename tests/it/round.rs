//! Nobody gets round it: Debian's clients, with the real registry within their reach.
//!
//! Each test has a network of its own, in which `docker.io` is Debian's registry behind TLS. A
//! client that falls back gets there, and gets what the tag was moved to.

mod client;
mod control;
mod copies;
mod faults;
mod holes;
mod matrix;
mod settings;
mod stage;
mod trouble;
