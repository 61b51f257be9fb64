//! The integration tests: the real binary, real clients, real and scripted registries.
//!
//! Everything is on 127.0.0.1 or in a network of the test's own, and nothing needs a network. One binary, so that linking happens
//! once; `support` is the stage, each other module is one subject.

mod again;
mod alerts;
mod astray;
mod attack;
mod cache;
mod cli;
mod closed;
mod content;
mod doctor;
mod durable;
mod http;
mod keeps;
mod ledger;
mod live;
mod network;
mod packaging;
mod private;
mod reactions;
mod real_clients;
mod round;
mod setup;
mod strain;
mod support;
mod support_works;
mod tls;
mod tripwire;
mod whole;
