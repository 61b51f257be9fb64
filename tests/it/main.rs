//! The integration tests: the real binary, real clients, real and scripted registries.
//!
//! Everything is on 127.0.0.1 or in a network of the test's own, and nothing needs a network. One binary, so that linking happens
//! once; `support` is the stage, each other module is one subject.

mod again;
mod alerts;
mod astray;
mod attack;
mod audit;
mod backup;
mod broken;
mod cache;
mod check;
mod cli;
mod clocks;
mod closed;
mod content;
mod crash;
mod doctor;
mod durable;
mod export;
mod gate;
mod history;
mod http;
mod import;
mod incident;
mod jobs;
mod keeps;
mod ledger;
mod live;
mod lock;
mod locked;
mod network;
mod packaging;
mod private;
mod pulls;
mod reactions;
mod real_clients;
mod report;
mod round;
mod setup;
mod sidecar;
mod strain;
mod support;
mod support_works;
mod tls;
mod triage;
mod tripwire;
mod whole;
