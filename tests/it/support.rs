//! The stage on which the tests play: registries, token servers, clients, and immutag itself.
//!
//! All of it is synchronous and runs on threads of its own, so a test may block, use plain
//! `#[test]`, and start real programs. Nothing here sleeps for luck: see [`wait::eventually`].

pub(crate) mod apart;
pub(crate) mod clients;
pub(crate) mod containerd;
pub(crate) mod content;
pub(crate) mod dns;
pub(crate) mod docker;
pub(crate) mod docker_registry;
pub(crate) mod fault;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod immutag;
pub(crate) mod in_process;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod registry;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod strace;
pub(crate) mod tcp_proxy;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod vast;
pub(crate) mod wait;
pub(crate) mod wire;
