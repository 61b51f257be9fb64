//! Logs: text on a terminal, JSON otherwise, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging. The level is `IMMUTAG_LOG`'s, in `tracing`'s filter syntax; `info` without it.
///
/// Only the first call in a process has an effect.
pub fn start() {
    let filter = EnvFilter::try_from_env("IMMUTAG_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sled=warn,rustls=warn,hyper=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    // Already set: a second App in one process, as in tests.
    let _ = if std::io::stderr().is_terminal() {
        builder.with_ansi(true).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
}
