//! Start, wait, drain.

mod heads;

use std::fmt::Display;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::heads::{tell, tell_heads};
use crate::app::{App, StartError};
use crate::banner;
use crate::clock::SystemClock;
use crate::config::Config;

/// Runs until SIGTERM or SIGINT, then drains; a second signal ends at once. SIGHUP reads the
/// configuration again with `reload`: one with problems changes nothing.
///
/// Returns whether everything ended by itself within the configured time.
pub async fn serve<E: Display>(
    config: Config,
    accept_rollback: bool,
    reload: impl Fn() -> Result<Config, E>,
) -> Result<bool, StartError> {
    raise_file_limit();
    let mut signals = Signals::new();
    let app = App::start(&config, accept_rollback, SystemClock::shared()).await?;
    banner::show(&config, &app);
    let telling = tokio::spawn(tell_heads(Arc::clone(&app.ledger)));
    let ledger = Arc::clone(&app.ledger);
    while let Wanted::Reload = signals.next().await {
        match reload() {
            Ok(config) => take(&app, &config),
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it was");
                app.reload_certificates(&[]);
            }
        }
    }
    tracing::info!(grace_ms = config.drain.as_millis(), "draining");
    telling.abort();
    tokio::select! {
        is_clean = app.drain(config.drain) => {
            tell(&ledger.status());
            tracing::info!(is_clean, "stopped");
            Ok(is_clean)
        }
        () = signals.stopped() => {
            tracing::warn!("a second signal: stopped without waiting");
            Ok(false)
        }
    }
}

fn take(app: &App, config: &Config) {
    match app.reload(config) {
        Ok(()) => tracing::info!(
            rules = config.policy.rules.len(),
            "rules, upstreams, webhooks, stale-if-error, retain, retain-idle, offline, \
             audit.interval and certificates were read again; the rest needs a restart"
        ),
        Err(error) => tracing::error!(%error, "the configuration stays as it was"),
    }
}

/// As many open files as the system lets this process have: connections, blobs, upstreams.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

enum Wanted {
    Reload,
    Stop,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Self {
        let on = |kind| signal(kind).expect("these signals can be caught");
        Self {
            hangup: on(SignalKind::hangup()),
            interrupt: on(SignalKind::interrupt()),
            terminate: on(SignalKind::terminate()),
        }
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.hangup.recv() => Wanted::Reload,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.terminate.recv() => Wanted::Stop,
        }
    }

    async fn stopped(&mut self) {
        while !matches!(self.next().await, Wanted::Stop) {}
    }
}
